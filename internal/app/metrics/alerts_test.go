package metrics_test

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"gopkg.in/yaml.v3"
)

const (
	alertsFile     = "../../../deploy/prometheus/alerts.yaml"
	alertTestsFile = "../../../deploy/prometheus/alerts.test.yaml"
)

// alerts reads the alerting rules.
func alerts(t *testing.T) []rulefmt.Rule {
	t.Helper()
	file, errs := rulefmt.ParseFile(alertsFile, false, model.LegacyValidation, parser.NewParser(parser.Options{}))
	for _, err := range errs {
		t.Error(err)
	}
	if len(errs) > 0 || len(file.Groups) != 1 || len(file.Groups[0].Rules) < 10 {
		t.Fatalf("not the alerts: %+v", file)
	}
	return file.Groups[0].Rules
}

// alertTests reads promtool's tests of the alerts, by name.
func alertTests(t *testing.T) map[string]alertTest {
	t.Helper()
	content, err := os.ReadFile(alertTestsFile)
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Tests []alertTest }
	if err := yaml.Unmarshal(content, &file); err != nil {
		t.Fatal(err)
	}
	tests := map[string]alertTest{}
	for _, test := range file.Tests {
		tests[test.Name] = test
	}
	return tests
}

type alertTest struct {
	Name   string
	Series []struct{ Series string } `yaml:"input_series"`
	Checks []struct {
		Samples []struct{ Labels string } `yaml:"exp_samples"`
	} `yaml:"promql_expr_test"`
}

var usedLabel = regexp.MustCompile(`\$labels\.(\w+)`)

func TestAlertsAreWhole(t *testing.T) {
	all, tests := exposed(t), alertTests(t)
	for _, alert := range alerts(t) {
		if err := asks(all, alert.Expr); err != nil {
			t.Errorf("%s: %v", alert.Alert, err)
		}
		if !slices.Contains([]string{"critical", "warning", "info"}, alert.Labels["severity"]) {
			t.Errorf("%s has the severity %q", alert.Alert, alert.Labels["severity"])
		}
		for _, name := range []string{"summary", "description"} {
			if !strings.HasSuffix(alert.Annotations[name], ".") {
				t.Errorf("%s has no sentence as its %s", alert.Alert, name)
			}
		}
		fires, silent := false, false
		for _, check := range tests[alert.Alert].Checks {
			silent = silent || len(check.Samples) == 0
			for _, sample := range check.Samples {
				fires = true
				for _, used := range usedLabel.FindAllStringSubmatch(alert.Annotations["summary"]+alert.Annotations["description"], -1) {
					if !strings.Contains(sample.Labels, ","+used[1]+"=") {
						t.Errorf("%s has no label %s", sample.Labels, used[1])
					}
				}
			}
		}
		if !fires || !silent {
			t.Errorf("no test makes %s fire and be silent", alert.Alert)
		}
	}
}

// The tests of the alerts use only series that Squall exposes.
func TestAlertsAreTestedOnWhatIsExposed(t *testing.T) {
	all, tests := exposed(t), alertTests(t)
	if len(tests["healthy"].Checks) == 0 {
		t.Error("no test says what is healthy")
	}
	for name, test := range tests {
		for _, series := range test.Series {
			if err := asks(all, series.Series); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, check := range test.Checks {
			if name == "healthy" && len(check.Samples) > 0 {
				t.Errorf("healthy, and yet %s fires", check.Samples)
			}
		}
	}
}

// promtool accepts the alerts, and their tests pass.
func TestAlertsFire(t *testing.T) {
	promtool := program(t, "sandbox-promtool")
	for _, args := range [][]string{
		{"check", "rules", "--lint=all", "--lint-fatal", alertsFile},
		{"test", "rules", alertTestsFile},
	} {
		if out, err := exec.CommandContext(t.Context(), promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}
