package effect

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/internal/sleep"
	"github.com/squall-chaos/squall/istio/telemetry"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/runner/event"
)

// drainDelay is the time that the proxies may take to apply or remove a fault
// after its object was created or deleted.
const drainDelay = 2 * time.Second

// scrapeTimeout is how long Start waits until the counters are scraped.
const scrapeTimeout = time.Minute

// minInterval is the shortest time between two readings. Prometheus rarely has
// newer values any sooner.
const minInterval = time.Second

// Meter counts the requests that the faults of a run hit.
type Meter struct {
	query   Query
	clock   Clock
	spec    experiments.Spec
	edges   edges
	queries queries

	// last has the counters as they were last read, also those that have gone with
	// their pod.
	last map[string]counter
	// total is the growth since the first reading. hit are the signatures in it.
	total event.Counted
	hit   map[signature]bool
	// active is Prometheus' time from which on every proxy has the fault.
	active float64
	// counted is the growth since the first reading with the fault active, and
	// readings the number of those readings.
	counted  event.Counted
	readings int
	// reporters maps a namespace of callers to the reporters of its calls.
	reporters map[string][]string
}

// Start reads the counters before the faults of a plan are injected. The hits of
// an earlier fault are in them only after the next scrape, so it waits until each
// counter was scraped after the clock was read. An error means that the requests
// hit could not be counted.
func Start(ctx context.Context, query Query, clock Clock, spec experiments.Spec, decisions []mesh.Decision) (*Meter, error) {
	m := &Meter{query: query, clock: clock, spec: spec, edges: newEdges(decisions), hit: map[signature]bool{}, reporters: map[string][]string{}}
	m.queries = m.edges.queries()
	for deadline := time.Now().Add(scrapeTimeout); ; {
		now, err := read(ctx, query, m.queries.before, m.queries.times)
		switch {
		case err != nil:
			return nil, fmt.Errorf("the requests hit cannot be counted: %w", err)
		case m.edges.lackFlags(now):
			return nil, hint.With(errors.New(noFlags), "nothing was injected; set effect.minRequests to 0 to judge by the probes alone")
		case now.scraped >= clock.at(clock.local.Add(drainDelay)):
			m.last = now.counters
			return m, nil
		case !time.Now().Before(deadline):
			return nil, hint.With(
				fmt.Errorf("Prometheus has not scraped the callers' %s for %s, so the requests hit could not be counted", telemetry.Requests, scrapeTimeout), //nolint:staticcheck // a name
				"nothing was injected; check the scrape of the callers' proxies, or set effect.minRequests to 0",
			)
		}
		if !sleep.For(ctx, min(spec.SteadyState.Interval.Duration, minInterval)) {
			return nil, ctx.Err()
		}
	}
}

// settleTime returns the time from the injection of the faults until they hit the
// share that they should: every proxy has them, and the first delayed requests have
// ended. From their end it takes as long until the last requests are counted.
func settleTime(spec experiments.Spec) time.Duration {
	longest := time.Duration(0)
	for _, f := range spec.Faults {
		if f.Delay != nil {
			longest = max(longest, f.Delay.FixedDelay.Duration)
		}
	}
	return drainDelay + longest
}

// Count reads the counters until ctx is done, and calls changed whenever the number
// of requests hit has changed. The faults were injected at a time.
func (m *Meter) Count(ctx context.Context, injected time.Time, changed func(event.Counted)) {
	m.active = m.clock.at(injected.Add(settleTime(m.spec)))
	reported := -1.0
	for sleep.For(ctx, max(m.spec.SteadyState.Interval.Duration, minInterval)) {
		now, err := read(ctx, m.query, m.queries.counters, m.queries.times)
		if err != nil {
			continue // Prove reports it if it lasts
		}
		m.add(now)
		if m.total.Hit != reported {
			reported = m.total.Hit
			changed(m.total)
		}
	}
}

// add adds the growth of each counter since it was last read.
func (m *Meter) add(now reading) {
	active := m.readings > 0
	for key, c := range now.counters {
		growth := m.growth(key, c)
		if growth == 0 {
			continue
		}
		for _, s := range m.edges.signatures(c.labels) {
			m.hit[s] = true
		}
		count := m.edges.count(c.labels, growth)
		m.total = sum(m.total, count)
		if active {
			m.counted = sum(m.counted, count)
			m.addReporter(c.labels)
		}
	}
	if now.scrapedSince(m.active) {
		m.readings++
	}
}

// growth returns how much a counter has grown since it was last read. A counter
// that is new started at 0, and one that shrank was reset to 0 in between. One with
// an older scrape comes from a replica of Prometheus that is behind.
func (m *Meter) growth(key string, now counter) float64 {
	last, known := m.last[key]
	switch {
	case known && now.scraped == 0 && now.value <= last.value, known && now.scraped != 0 && now.scraped <= last.scraped:
		return 0
	case known && now.scraped == 0:
		now.scraped = last.scraped
	}
	m.last[key] = now
	if now.value >= last.value {
		return now.value - last.value
	}
	return now.value
}

func (m *Meter) addReporter(labels map[string]string) {
	callers, reporter := labels[telemetry.LabelSourceNamespace], labels[telemetry.LabelReporter]
	if !slices.Contains(m.reporters[callers], reporter) {
		m.reporters[callers] = append(m.reporters[callers], reporter)
	}
}

// sum returns the sum of two counts.
func sum(a, b event.Counted) event.Counted {
	return event.Counted{Requests: a.Requests + b.Requests, Hit: a.Hit + b.Hit, Expected: a.Expected + b.Expected}
}
