// Package batch waits between experiments that run one after another, so that the end of
// one does not disturb the beginning of the next.
package batch

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/sleep"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// Pauses are the waits between two experiments.
type Pauses struct {
	// Fixed is a pause before each experiment but the first.
	Fixed time.Duration
	// Longest is the longest wait after that until the next hypothesis holds. If it is 0,
	// nothing is measured.
	Longest time.Duration
	Querier steadystate.Querier
	// Alerts reads alerting rules. It may be nil.
	Alerts steadystate.AlertSource
	// Note reports what is waited for.
	Note func(note string)
}

// Before waits before the next experiment of a batch. It returns when ctx ends, and does
// not report a hypothesis that does not hold in the end: the run refuses it. disturbed is
// whether an experiment of the batch has injected a fault.
func (p Pauses) Before(ctx context.Context, next experiments.Experiment, disturbed bool) {
	name := next.Metadata.Name
	if p.Fixed > 0 {
		p.Note(fmt.Sprintf("a pause of %s before %s", experiments.Duration{Duration: p.Fixed}, name))
		if !sleep.For(ctx, p.Fixed) {
			return
		}
	}
	if p.Longest <= 0 || !disturbed {
		return
	}
	waiting := false
	watcher := steadystate.Watcher{
		Querier: p.Querier, Alerts: p.Alerts, Interval: next.Spec.SteadyState.Interval.Duration,
		Record: func(m steadystate.Measurement) {
			if m.Verdict != steadystate.Held && !waiting {
				waiting = true
				p.Note(fmt.Sprintf("waiting up to %s until the hypothesis of %s holds: %s: %s", experiments.Duration{Duration: p.Longest}, name, m.Probe, m.Reason))
			}
		},
	}
	findings, took := watcher.Recover(ctx, baseline(next.Spec), p.Longest)
	if waiting && steadystate.Worst(findings) == steadystate.Held {
		p.Note(fmt.Sprintf("the hypothesis of %s holds after %s", name, took.Round(time.Second)))
	}
}

// baseline returns the probes that are judged before the fault, as ones that a watcher
// measures after a fault.
func baseline(spec experiments.Spec) []experiments.Probe {
	probes := slices.DeleteFunc(spec.Measured(), func(p experiments.Probe) bool { return !p.In(experiments.Before) })
	for i := range probes {
		probes[i].Phases, probes[i].Settle = []experiments.Phase{experiments.After}, experiments.Duration{}
	}
	return probes
}
