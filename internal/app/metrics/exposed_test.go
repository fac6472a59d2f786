package metrics_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// metric is a metric as it is exposed.
type metric struct {
	kind, help string
	// labels are its labels with all of their values.
	labels map[string][]string
}

// exposed returns the metrics of a process that has called every method of
// Metrics, by name.
func exposed(t *testing.T) map[string]metric {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(expose(t, eventful())))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]metric{}
	for name, family := range families {
		m := metric{kind: strings.ToLower(family.GetType().String()), help: family.GetHelp(), labels: map[string][]string{}}
		for _, series := range family.GetMetric() {
			for _, label := range series.GetLabel() {
				if !slices.Contains(m.labels[label.GetName()], label.GetValue()) {
					m.labels[label.GetName()] = append(m.labels[label.GetName()], label.GetValue())
				}
			}
		}
		all[name] = m
	}
	return all
}

// chosen lists labels whose values Squall does not choose: Prometheus sets
// some, and users name experiments and targets.
var chosen = []string{"job", "namespace", "instance", "experiment", "target", "version", "goversion"}

// asks returns an error if a query does not parse, or selects series that are
// not exposed.
func asks(exposed map[string]metric, query string) error {
	expression, err := parser.NewParser(parser.Options{}).ParseExpr(query)
	if err != nil {
		return fmt.Errorf("%s: %w", query, err)
	}
	known := append([]string{"le"}, chosen...)
	for _, m := range exposed {
		known = append(known, slices.Collect(maps.Keys(m.labels))...)
	}
	parser.Inspect(expression, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.AggregateExpr:
			for _, label := range n.Grouping {
				if !slices.Contains(known, label) {
					err = fmt.Errorf("%s: no metric has the label %s", query, label)
				}
			}
		case *parser.VectorSelector:
			if problem := selects(exposed, n.LabelMatchers); problem != nil {
				err = fmt.Errorf("%s: %w", query, problem)
			}
		}
		return nil
	})
	return err
}

// selects returns an error if matchers select no exposed series.
func selects(exposed map[string]metric, matchers []*labels.Matcher) error {
	name := ""
	for _, m := range matchers {
		if m.Name == model.MetricNameLabel {
			name = m.Value
		}
	}
	m, found := exposed[name]
	for _, suffix := range []string{"_bucket", "_count", "_sum"} {
		if base, cut := strings.CutSuffix(name, suffix); cut && exposed[base].kind == "histogram" {
			m, found = exposed[base], true
		}
	}
	if !found {
		return fmt.Errorf("there is no metric %s", name)
	}
	for _, matcher := range matchers {
		switch values, has := m.labels[matcher.Name]; {
		case matcher.Name == model.MetricNameLabel, matcher.Name == "le":
		case !has && !slices.Contains(chosen[:3], matcher.Name):
			return fmt.Errorf("%s has no label %s", name, matcher.Name)
		case !slices.Contains(chosen, matcher.Name) && !slices.ContainsFunc(values, matcher.Matches):
			return fmt.Errorf("%s never has %s", name, matcher)
		}
	}
	return nil
}

func TestWhatIsNotExposedIsNoticed(t *testing.T) {
	all := exposed(t)
	for query, want := range map[string]string{
		`squall_leader`: "",
		`rate(squall_schedule_lag_seconds_bucket{job="a"}[5m])`: "",
		`sum by (status) (squall_runs_total{verdict="held"})`:   "",
		`sum by (`:                              "parse error",
		`squall_leaders`:                        "no metric squall_leaders",
		`squall_leader_count`:                   "no metric squall_leader_count",
		`squall_leader{pod="a"}`:                "no label pod",
		`squall_runs_total{verdict="hold"}`:     "never has verdict",
		`sum by (state) (squall_runs_total)`:    "the label state",
		`squall_runs_total / on () up{job="a"}`: "no metric up",
	} {
		err := asks(all, query)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v instead of %q", query, err, want)
		}
	}
}
