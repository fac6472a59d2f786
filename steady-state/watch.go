package steadystate

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/clock"
)

// The limits of a query's timeout, which is otherwise the interval.
const (
	shortestTimeout = time.Second
	longestTimeout  = 10 * time.Second
)

// Watcher measures the probes of one phase at a fixed interval.
type Watcher struct {
	Querier  Querier
	Interval time.Duration
	// Alerts reads alerting rules. It may be nil.
	Alerts AlertSource
	// Record is called with every measurement, in order.
	Record func(Measurement)
	// Evaluated maps a probe to the server time of its last answer. Share it across
	// phases to detect cached answers. If it is nil, each phase has its own map.
	Evaluated map[string]time.Time
}

// Watch measures the phase's probes every interval for the given time. Before a
// fault the first measurement is taken at once, in other phases one interval
// after the start.
//
// It returns early when ctx is done, and as soon as the hypothesis cannot hold
// any more; then one of the findings is not Held. If no probe is judged in the
// phase, it waits for the given time and returns no findings.
func (w Watcher) Watch(ctx context.Context, all []experiments.Probe, phase experiments.Phase, length time.Duration) []Finding {
	probes := in(all, phase)
	w.Evaluated = remembering(w.Evaluated)
	tallies := make([]tally, len(probes))
	for i, p := range probes {
		tallies[i] = tally{limit: p.FailureLimit, finding: Finding{Probe: p.Name, Phase: phase}}
	}
	first := w.Interval
	if phase == experiments.Before {
		first = 0
	}
	last := time.Now()
	w.every(ctx, first, length, func(elapsed time.Duration) (done bool) {
		if gap := time.Since(last); phase == experiments.During && gap > w.longestGap() {
			for i := range tallies {
				tallies[i].unwatched(gap)
			}
		}
		last = time.Now()
		w.measure(ctx, probes, phase, elapsed, func(m measured) (done bool) {
			tallies[m.probe].add(m.Measurement)
			return tallies[m.probe].finding.Verdict == Deviated
		})
		return slices.ContainsFunc(tallies, func(t tally) bool { return t.finding.Verdict != Held })
	})
	if gap := time.Since(last); phase == experiments.During && ctx.Err() == nil && gap > w.longestGap() {
		for i := range tallies {
			tallies[i].unwatched(gap)
		}
	}
	findings := make([]Finding, len(probes))
	for i := range tallies {
		findings[i] = tallies[i].result()
	}
	return findings
}

// Recover measures the probes of the phase after a fault until all of them hold
// at the same time, and returns how long that took. If they do not hold within
// the given time, the findings have the probes and the reasons.
func (w Watcher) Recover(ctx context.Context, all []experiments.Probe, within time.Duration) (findings []Finding, took time.Duration) {
	probes := in(all, experiments.After)
	if len(probes) == 0 {
		return nil, 0
	}
	w.Evaluated = remembering(w.Evaluated)
	findings = make([]Finding, len(probes))
	for i, p := range probes {
		findings[i] = Finding{Probe: p.Name, Phase: experiments.After, Verdict: Inconclusive, Reason: "was never measured"}
	}
	w.every(ctx, 0, within, func(elapsed time.Duration) (done bool) {
		missing := len(probes)
		w.measure(ctx, probes, experiments.After, elapsed, func(m measured) (done bool) {
			if m.Settling {
				return false
			}
			f := &findings[m.probe]
			f.Verdict, f.Reason, f.Time = m.Verdict, m.Reason, m.Time
			if m.Verdict == Held {
				missing--
			}
			return false
		})
		took = elapsed
		return missing == 0
	})
	return findings, took
}

// longestGap is the longest time between two measurements while a fault is active: two
// intervals and the timeout of a query. In a longer one the process did not run.
func (w Watcher) longestGap() time.Duration { return 2*w.Interval + w.timeout() }

// timeout limits one query.
func (w Watcher) timeout() time.Duration {
	return min(max(w.Interval, shortestTimeout), longestTimeout)
}

// measure takes one measurement of each probe, records it, and passes it to each,
// which returns true if the other measurements do not matter any more: nothing is
// worse than a deviation.
func (w Watcher) measure(ctx context.Context, probes []experiments.Probe, phase experiments.Phase, elapsed time.Duration, each func(measured) (done bool)) {
	w.measureAll(ctx, probes, phase, w.timeout(), func(m measured) bool {
		if ctx.Err() != nil {
			// The measurement failed because the run is ending, which is not a
			// result about the hypothesis.
			return true
		}
		w.checkAge(&m, probes[m.probe])
		m.Settling = phase != experiments.Before && elapsed < probes[m.probe].Settle.Duration
		w.Record(m.Measurement)
		return each(m)
	})
}

func remembering(evaluated map[string]time.Time) map[string]time.Time {
	if evaluated == nil {
		return map[string]time.Time{}
	}
	return evaluated
}

// checkAge removes the value of a measurement if its answer is not about the present:
// a cache or a proxy has repeated it, or its time is not the time at which a server
// has evaluated the query.
func (w Watcher) checkAge(m *measured, probe experiments.Probe) {
	if m.evaluated.IsZero() {
		return // there is no series, or the source has no times
	}
	last := w.Evaluated[m.Probe]
	w.Evaluated[m.Probe] = m.evaluated
	age := time.Since(m.evaluated)
	switch {
	case m.evaluated.Equal(last): // an earlier time may come from another replica
		m.invalidate(probe, fmt.Errorf("stale: the server repeats its answer of %s", last.UTC().Format("15:04:05.000")))
	case age > clock.Skew:
		m.invalidate(probe, fmt.Errorf("stale: the answer is %s old", age.Round(time.Second)))
	case age < -clock.Skew:
		m.invalidate(probe, fmt.Errorf("the answer is %s in the future", -age.Round(time.Second)))
	}
}

// invalidate replaces the value of a measurement by an error.
func (m *measured) invalidate(probe experiments.Probe, err error) {
	old := m.Measurement
	m.Measurement = judge(probe, nil, err)
	m.Phase, m.Time, m.Seconds = old.Phase, old.Time, old.Seconds
}

// every calls step at first and then at each multiple of the interval up to
// length. The clock does not drift: a step that takes longer than the interval
// skips the times that it has missed. every returns when length has passed, when
// step returns true, or when ctx is done.
func (w Watcher) every(ctx context.Context, first, length time.Duration, step func(elapsed time.Duration) (done bool)) {
	start := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for next := first; ; {
		stepping := next <= length
		timer.Reset(time.Until(start.Add(min(next, length))))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if !stepping {
			return
		}
		if step(time.Since(start)) {
			return
		}
		next += w.Interval
		if behind := time.Since(start); next < behind {
			next = behind.Truncate(w.Interval) + w.Interval
		}
	}
}

func in(probes []experiments.Probe, phase experiments.Phase) []experiments.Probe {
	var selected []experiments.Probe
	for _, p := range probes {
		if p.In(phase) {
			selected = append(selected, p)
		}
	}
	return selected
}
