package runner

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/mesh"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// calls counts the calls that a run may disturb, and those of them that it
// hits, in what the callers' proxies report.
type calls struct {
	// query gives the counters of all those calls, and scraped when the one
	// that is furthest behind was read.
	query, scraped string
	scopes         []scope
}

// scope is the calls from one namespace to one host.
type scope struct {
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
	var counters, scrapes []string
	for _, d := range planned.Decisions {
		faults := planned.Snapshot.Striking(planned.Experiment.Spec, d.Host, d.Callers)
		s := scope{callers: d.Callers, hosts: append([]string{d.Host}, d.Trace.Destinations...), blackholes: d.Trace.Blackholes}
		if d.Trace.Aborts {
			s.flags = append(s.flags, "FI")
		}
		if d.Trace.Delays {
			s.flags = append(s.flags, "DI")
		}
		s.asked, _ = Shares(faults)
		s.untold = untold(d, faults)
		for _, f := range faults {
			for _, caller := range f.Callers {
				s.labels = append(s.labels, caller.Labels)
			}
		}
		c.scopes = append(c.scopes, s)
		selector := callsSelector(d.Callers, slices.Concat(s.hosts, s.blackholes))
		scrapes = append(scrapes, "timestamp("+selector+")")
		counters = append(counters, "last_over_time("+selector+"[5m])")
		if len(s.blackholes) > 0 {
			connections := strings.Replace(callsSelector(d.Callers, s.blackholes), "istio_requests_total", "istio_tcp_connections_opened_total", 1)
			counters = append(counters, "last_over_time("+connections+"[5m])")
		}
	}
	// An instant query looks back five minutes too, but not past a scrape that
	// failed: a counter that seems new would count from zero.
	c.query = strings.Join(counters, " or ")
	c.scraped = "min(" + strings.Join(scrapes, " or ") + ")"
	return c
}

// callsSelector selects the counters of the calls from one namespace to some
// hosts, as the callers' side reports them: an aborted request never arrives
// anywhere else.
func callsSelector(callers string, hosts []string) string {
	return fmt.Sprintf(`istio_requests_total{reporter=~"source|waypoint",destination_service=~%q,source_workload_namespace=%q}`, anyOf(hosts), callers)
}

// untold says why telemetry cannot tell which calls faults were to hit; it is
// empty when it can.
func untold(d mesh.Decision, faults []experiments.Fault) string {
	if slices.ContainsFunc(d.Trace.Destinations, func(host string) bool { return host != d.Host }) {
		return "the routes lead to other hosts, which may have other calls too"
	}
	for _, f := range faults {
		switch {
		case len(f.Match) > 0:
			return "istio_requests_total does not tell which requests match"
		case f.Target.Port != 0, f.Target.Subset != "":
			return "istio_requests_total does not tell ports and subsets apart"
		case f.StartAfter.Duration > 0, f.Duration.Duration > 0:
			return "a fault is in force for a part of the time"
		case len(faults) > 1 && !slices.EqualFunc(f.Callers, faults[0].Callers, func(a, b experiments.Caller) bool { return fmt.Sprint(a) == fmt.Sprint(b) }):
			return "the faults have different callers"
		}
		for _, caller := range f.Callers {
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

// hit reports whether a counter of the scope counts calls that a fault has hit.
// Envoy lists the flags of a request with commas.
func (s scope) hit(labels map[string]string) bool {
	return slices.Contains(s.blackholes, labels["destination_service"]) ||
		slices.ContainsFunc(strings.Split(labels["response_flags"], ","), func(flag string) bool { return slices.Contains(s.flags, flag) })
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
	scraped float64
	samples []steadystate.Sample
}

// read asks for the counters. When there are none, scraped is infinite: nothing
// is behind.
func (c calls) read(ctx context.Context, r Runner) (reading, error) {
	scraped, err := r.query(ctx, c.scraped)
	if err != nil {
		return reading{}, err
	}
	now := reading{scraped: math.Inf(1)}
	if len(scraped) > 0 {
		now.scraped = scraped[0].Value
	}
	now.samples, err = r.query(ctx, c.query)
	return now, err
}

// between adds up how much each counter grew. A counter that was not there
// before started at 0, and one that shrank was reset to 0 in between.
func (c calls) between(before, after reading) (count Count) {
	start := map[string]float64{} // by the labels, which fmt prints in order
	for _, s := range before.samples {
		start[fmt.Sprint(s.Labels)] = s.Value
	}
	for _, sample := range after.samples {
		grown := sample.Value
		if from := start[fmt.Sprint(sample.Labels)]; grown >= from {
			grown -= from
		}
		i := slices.IndexFunc(c.scopes, func(s scope) bool { return s.has(sample.Labels) })
		if i < 0 {
			continue
		}
		s := c.scopes[i]
		if s.hit(sample.Labels) {
			count.Hit += grown
		}
		if s.asks(sample.Labels) {
			count.Requests += grown
			count.Expected += grown * s.asked
		}
	}
	return count
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
	return slices.ContainsFunc(c.scopes, func(s scope) bool { return len(s.flags) > 0 }) && len(now.samples) > 0 &&
		!slices.ContainsFunc(now.samples, func(s steadystate.Sample) bool { _, has := s.Labels["response_flags"]; return has })
}

// counting reads the counters again and again while a fault is in force.
type counting struct {
	calls  calls
	before reading
	// settled is Prometheus' time from which on every request meets the fault.
	settled float64

	// last is the last reading with the fault in force everywhere, and counted
	// what there was since the first such.
	last     *reading
	counted  Count
	readings int
	done     chan struct{}
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
	for pause(ctx, every) {
		now, err := c.calls.read(ctx, s.Runner)
		if err != nil {
			continue // the final reading tells what is wrong
		}
		if count := c.calls.between(c.before, now); count.Hit != said {
			said = count.Hit
			s.record.add(EventCounted, count)
		}
		c.add(now)
	}
}

// add adds a reading, if the fault was in force everywhere before it.
func (c *counting) add(now reading) {
	if now.scraped < c.settled || math.IsInf(now.scraped, 1) {
		return
	}
	if c.last != nil {
		grown := c.calls.between(*c.last, now)
		c.counted.Requests += grown.Requests
		c.counted.Hit += grown.Hit
		c.counted.Expected += grown.Expected
	}
	c.last = &now
	c.readings++
}

// share compares the requests that were hit with those that were asked for, in
// the time between the first and the last reading under the fault.
func (c *counting) share() (*Share, string) {
	if reason := c.calls.untold(); reason != "" {
		return nil, reason
	}
	if c.readings < 2 {
		return nil, "Prometheus has not read the counters twice while the fault was in force"
	}
	if c.counted.Requests <= 0 {
		return nil, "there were no requests between two readings of the counters"
	}
	return &Share{Asked: c.counted.Expected / c.counted.Requests, Achieved: c.counted.Hit / c.counted.Requests, Requests: c.counted.Requests}, ""
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
