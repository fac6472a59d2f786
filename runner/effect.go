package runner

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/sleep"
	"github.com/squall-chaos/squall/runner/event"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// queryTimeout bounds one query of the runner's own.
const queryTimeout = 10 * time.Second

// readClock reads the server's time, which also shows that it answers.
func (s *session) readClock(ctx context.Context) error {
	samples, err := s.query(ctx, "time()")
	if err != nil {
		return err
	}
	if len(samples) != 1 {
		return fmt.Errorf("time() gives %d series", len(samples))
	}
	s.clock, s.clockRead = samples[0].Value, time.Now()
	return nil
}

// serverTime gives Prometheus' time at a moment of ours.
func (s *session) serverTime(at time.Time) float64 { return s.clock + at.Sub(s.clockRead).Seconds() }

// afterglow is how long after its rollback an earlier fault may still hit, and
// how long after it was made one may hit less than it should: until every proxy
// has heard of it.
const afterglow = 2 * time.Second

// scrapeTimeout is how long a run waits for the counters to be read again.
const scrapeTimeout = time.Minute

const flaglessReason = "istio_requests_total has no label response_flags here, so the requests hit cannot be counted"

// startEffect reads the counters before the fault. What an earlier fault hit
// stands in them only after the next scrape, so it waits until there was one
// of every caller since the run has started; a baseline is usually longer.
func (s *session) startEffect(ctx context.Context, planned Planned) (*counting, *ending) {
	if s.experiment.Spec.Effect.MinRequests == 0 {
		return nil, nil //nolint:nilnil // nothing is to be counted
	}
	calls := newCalls(planned)
	for deadline := time.Now().Add(scrapeTimeout); ; {
		now, err := calls.read(ctx, s.Runner, calls.before)
		if err != nil {
			return nil, s.fail(ctx, event.StatusRefused, fmt.Errorf("the requests hit cannot be counted: %w", err))
		}
		if calls.flagless(now) {
			return nil, &ending{event.StatusRefused, flaglessReason, "nothing was injected; set effect.minRequests to 0 to judge by the probes alone"}
		}
		if now.scraped >= s.clock+afterglow.Seconds() {
			return newCounting(calls, now), nil
		}
		if !time.Now().Before(deadline) {
			return nil, &ending{event.StatusRefused, fmt.Sprintf("Prometheus has not scraped the callers' istio_requests_total for %s, so the requests hit could not be counted", scrapeTimeout), "nothing was injected; check the scrape of the callers' proxies, or set effect.minRequests to 0"}
		}
		if !sleep.For(ctx, min(s.experiment.Spec.SteadyState.Interval.Duration, time.Second)) {
			return nil, interrupted(ctx)
		}
	}
}

// settledAfter is how long after its start a fault hits as many requests as it
// is to hit: when all proxies have it, and the first requests that it holds have
// been counted. After its end it takes as long until the last have been.
func settledAfter(spec experiments.Spec) time.Duration {
	longest := time.Duration(0)
	for _, f := range spec.Faults {
		if f.Delay != nil {
			longest = max(longest, f.Delay.FixedDelay.Duration)
		}
	}
	return afterglow + longest
}

// proveEffect compares the counters with those before the fault. Prometheus
// reads them only once in a scrape interval, so as long as they say too little
// they are read again, until the time for recovery has passed.
func (s *session) proveEffect(ctx context.Context, count *counting) *ending {
	if count == nil {
		return nil
	}
	s.record.add(event.Phase{Name: event.PhaseEffect})
	effect := event.Effect{Query: count.calls.query}
	effect.Share, effect.NoShare = count.share()
	deadline := time.Now().Add(s.experiment.Spec.Recovery.Within.Duration)
	for {
		now, err := count.calls.read(ctx, s.Runner, count.calls.query)
		if ctx.Err() != nil {
			return interrupted(ctx)
		}
		if err != nil {
			effect.Verdict, effect.Reason = steadystate.Inconclusive, "the requests hit cannot be counted: "+err.Error()
		} else {
			count.add(now)
			judge(&effect, count, now, s.experiment.Spec.Effect.MinRequests)
			effect.Complete = !math.IsInf(now.scraped, 1) && now.scraped >= s.serverTime(s.ended.Add(settledAfter(s.experiment.Spec)))
		}
		if effect.Verdict == steadystate.Held || !time.Now().Before(deadline) {
			break
		}
		if !sleep.For(ctx, s.experiment.Spec.SteadyState.Interval.Duration) {
			return interrupted(ctx)
		}
	}
	s.effect = &effect
	s.record.add(effect)
	return nil
}

// judge says whether the counters prove that enough requests were hit.
func judge(e *event.Effect, count *counting, now reading, minimum int) {
	counted := count.total
	e.Requests, e.Verdict, e.Reason = counted.Hit, steadystate.Inconclusive, ""
	const none = "the fault hit no request, as far as istio_requests_total can tell"
	missed, misses := count.missed()
	switch {
	case counted.Hit >= float64(minimum) && misses:
		e.Reason = fmt.Sprintf("the %s of calls to %s hit no request, as far as istio_requests_total can tell; other faults hit %.0f", missed.kind, missed.host, counted.Hit)
	case counted.Hit >= float64(minimum):
		e.Verdict = steadystate.Held
	case counted.Hit > 0:
		e.Reason = fmt.Sprintf("the fault hit %.0f requests; effect.minRequests asks for %d", counted.Hit, minimum)
	case len(now.counters) == 0:
		e.Reason = none + ": it has no such calls; nobody made any, or Prometheus does not scrape the callers"
	case count.calls.flagless(now):
		e.Reason = flaglessReason
	case counted.Requests == 0:
		e.Reason = none + ": there were none in that time"
	default:
		e.Reason = fmt.Sprintf("%s: none of %.0f bears a mark of it", none, counted.Requests)
	}
}
