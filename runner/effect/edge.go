package effect

import (
	"fmt"
	"slices"
	"strings"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/istio/fields"
	"github.com/squall-chaos/squall/istio/telemetry"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/runner/event"
)

// edge is the calls from one namespace to one host that a plan injects faults
// into, as the callers' side reports them.
type edge struct {
	host, callers string
	// hosts are the values of destination_service for the calls that no fault has
	// diverted. blackholes are the values for those that one has.
	hosts, blackholes []string
	// flags are the response flags of the requests that the faults hit. marks are
	// those that any fault of Squall sets, without those that a fault of the user's
	// own routes sets.
	flags, marks []string
	// wanted is the share of the calls that the faults should hit, 0 to 1. labels
	// are the labels of the pods whose calls they should hit: a pod has all of one
	// of the sets.
	wanted float64
	labels []map[string]string
	// noShare is why the share that was hit cannot be computed; empty if it can.
	noShare string
	// abortsGRPC reports that a fault aborts with a gRPC status.
	abortsGRPC bool
}

func newEdge(d mesh.Decision) edge {
	e := edge{
		host: d.Host, callers: d.Callers, hosts: append([]string{d.Host}, d.Signature.Destinations...), blackholes: d.Signature.Blackholes,
		wanted: d.Injections.Peak().Hit, noShare: noShare(d),
		abortsGRPC: slices.ContainsFunc(d.Injections, experiments.Injection.AbortsGRPC),
	}
	if d.Signature.Aborts {
		e.flags = append(e.flags, telemetry.FlagAborted)
	}
	if d.Signature.Delays {
		e.flags = append(e.flags, telemetry.FlagDelayed)
	}
	e.marks = slices.DeleteFunc([]string{telemetry.FlagAborted, telemetry.FlagDelayed}, func(flag string) bool {
		return !slices.Contains(e.flags, flag) && slices.ContainsFunc(d.Before, func(route map[string]any) bool {
			return fields.Map(route, "fault")[kindOf(flag)] != nil
		})
	})
	for _, i := range d.Injections {
		for _, caller := range i.Callers {
			e.labels = append(e.labels, caller.Labels)
		}
	}
	return e
}

// noShare returns why telemetry cannot tell which calls the faults should have
// hit; empty if it can.
func noShare(d mesh.Decision) string {
	if slices.ContainsFunc(d.Signature.Destinations, func(host string) bool { return host != d.Host }) {
		return "the routes lead to other hosts, which may have other calls too"
	}
	if d.Gateway != nil && !d.Gateway.Alone {
		return "istio_requests_total does not tell the gateway from the other workloads of its namespace"
	}
	for _, i := range d.Injections {
		switch {
		case len(i.Match) > 0:
			return "istio_requests_total does not tell which requests match"
		case i.Target.Port != 0, i.Target.Subset != "":
			return "istio_requests_total does not tell ports and subsets apart"
		case i.PartOfTheTime():
			return "a fault is active for a part of the time"
		case len(d.Injections) > 1 && !slices.EqualFunc(i.Callers, d.Injections[0].Callers, experiments.Caller.Equal):
			return "the faults have different callers"
		}
		for _, caller := range i.Callers {
			for name := range caller.Labels {
				if _, ok := telemetry.PodLabel(name); !ok {
					return fmt.Sprintf("istio_requests_total has no label for the callers' %s", name)
				}
			}
		}
	}
	return ""
}

// selectors returns the PromQL selectors of the edge's counters.
func (e edge) selectors() []string {
	to := telemetry.ToAny(e.hosts)
	selectors := []string{telemetry.Selector(telemetry.Requests, telemetry.BySource, to, telemetry.From(e.callers))}
	if len(e.blackholes) > 0 { // a blackhole takes connections too
		selectors = append(selectors, telemetry.Selector(telemetry.ConnectionsOpened, telemetry.BySource, to, telemetry.From(e.callers)))
	}
	return selectors
}

// has reports whether a counter with these labels counts calls of the edge.
func (e edge) has(labels map[string]string) bool {
	host := labels[telemetry.LabelDestination]
	return labels[telemetry.LabelSourceNamespace] == e.callers && (slices.Contains(e.hosts, host) || slices.Contains(e.blackholes, host))
}

// wants reports whether a counter of the edge counts calls of the pods whose calls
// the faults should hit.
func (e edge) wants(labels map[string]string) bool {
	return slices.ContainsFunc(e.labels, func(wanted map[string]string) bool {
		for name, value := range wanted {
			if label, ok := telemetry.PodLabel(name); !ok || labels[label] != value {
				return false
			}
		}
		return true
	})
}

// signature is how a fault that has hit a request appears in telemetry: faults of
// one kind on the calls to one host cannot be told apart.
type signature struct{ kind, host string }

// kindOf returns the kind of the fault that sets a response flag.
func kindOf(flag string) string {
	if flag == telemetry.FlagAborted {
		return "abort"
	}
	return "delay"
}

