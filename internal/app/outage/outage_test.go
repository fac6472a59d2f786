package outage

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/experiments/files"
	"github.com/squall-chaos/squall/internal/promql"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner/event"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// The output of --print loads to the experiment that inject runs.
func TestInjectPrintsWhatItRuns(t *testing.T) {
	for _, test := range []struct {
		kind   Kind
		outage Outage
	}{
		{Abort, Outage{For: time.Minute, Percentage: 100}},
		{Abort, Outage{For: 90 * time.Second, Percentage: 0.5, GRPCStatus: "INTERNAL", From: []string{"shop", "prod/app=a,version=v1"}, Headers: []string{"a=b", "c="}, Port: 80}},
		{Delay, Outage{For: time.Hour, Percentage: 12.5, Delay: 1500 * time.Millisecond, Guards: []string{"up == 1", `a{b="c"} > 0`}}},
		{Blackhole, Outage{For: 200 * time.Millisecond, Percentage: 100, Mode: "drop"}},
	} {
		test.outage.Kind, test.outage.Host = test.kind, "ratings.prod.svc.cluster.local"
		ran, err := test.outage.Experiment()
		if err != nil {
			t.Fatal(err)
		}
		var printed strings.Builder
		if err := experiments.Encode(&printed, ran); err != nil {
			t.Fatal(err)
		}
		loaded, err := files.Load("printed.yaml", strings.NewReader(printed.String()))
		if err != nil {
			t.Fatalf("%v\n%s", err, &printed)
		}
		if diff := cmp.Diff([]experiments.Experiment{ran}, loaded, cmp.AllowUnexported(experiments.Bound{})); diff != "" {
			t.Errorf("%s\n%s", diff, &printed)
		}
	}
}

// A guard that always returns a series would never end the fault.
func TestCheckGuard(t *testing.T) {
	for guard, fine := range map[string]bool{
		"sum(rate(errors_total[1m])) < 5": true,
		"up unless on() down > 0":         true,
		"up":                              false,
		"vector(0) > 1":                   true,
		"1 <":                             false,
	} {
		if err := checkGuard(guard); (err == nil) != fine {
			t.Errorf("%.100s: error %v", guard, err)
		}
	}
}

// A guard is bounded like the queries of files, and refused before it is parsed.
func TestGuardsAreBounded(t *testing.T) {
	for guard, want := range map[string]string{
		strings.Repeat("-", 100_000) + "up > 0": "--guard is 100006 bytes long; Squall takes at most 16384",
		strings.Repeat("-", 10_000) + "up > 0":  "--guard is 10001 levels deep; Squall takes at most 200",
	} {
		if err := checkGuard(guard); err == nil || err.Error() != want {
			t.Errorf("error %v", err)
		}
	}
}

// A simulation tests nothing. It is done unless it left its fault.
func TestDoneInject(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*event.Result)
		done   bool
	}{
		"as asked": {func(*event.Result) {}, true},
		"left": {func(r *event.Result) {
			r.Left = []objects.Left{{Ref: objects.Ref{Kind: "VirtualService", Namespace: "shop", Name: "a"}}}
		}, false},
		"interrupted": {func(r *event.Result) { r.Status = event.StatusInterrupted }, false},
		"no effect":   {func(r *event.Result) { r.Untested, r.Reason = false, "no request was hit" }, false},
	} {
		result := event.Result{Status: event.StatusCompleted, Verdict: steadystate.Inconclusive, Reason: "no hypothesis was tested", Untested: true}
		test.change(&result)
		if got := Done(result); got != test.done {
			t.Errorf("%s: done is %t", name, got)
		}
	}
}

// A guard distinguishes a condition that does not hold from one without data.
func TestGuardQuery(t *testing.T) {
	for guard, want := range map[string]string{
		"sum(rate(errors_total[1m])) < 5":  "count(sum(rate(errors_total[1m])) < 5\n) or 0 * count(sum(rate(errors_total[1m])))",
		"(5 > sum(up)) # a comment":        "count((5 > sum(up)) # a comment\n) or 0 * count(sum(up))",
		"up unless on() down > 0":          "count(up unless on() down > 0\n) or vector(0)",
		"up > 0 and on() sum(down) < 1":    "count(up > 0 and on() sum(down) < 1\n) or vector(0)",
		`errors{a="b",c!~"d|e"} * 2 <= 10`: "count(errors{a=\"b\",c!~\"d|e\"} * 2 <= 10\n) or 0 * count(errors{a=\"b\",c!~\"d|e\"} * 2)",
	} {
		if got := guardQuery(guard); got != want {
			t.Errorf("%s: %s", guard, got)
		}
		if _, err := promql.Parse(guardQuery(guard)); err != nil {
			t.Errorf("%s: %v", guard, err)
		}
	}
}
