package metrics_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"github.com/squall-chaos/squall/internal/app/metrics"
	"github.com/squall-chaos/squall/runner/event"
)

var built = flag.Bool("built", false, "fail, rather than skip, when a program that a test needs is not built")

// program returns the path of a program that the Makefile builds.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("../../../bin", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil && *built {
		t.Fatal(err)
	} else if err != nil {
		t.Skipf("bin/%s is not built; `make e2e` builds it and runs this test", name)
	}
	return path
}

var listening = regexp.MustCompile(`msg="Listening on" .*address=(127\.0\.0\.1:\d+)`)

// prometheus starts a real Prometheus that reads the metrics, with the alerts
// as its rules.
func prometheus(t *testing.T, m *metrics.Metrics) promv1.API {
	t.Helper()
	binary, folder := program(t, "sandbox-prometheus"), t.TempDir()
	server := httptest.NewServer(m.Handler())
	t.Cleanup(server.Close)
	rules, err := filepath.Abs(alertsFile)
	if err != nil {
		t.Fatal(err)
	}
	file, log := filepath.Join(folder, "prometheus.yaml"), filepath.Join(folder, "log")
	config := fmt.Sprintf(`global: {scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}
rule_files: [%s]
scrape_configs:
- job_name: squall
  metrics_path: /
  static_configs: [{targets: [%s], labels: {namespace: chaos}}]
`, rules, strings.TrimPrefix(server.URL, "http://"))
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	output, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), binary, "--config.file", file, "--storage.tsdb.path", filepath.Join(folder, "data"), "--web.listen-address", "127.0.0.1:0")
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = output, output, 10*time.Second
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Wait() // the test's context has ended, and with it the process
		_ = output.Close()
	})
	address := ""
	eventually(t, func() error {
		text, err := os.ReadFile(log)
		if found := listening.FindSubmatch(text); found != nil {
			address = string(found[1])
			return nil
		}
		return errors.Join(err, fmt.Errorf("prometheus does not listen: %s", text))
	})
	client, err := api.NewClient(api.Config{Address: "http://" + address})
	if err != nil {
		t.Fatal(err)
	}
	return promv1.NewAPI(client)
}

// eventually retries until try succeeds, and fails the test after a timeout.
func eventually(t *testing.T, try func() error) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Every panel of the dashboard shows data, and every alert is evaluated, on a
// real Prometheus.
func TestPrometheusUnderstands(t *testing.T) {
	m := eventful()
	server := prometheus(t, m)
	for _, p := range loadDashboard(t).Panels {
		for _, target := range p.Targets {
			eventually(t, func() error {
				m.Finished("outage", event.Result{Status: event.StatusCompleted}, time.Minute)
				m.Started("outage", time.Second)
				return hasData(t.Context(), server, query(target.Expr))
			})
		}
	}
	for _, v := range loadDashboard(t).Templating.List[1:] {
		found := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`).FindStringSubmatch(v.Definition)
		if found == nil {
			t.Fatalf("%s is not understood", v.Definition)
		}
		values, _, err := server.LabelValues(t.Context(), found[2], []string{query(found[1])}, time.Time{}, time.Time{})
		if err != nil || len(values) == 0 {
			t.Errorf("$%s has no values: %v", v.Name, err)
		}
	}
	eventually(t, func() error { return evaluated(t.Context(), server, len(alerts(t))) })
}

// hasData returns an error if a query returns no number.
func hasData(ctx context.Context, server promv1.API, query string) error {
	result, warnings, err := server.Query(ctx, query, time.Time{})
	if err != nil || len(warnings) > 0 {
		return errors.Join(err, fmt.Errorf("%s: %q", query, warnings))
	}
	series, ok := result.(model.Vector)
	if !ok || len(series) == 0 {
		return fmt.Errorf("no data: %s", query)
	}
	for _, s := range series {
		if math.IsNaN(float64(s.Value)) {
			return fmt.Errorf("not a number: %s", query)
		}
	}
	return nil
}

// evaluated returns an error if a rule is not healthy.
func evaluated(ctx context.Context, server promv1.API, want int) error {
	rules, err := server.Rules(ctx)
	if err != nil {
		return err
	}
	healthy := 0
	for _, group := range rules.Groups {
		for _, rule := range group.Rules {
			if alert, ok := rule.(promv1.AlertingRule); ok && alert.Health == promv1.RuleHealthGood {
				healthy++
			}
		}
	}
	if healthy != want {
		return fmt.Errorf("%d of %d alerts are healthy: %+v", healthy, want, rules.Groups)
	}
	return nil
}