// expected returns the signatures of the edge's faults.
func (e edge) expected() []signature {
	var all []signature
	for _, flag := range e.flags {
		all = append(all, signature{kind: kindOf(flag), host: e.host})
	}
	if len(e.blackholes) > 0 {
		all = append(all, signature{kind: "blackhole", host: e.host})
	}
	return all
}

// signatures returns the signatures of the faults that have hit the calls which a
// counter of the edge counts.
func (e edge) signatures(labels map[string]string) []signature {
	var all []signature
	for _, flag := range e.flags {
		if telemetry.HasFlag(labels[telemetry.LabelResponseFlags], flag) {
			all = append(all, signature{kind: kindOf(flag), host: e.host})
		}
	}
	if slices.Contains(e.blackholes, labels[telemetry.LabelDestination]) && !telemetry.Answered(labels) {
		all = append(all, signature{kind: "blackhole", host: e.host})
	}
	return all
}

// isHit reports whether a counter of the edge counts requests that a fault of any
// run has hit.
func (e edge) isHit(labels map[string]string) bool {
	return telemetry.IsDiverted(labels[telemetry.LabelDestination]) && !telemetry.Answered(labels) ||
		slices.ContainsFunc(e.marks, func(flag string) bool { return telemetry.HasFlag(labels[telemetry.LabelResponseFlags], flag) })
}

// edges are all edges of a plan.
type edges []edge

func newEdges(decisions []mesh.Decision) edges {
	all := make(edges, len(decisions))
	for i, d := range decisions {
		all[i] = newEdge(d)
	}
	return all
}

// signatures returns the signatures of the faults that have hit the calls which a
// counter counts. The faults of one edge may send calls to the host of another.
func (all edges) signatures(labels map[string]string) []signature {
	var found []signature
	for _, e := range all {
		if e.has(labels) {
			found = append(found, e.signatures(labels)...)
		}
	}
	return found
}

// abortsGRPC reports whether a counter counts calls of an edge with a fault that aborts
// with a gRPC status.
func (all edges) abortsGRPC(labels map[string]string) bool {
	return slices.ContainsFunc(all, func(e edge) bool { return e.abortsGRPC && e.has(labels) })
}

// isHit reports whether a counter counts requests that a fault of any run has hit.
func (all edges) isHit(labels map[string]string) bool {
	return slices.ContainsFunc(all, func(e edge) bool {
		return labels[telemetry.LabelSourceNamespace] == e.callers && e.isHit(labels)
	})
}

// count returns what the growth of a counter means.
func (all edges) count(labels map[string]string, growth float64) event.Counted {
	var count event.Counted
	if len(all.signatures(labels)) > 0 {
		count.Hit = growth
	}
	i := slices.IndexFunc(all, func(e edge) bool { return e.has(labels) })
	if i >= 0 && all[i].wants(labels) {
		count.Requests, count.Expected = growth, growth*all[i].wanted
	}
	return count
}

// noShare returns why the share that was hit cannot be computed; empty if it can.
func (all edges) noShare() string {
	for _, e := range all {
		if e.noShare != "" {
			return e.noShare
		}
	}
	return ""
}

// lackFlags reports whether the plan needs response flags and there are counters,
// but none with that label.
func (all edges) lackFlags(now Reading) bool {
	needed := slices.ContainsFunc(all, func(e edge) bool { return len(e.flags) > 0 })
	if !needed || len(now.Counters) == 0 {
		return false
	}
	for _, c := range now.Counters {
		if _, has := c.labels[telemetry.LabelResponseFlags]; has {
			return false
		}
	}
	return true
}

// The queries of a plan's counters.
type queries struct {
	// counters returns the counters, times when Prometheus scraped each of them last,
	// and targets when it scraped each proxy of the callers last. before returns the
	// counters of the last hour, so that a caller whose scrape fails at the start of
	// the run is not taken for a new one.
	counters, before, times, targets string
}

// timeLabel marks series whose value is the time of a scrape.
const (
	timeLabel     = "squall"
	timeOfCounter = "scraped"
	timeOfTarget  = "target"
)

// or joins queries of which the results have different labels.
const or = " or "

func (all edges) queries() queries {
	var counters, before, times, callers []string
	for _, e := range all {
		callers = append(callers, e.callers)
		for _, selector := range e.selectors() {
			// An instant query looks back five minutes too, but not past a failed
			// scrape: a counter that seems new would count from zero.
			counters = append(counters, "last_over_time("+selector+"[5m])")
			before = append(before, "last_over_time("+selector+"[1h])")
			times = append(times, marked("timestamp("+selector+")", timeOfCounter))
		}
	}
	proxies := telemetry.Selector(telemetry.Requests, telemetry.BySource, telemetry.FromAny(callers))
	return queries{
		counters: strings.Join(counters, or), before: strings.Join(before, or), times: strings.Join(times, or),
		targets: marked(fmt.Sprintf("max by (%s, %s) (timestamp(%s))", labelJob, labelInstance, proxies), timeOfTarget),
	}
}

// marked returns a query for the same series with a value of timeLabel.
func marked(promql, value string) string {
	return fmt.Sprintf(`label_replace(%s, %q, %q, "", ".*")`, promql, timeLabel, value)
}
