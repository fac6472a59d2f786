package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/experiments/files"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner/event"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// The output of --print loads to the experiment that inject runs.
func TestInjectPrintsWhatItRuns(t *testing.T) {
	for _, test := range []struct {
		kind  string
		flags injectFlags
	}{
		{kindAbort, injectFlags{duration: time.Minute, percentage: 100}},
		{kindAbort, injectFlags{duration: 90 * time.Second, percentage: 0.5, grpcStatus: "INTERNAL", from: []string{"shop", "prod/app=a,version=v1"}, headers: []string{"a=b", "c="}, port: 80}},
		{kindDelay, injectFlags{duration: time.Hour, percentage: 12.5, delay: 1500 * time.Millisecond, guards: []string{"up == 1", `a{b="c"} > 0`}}},
		{kindBlackhole, injectFlags{duration: 200 * time.Millisecond, percentage: 100, mode: "drop"}},
	} {
		ran, err := test.flags.experiment(test.kind, "ratings.prod.svc.cluster.local")
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
			t.Errorf("%s: error %v", guard, err)
		}
	}
}

// A simulation tests nothing. It is done unless it left its fault.
func TestDoneInject(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*event.Result)
		done   bool
	}{
		"as asked":    {func(*event.Result) {}, true},
		"left":        {func(r *event.Result) { r.Left = []objects.Ref{{Kind: "VirtualService", Namespace: "shop", Name: "a"}} }, false},
		"interrupted": {func(r *event.Result) { r.Status = event.StatusInterrupted }, false},
		"no effect":   {func(r *event.Result) { r.Untested, r.Reason = false, "no request was hit" }, false},
	} {
		result := event.Result{Status: event.StatusCompleted, Verdict: steadystate.Inconclusive, Reason: "no hypothesis was tested", Untested: true}
		test.change(&result)
		if got := doneInject(result); got != test.done {
			t.Errorf("%s: done is %t", name, got)
		}
	}
}

func TestWorstCode(t *testing.T) {
	order := []int{exitHeld, exitUsage, exitInconclusive, exitInterrupted, exitDeviated, exitLeft}
	for i, worse := range order {
		for _, better := range order[:i] {
			if got := worstCode(better, worse); got != worse {
				t.Errorf("%d and %d give %d", better, worse, got)
			}
			if got := worstCode(worse, better); got != worse {
				t.Errorf("%d and %d give %d", worse, better, got)
			}
		}
	}
}
