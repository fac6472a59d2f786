package clean

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/internal/sleep"
	"github.com/squall-chaos/squall/istio/telemetry"
	"github.com/squall-chaos/squall/runner/effect"
	"github.com/squall-chaos/squall/runner/event"
)

// Counters are the counters of the calls of a plan. *effect.Meter implements it.
type Counters interface {
	Read(ctx context.Context) (effect.Reading, error)
	// Check returns an error if a reading cannot tell which requests were hit.
	Check(effect.Reading) error
}

// DisturbedError is the error of counters that can no longer tell whether a run has left
// its calls clean, because another run disturbs them.
type DisturbedError struct{ Reason string }

func (e *DisturbedError) Error() string { return e.Reason }

// pause is the time between two readings. Prometheus rarely has newer values any
// sooner.
const pause = time.Second

// scrapeTimeout is how long a run waits for a scrape of the callers' proxies.
const scrapeTimeout = time.Minute

// Before returns nil when two scrapes since a time, in Prometheus' time, show that no
// call is hit. It returns an error when a call is hit, or when the requests hit
// could not be counted.
func Before(ctx context.Context, counters Counters, since float64) error {
	watch := NewWatch(since)
	for deadline := time.Now().Add(scrapeTimeout); ; {
		now, err := counters.Read(ctx)
		if err == nil {
			err = counters.Check(now)
		}
		if err != nil {
			return err
		}
		watch.Add(now)
		if rate, _, hit := watch.Hit(); hit {
			return hint.With(
				fmt.Errorf("the mesh still injects a fault of an earlier run: %.1f requests/s to the target are hit, and no run is live", rate),
				"nothing was injected; wait until the calls are clean: check that istiod pushes to the callers' proxies, and that no object of another tool injects faults into these calls",
			)
		}
		if _, _, clean := watch.Clean(); clean {
			return nil
		}
		if !time.Now().Before(deadline) {
			return hint.With(
				fmt.Errorf("Prometheus has not scraped the callers' %s twice in %s, so the requests hit could not be counted", telemetry.Requests, scrapeTimeout), //nolint:staticcheck // a name
				"nothing was injected; check the scrape of the callers' proxies, or set effect.minRequests to 0",
			)
		}
		if !sleep.For(ctx, pause) {
			return ctx.Err()
		}
	}
}

// Limits are the limits of After.
type Limits struct {
	// Within is how long the calls may still be hit.
	Within time.Duration
	// Held is how long before the first scrape requests may still end that were hit
	// before the rollback.
	Held time.Duration
	// Calls reports that there were calls during the fault, so that they are waited
	// for.
	Calls bool
	// Brief reports that a user waits, so scrapes are not waited for any longer than
	// within.
	Brief bool
}

// After reads the counters after a rollback until calls without a hit were seen, or
// until the limits have passed. since is the time, in Prometheus' time, from which a
// call must not be hit; the rollback was removed seconds before.
func After(ctx context.Context, counters Counters, removed, since float64, limits Limits) event.Clean {
	watch := NewWatch(since)
	began := time.Now()
	last := since + limits.Within.Seconds() // for hits, in Prometheus' time
	deadline := began.Add(limits.Held + limits.Within)
	patience := deadline
	if !limits.Brief {
		patience = deadline.Add(2 * scrapeTimeout)
	}
	for {
		now, err := counters.Read(ctx)
		if err == nil {
			watch.Add(now)
		}
		late := !time.Now().Before(deadline)
		calls, from, clean := watch.Clean()
		rate, hitFrom, hit := watch.Hit()
		disturbed, is := errors.AsType[*DisturbedError](err)
		switch {
		case is:
			return event.Clean{State: event.CleanUnobserved, Reason: disturbed.Reason}
		case clean && (calls > 0 || !limits.Calls || late):
			return seen(calls, from-removed)
		case hit && (hitFrom >= last || late && limits.Brief):
			return event.Clean{State: event.CleanStillHit, Rate: rate}
		case err != nil && late:
			return event.Clean{State: event.CleanUnobserved, Reason: err.Error()}
		case !time.Now().Before(patience) || ctx.Err() != nil:
			return unobserved(rate, hit)
		}
		sleep.For(ctx, pause)
	}
}

// seen returns the result for calls that were not hit from a time after the rollback
// on, in seconds.
func seen(calls, after float64) event.Clean {
	if calls == 0 {
		return event.Clean{State: event.CleanNoCalls}
	}
	return event.Clean{State: event.CleanSeen, Calls: calls, After: experiments.Duration{Duration: time.Duration(after * float64(time.Second)).Round(time.Millisecond)}}
}

// unobserved returns the result if there were no two scrapes. Requests may have been
// hit in the scrapes before.
func unobserved(rate float64, hit bool) event.Clean {
	if hit {
		return event.Clean{State: event.CleanStillHit, Rate: rate}
	}
	return event.Clean{State: event.CleanUnobserved, Reason: errNotScraped.Error()}
}

var errNotScraped = errors.New("Prometheus has not scraped the callers' " + telemetry.Requests + " twice since") //nolint:staticcheck // a name
