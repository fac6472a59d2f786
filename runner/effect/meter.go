package effect

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/internal/sleep"
	"github.com/squall-chaos/squall/istio/telemetry"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/runner/event"
)

// PushDelay is the time that the proxies may take to apply or remove a fault after its
// object was created or deleted.
const PushDelay = 2 * time.Second

// minInterval is the shortest time between two readings. Prometheus rarely has
// newer values any sooner.
const minInterval = time.Second

// Meter counts the requests that the faults of a run hit. It is not safe for
// concurrent use.
type Meter struct {
	query   Query
	clock   Clock
	spec    experiments.Spec
	held    held
	edges   edges
	queries queries
	ledger  *Ledger

	// begin and end are the times between which growth counts. gone is when the
	// faults were removed.
	begin, gone, end float64
	// last is the last reading, and err the error of the last attempt.
	last Reading
	err  error
	// total is the growth between begin and end. hit are the signatures in it.
	total event.Counted
	hit   map[signature]bool
	// active is the time from which on every proxy has the faults.
	active float64
	// counted is the growth between active and gone, and readings the number of
	// readings in that time.
	counted  event.Counted
	readings int
	// protocols are the protocols of the callers.
	protocols protocols
	// reporters maps a namespace of callers to the reporters of its calls.
	reporters map[string][]string
}

// NewMeter returns a meter for the faults of a plan. The clock was read at the start
// of the run: only what is between two scrapes since then counts.
func NewMeter(query Query, clock Clock, spec experiments.Spec, decisions []mesh.Decision) *Meter {
	m := &Meter{
		query: query, clock: clock, spec: spec, held: heldBy(spec, decisions), edges: newEdges(decisions), ledger: NewLedger(clock.server),
		begin: math.Inf(1), gone: math.Inf(1), end: math.Inf(1), active: math.Inf(1),
		hit: map[signature]bool{}, protocols: newProtocols(), reporters: map[string][]string{},
	}
	m.queries = m.edges.queries()
	return m
}

// Read reads the counters, and adds their growth.
func (m *Meter) Read(ctx context.Context) (Reading, error) {
	now, err := m.Look(ctx)
	if err == nil {
		m.Add(now)
	}
	return now, err
}

// Look reads the counters, and does not add their growth.
func (m *Meter) Look(ctx context.Context) (Reading, error) {
	counters := m.queries.counters
	if math.IsInf(m.begin, 1) {
		counters = m.queries.before
	}
	now, err := m.edges.read(ctx, m.query, counters, m.queries)
	m.err = err
	if err != nil {
		return now, fmt.Errorf("the requests hit cannot be counted: %w", err)
	}
	return now, nil
}

// Check returns an error if a reading cannot distinguish the requests that the faults
// will hit from others.
func (*Meter) Check(now Reading) error {
	if now.lacksFlags {
		return hint.With(errors.New(noFlags), "nothing was injected; set effect.minRequests to 0 to judge by the probes alone")
	}
	return nil
}

// Settled returns Prometheus' time from which scrapes have no hits of earlier faults:
// a while after the start of the run.
func (m *Meter) Settled() float64 { return m.clock.at(m.clock.local.Add(PushDelay)) }

// Inject starts to count. Faults are created after now.
func (m *Meter) Inject(now time.Time) { m.begin = m.clock.at(now) }

// Injected sets the time at which all faults existed.
func (m *Meter) Injected(at time.Time) { m.active = m.clock.at(at.Add(PushDelay + m.held.during)) }

// Removed sets the time at which all faults were removed. It returns that time, and
// the one from which scrapes have no hits, in Prometheus' time.
func (m *Meter) Removed(at time.Time) (removed, clean float64) {
	m.gone = m.clock.at(at)
	m.end = m.clock.at(at.Add(PushDelay + m.held.after))
	return m.gone, m.end
}

// Held returns how long after a rollback a request may end that was hit before. Proxies
// count a request when it ends.
func (m *Meter) Held() time.Duration { return m.held.after }

// held is for how long requests that are hit are not counted yet.
type held struct {
	// during is how long a request takes while the faults are active: its delay, or all
	// attempts to connect to an address that never answers. after is how long one goes
	// on after the rollback: its delay, or one such attempt, because the next one finds
	// another route.
	during, after time.Duration
}

func heldBy(spec experiments.Spec, decisions []mesh.Decision) held {
	var h held
	for _, f := range spec.Faults {
		if f.Delay != nil {
			h.during = max(h.during, f.Delay.FixedDelay.Duration)
		}
	}
	h.after = h.during
	for _, d := range decisions {
		for _, wait := range d.Waits {
			h.during, h.after = max(h.during, wait.Longest.Duration), max(h.after, wait.ConnectTimeout.Duration)
		}
	}
	return h
}

// Count reads the counters until ctx is done, and calls changed whenever the number
// of requests hit has changed.
func (m *Meter) Count(ctx context.Context, changed func(event.Counted)) {
	reported := -1.0
	for sleep.For(ctx, max(m.spec.SteadyState.Interval.Duration, minInterval)) {
		if _, err := m.Read(ctx); err != nil {
			continue // Effect reports it if it lasts
		}
		if m.total.Hit != reported {
			reported = m.total.Hit
			changed(m.total)
		}
	}
}

// Total returns the requests since the injection, as far as Prometheus has scraped
// them.
func (m *Meter) Total() event.Counted { return m.total }

// Add adds the growth of each counter since the last reading that was added.
func (m *Meter) Add(now Reading) {
	m.last = now
	m.protocols.see(now)
	for _, g := range m.ledger.Add(now) {
		if g.Scraped <= m.begin || g.From >= m.end {
			continue
		}
		for _, s := range m.edges.signatures(g.labels) {
			m.hit[s] = true
		}
		if m.edges.abortsGRPC(g.labels) {
			m.protocols.add(g)
		}
		count := m.edges.count(g.labels, g.Amount)
		m.total = sum(m.total, count)
		if m.readings > 0 && g.Scraped <= m.gone {
			m.counted = sum(m.counted, count)
			m.addReporter(g.labels)
		}
	}
	if now.scrapedSince(m.active) && !now.scrapedSince(m.gone) {
		m.readings++
	}
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
