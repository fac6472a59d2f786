package runner

import (
	"context"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/sleep"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/runner/event"
)

// calls counts the calls that a run may disturb, and those of them that it
// hits, in what the callers' proxies report.
type calls struct {
	// query gives the counters of all those calls, and times when each of them
	// was read. Before gives those of a longer time: a caller whose scrape fails
	// when the run starts has not come with it.
	query, before, times string
	scopes               []scope
}

// scope is the calls from one namespace to one host.
type scope struct {
	host       string // of the target
	callers    string
	hosts      []string
	blackholes []string
	// flags are those of the requests that the run hits.
	flags []string
	// asked is the share of the calls that is to be hit, 0 to 1, and labels are
	// those of the callers. Untold says why the share that was hit cannot be
	// told, where it cannot.
	asked  float64
	labels []map[string]string
	untold string
}

// newCalls finds out how the calls of a plan look in telemetry.
func newCalls(planned Planned) calls {
	var c calls
	var counters, before, times []string
	for _, d := range planned.Decisions {
		s := scope{host: d.Host, callers: d.Callers, hosts: append([]string{d.Host}, d.Trace.Destinations...), blackholes: d.Trace.Blackholes}
		if d.Trace.Aborts {
			s.flags = append(s.flags, "FI")
		}
		if d.Trace.Delays {
			s.flags = append(s.flags, "DI")
		}
		s.asked = d.Injections.Peak().Hit
		s.untold = untold(d)
		for _, i := range d.Injections {
			for _, caller := range i.Callers {
				s.labels = append(s.labels, caller.Labels)
			}
		}
		c.scopes = append(c.scopes, s)
		selectors := []string{callsSelector("istio_requests_total", d.Callers, slices.Concat(s.hosts, s.blackholes))}
		if len(s.blackholes) > 0 { // which take connections as well
			selectors = append(selectors, callsSelector("istio_tcp_connections_opened_total", d.Callers, slices.Concat(s.hosts, s.blackholes)))
		}
		for _, selector := range selectors {
			// An instant query looks back five minutes too, but not past a scrape
			// that failed: a counter that seems new would count from zero.
			counters = append(counters, "last_over_time("+selector+"[5m])")
			before = append(before, "last_over_time("+selector+"[1h])")
			times = append(times, fmt.Sprintf(`label_replace(timestamp(%s), %q, "scraped", "", ".*")`, selector, timeLabel))
		}
	}
	c.query, c.before, c.times = strings.Join(counters, " or "), strings.Join(before, " or "), strings.Join(times, " or ")
	return c
}

// timeLabel marks the series that tells when a counter was read.
const timeLabel = "squall"

// callsSelector selects the counters of the calls from one namespace to some
// hosts, as the callers' side reports them: an aborted request never arrives
// anywhere else.
func callsSelector(counter, callers string, hosts []string) string {
	return fmt.Sprintf(counter+`{reporter=~"source|waypoint",destination_service=~%q,source_workload_namespace=%q}`, anyOf(hosts), callers)
}

// untold says why telemetry cannot tell which calls faults were to hit; it is
// empty when it can.
func untold(d mesh.Decision) string {
	if slices.ContainsFunc(d.Trace.Destinations, func(host string) bool { return host != d.Host }) {
		return "the routes lead to other hosts, which may have other calls too"
	}
	for _, i := range d.Injections {
		switch {
		case len(i.Match) > 0:
			return "istio_requests_total does not tell which requests match"
		case i.Target.Port != 0, i.Target.Subset != "":
			return "istio_requests_total does not tell ports and subsets apart"
		case i.PartOfTheTime():
			return "a fault is in force for a part of the time"
		case len(d.Injections) > 1 && !slices.EqualFunc(i.Callers, d.Injections[0].Callers, func(a, b experiments.Caller) bool { return fmt.Sprint(a) == fmt.Sprint(b) }):
			return "the faults have different callers"
		}
		for _, caller := range i.Callers {
			for name := range caller.Labels {
				if sourceLabels[name] == "" {
					return fmt.Sprintf("istio_requests_total has no label for the callers' %s", name)
				}
			}
		}
	}
	return ""
}

// sourceLabels are the labels of istio_requests_total that hold labels of the
// calling pod (https://istio.io/latest/docs/reference/config/metrics/).
//
//nolint:gochecknoglobals // a constant table
var sourceLabels = map[string]string{"app": "source_app", "version": "source_version"}

// has reports whether a counter counts calls of the scope.
func (s scope) has(labels map[string]string) bool {
	host := labels["destination_service"]
	return labels["source_workload_namespace"] == s.callers && (slices.Contains(s.hosts, host) || slices.Contains(s.blackholes, host))
}

