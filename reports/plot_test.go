package reports

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/runner/event"
)

// A plot shades the times in which a fault was active, which differ from the
// observation if a fault has its own times.
func TestFaultPeriods(t *testing.T) {
	began := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	seconds := func(n int) experiments.Duration {
		return experiments.Duration{Duration: time.Duration(n) * time.Second}
	}
	fault := func(after, length int) experiments.Fault {
		return experiments.Fault{StartAfter: seconds(after), Duration: seconds(length)}
	}
	run := func(observed time.Duration, faults ...experiments.Fault) Run {
		r := Run{Began: began, Last: began.Add(time.Minute)}
		r.Experiment.Spec = experiments.Spec{Duration: seconds(30), Faults: faults}
		observe, rollback := Phase{Began: began.Add(10 * time.Second)}, Phase{Began: began.Add(10*time.Second + observed)}
		observe.Name, rollback.Name = event.PhaseObserve, event.PhaseRollback
		r.Phases = []Phase{observe, rollback}
		return r
	}
	for name, test := range map[string]struct {
		run  Run
		want []experiments.Period
	}{
		"all the time":        {run(30*time.Second, fault(0, 0)), []experiments.Period{{From: 10 * time.Second, Until: 40 * time.Second}}},
		"until the rollback":  {run(31*time.Second, fault(0, 0)), []experiments.Period{{From: 10 * time.Second, Until: 41 * time.Second}}},
		"later":               {run(30*time.Second, fault(5, 0)), []experiments.Period{{From: 15 * time.Second, Until: 40 * time.Second}}},
		"twice":               {run(30*time.Second, fault(5, 5), fault(20, 5)), []experiments.Period{{From: 15 * time.Second, Until: 20 * time.Second}, {From: 30 * time.Second, Until: 35 * time.Second}}},
		"stopped early":       {run(7*time.Second, fault(5, 5), fault(20, 5)), []experiments.Period{{From: 15 * time.Second, Until: 17 * time.Second}}},
		"stopped before both": {run(4*time.Second, fault(5, 5), fault(20, 5)), nil},
		"no observation":      {Run{Began: began}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, test.run.faultPeriods()); diff != "" {
				t.Error(diff)
			}
		})
	}
}