// mark is a kind of fault on the calls to a host, as telemetry tells it: faults
// of the same mark cannot be told apart.
type mark struct{ kind, host string }

// flagKinds are the kinds of faults by the flags that Envoy gives the requests
// that they hit.
//
//nolint:gochecknoglobals // a constant table
var flagKinds = map[string]string{"FI": "abort", "DI": "delay"}

// expected gives the marks of the faults on the scope's calls.
func (s scope) expected() (marks []mark) {
	for _, flag := range s.flags {
		marks = append(marks, mark{flagKinds[flag], s.host})
	}
	if len(s.blackholes) > 0 {
		marks = append(marks, mark{"blackhole", s.host})
	}
	return marks
}

// marks gives the marks that the calls bear which a counter of the scope counts;
// none when no fault has hit them. Envoy lists the flags of a request with
// commas.
func (s scope) marks(labels map[string]string) (marks []mark) {
	for flag := range strings.SplitSeq(labels["response_flags"], ",") {
		if slices.Contains(s.flags, flag) {
			marks = append(marks, mark{flagKinds[flag], s.host})
		}
	}
	if slices.Contains(s.blackholes, labels["destination_service"]) {
		marks = append(marks, mark{"blackhole", s.host})
	}
	return marks
}

// asks reports whether the calls that a counter of the scope counts are of those
// callers whose calls are to be hit.
func (s scope) asks(labels map[string]string) bool {
	return slices.ContainsFunc(s.labels, func(wanted map[string]string) bool {
		for name, value := range wanted {
			if labels[sourceLabels[name]] != value {
				return false
			}
		}
		return true
	})
}

// reading is what the counters said at one moment. None of them was read before
// scraped, in Prometheus' time.
type reading struct {
	scraped  float64
	counters map[string]counter // by the labels, which fmt prints in order
}

// counter is one counter, and when Prometheus has read it; 0 when its last
// scrape has failed.
type counter struct {
	labels map[string]string
	value  float64
	at     float64
}

// read asks for the counters, by the query of those of now or before. When there
// are none, scraped is infinite: nothing is behind. One query asks for all,
// because of two another replica of Prometheus may answer the second.
func (c calls) read(ctx context.Context, r Runner, query string) (reading, error) {
	samples, err := r.query(ctx, query+" or "+c.times)
	now := reading{scraped: math.Inf(1), counters: map[string]counter{}}
	times := map[string]float64{}
	for _, s := range samples {
		labels := maps.Clone(s.Labels)
		delete(labels, "__name__") // a time has none
		if _, isTime := labels[timeLabel]; isTime {
			delete(labels, timeLabel)
			times[fmt.Sprint(labels)] = s.Value
			now.scraped = min(now.scraped, s.Value)
			continue
		}
		now.counters[fmt.Sprint(labels)] = counter{labels: labels, value: s.Value}
	}
	for key, one := range now.counters {
		one.at = times[key]
		now.counters[key] = one
	}
	return now, err
}

// count says how many calls it means when a counter grows by so many.
func (c calls) count(labels map[string]string, grown float64) (count event.Counted) {
	if len(c.marks(labels)) > 0 {
		count.Hit = grown
	}
	i := slices.IndexFunc(c.scopes, func(s scope) bool { return s.has(labels) })
	if i >= 0 && c.scopes[i].asks(labels) {
		count.Requests, count.Expected = grown, grown*c.scopes[i].asked
	}
	return count
}

// marks gives the marks that the calls bear which a counter counts.
func (c calls) marks(labels map[string]string) (marks []mark) {
	for _, s := range c.scopes {
		if s.has(labels) {
			marks = append(marks, s.marks(labels)...)
		}
	}
	return marks
}

// untold says why the share that was hit cannot be told; it is empty when it
// can.
func (c calls) untold() string {
	for _, s := range c.scopes {
		if s.untold != "" {
			return s.untold
		}
	}
	return ""
}

// flagless reports whether there are counters, but none that says which of its
// requests were hit, though the plan needs that.
func (c calls) flagless(now reading) bool {
	return slices.ContainsFunc(c.scopes, func(s scope) bool { return len(s.flags) > 0 }) && len(now.counters) > 0 &&
		!slices.ContainsFunc(slices.Collect(maps.Values(now.counters)), func(one counter) bool { _, has := one.labels["response_flags"]; return has })
}

// counting reads the counters again and again while a fault is in force.
type counting struct {
	calls calls
	// seen are the counters as they were read last. One that has gone, with its
	// pod, has counted all the same.
	seen map[string]counter
	// total is what there was since the first reading, and hit the marks of it.
	total event.Counted
	hit   map[mark]bool
	// settled is Prometheus' time from which on every request meets the fault.
	settled float64

	// counted is what there was since the first reading with the fault in force
	// everywhere, and reporters tells who has reported it, by namespace.
	counted   event.Counted
	reporters map[string][]string
	readings  int
	done      chan struct{}
}

// newCounting counts from a reading on.
func newCounting(c calls, before reading) *counting {
	return &counting{calls: c, seen: before.counters, hit: map[mark]bool{}, reporters: map[string][]string{}, done: make(chan struct{})}
}

// shortestCounting is the shortest time between two readings: Prometheus hardly
// knows more any sooner.
const shortestCounting = time.Second

// count reads the counters until ctx ends, and records what they say whenever
// that changes.
func (c *counting) count(ctx context.Context, s *session) {
	defer close(c.done)
	every := max(s.experiment.Spec.SteadyState.Interval.Duration, shortestCounting)
	said := -1.0
	for sleep.For(ctx, every) {
		now, err := c.calls.read(ctx, s.Runner, c.calls.query)
		if err != nil {
			continue // the final reading tells what is wrong
		}
		if c.add(now); c.total.Hit != said {
			said = c.total.Hit
			s.record.add(c.total)
		}
	}
}

// add adds up how much each counter has grown since it was read last, and keeps
// apart what was so with the fault in force everywhere.
func (c *counting) add(now reading) {
	inForce := c.readings > 0
	for key, one := range now.counters {
		grown := c.grown(key, one)
		if grown == 0 {
			continue
		}
		for _, one := range c.calls.marks(one.labels) {
			c.hit[one] = true
		}
		count := c.calls.count(one.labels, grown)
		c.total = sum(c.total, count)
		if inForce {
			c.counted = sum(c.counted, count)
			c.reported(one.labels)
		}
	}
	if now.scraped >= c.settled && !math.IsInf(now.scraped, 1) {
		c.readings++
	}
}

// missed gives a kind of fault that has hit nothing, where others have.
func (c *counting) missed() (missed mark, found bool) {
	for _, s := range c.calls.scopes {
		for _, one := range s.expected() {
			if !c.hit[one] {
				return one, true
			}
		}
	}
	return mark{}, false
}

// grown gives how much a counter has grown since it was read last. One that was
// not there before started at 0, and one that shrank was reset to 0 in between;
// but one that was not read later was answered by a replica that is behind.
func (c *counting) grown(key string, now counter) float64 {
	last, known := c.seen[key]
	switch {
	case known && now.at == 0 && now.value <= last.value, known && now.at != 0 && now.at <= last.at:
		return 0
	case known && now.at == 0:
		now.at = last.at
	}
	c.seen[key] = now
	if now.value >= last.value {
		return now.value - last.value
	}
	return now.value
}

// reported remembers who has reported a namespace's calls.
func (c *counting) reported(labels map[string]string) {
	callers := labels["source_workload_namespace"]
	if reporter := labels["reporter"]; !slices.Contains(c.reporters[callers], reporter) {
		c.reporters[callers] = append(c.reporters[callers], reporter)
	}
}

// sum returns the sum of two counts.
func sum(a, b event.Counted) event.Counted {
	return event.Counted{Requests: a.Requests + b.Requests, Hit: a.Hit + b.Hit, Expected: a.Expected + b.Expected}
}

// share compares the requests that were hit with those that were asked for, in
// the time between the first and the last reading under the fault.
func (c *counting) share() (*event.Share, string) {
	if reason := c.calls.untold(); reason != "" {
		return nil, reason
	}
	for callers, reporters := range c.reporters {
		if len(reporters) > 1 {
			return nil, "both proxies and waypoints report calls from " + callers + ", so some may count twice"
		}
	}
	if c.readings < 2 {
		return nil, "Prometheus has not read the counters twice while the fault was in force"
	}
	if c.counted.Requests <= 0 {
		return nil, "there were no requests between two readings of the counters"
	}
	return &event.Share{Wanted: c.counted.Expected / c.counted.Requests, Achieved: c.counted.Hit / c.counted.Requests, Requests: c.counted.Requests}, ""
}

// anyOf gives a regex for a PromQL matcher that takes exactly the given texts.
func anyOf(texts []string) string {
	quoted := make([]string, len(texts))
	for i, text := range texts {
		quoted[i] = regexp.QuoteMeta(text)
	}
	slices.Sort(quoted)
	return strings.Join(slices.Compact(quoted), "|")
}
