package mesh

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/istio/host"
)

// renderer draws the object that carries the faults of one group: the routes
// that are in force, with each fault on exactly the requests that it is for.
type renderer struct {
	Snapshot
	*group
	inForce
	listener
	place      placement
	experiment string
	blackholes *blackholes
	trace      Trace
	clones     int    // how many names were given to clones of the object
	aims       []*aim // the conditions of the state that is rendered
	// diverted tells which injections, by their number, some rule for connections
	// was diverted for in the state that is rendered.
	diverted map[int]bool
}

// render gives the object in the state in which the given injections are active.
//
// A base for the exact host is rendered for the experiment's callers and ports
// only: where the object has no route for a proxy, istiod uses the base as
// before. Next to a wildcard that would not be so, and every route is kept.
func (r *renderer) render(active []injection) (*unstructured.Unstructured, error) {
	object := r.newVirtualService(r.host, r.callers, r.place.namespace)
	r.diverted = map[int]bool{}
	spec := map[string]any{}
	if r.base != nil {
		if revision := r.base.GetLabels()[revisionLabel]; revision != "" {
			object.SetLabels(map[string]string{revisionLabel: revision})
		}
		for field, value := range mapAt(r.base.Object, "spec") {
			// Rules for connections stay with the original, where istiod goes on
			// to find them.
			if !slices.Contains([]string{"http", "tcp", "tls", "gateways"}, field) {
				spec[field] = runtime.DeepCopyJSONValue(value)
			}
		}
	}
	spec["hosts"] = []any{r.host}
	spec["exportTo"] = []any{r.place.exportTo}
	spec["http"] = r.copyRoutes()
	if r.base != nil && r.base.GetNamespace() != r.place.namespace {
		qualifyDestinations(spec, r.base.GetNamespace(), r.ClusterDomain)
	}
	routes, err := r.guarded(mapsAt(spec, "http"))
	if err != nil {
		return nil, err
	}
	if spec["http"], err = r.faulted(routes, active); err != nil {
		return nil, err
	}
	if err := r.renderConnections(spec, active); err != nil {
		return nil, err
	}
	if err := r.checkReached(active); err != nil {
		return nil, err
	}
	if len(mapsAt(spec, "http")) == 0 {
		delete(spec, "http")
		if spec["tcp"] == nil && spec["tls"] == nil {
			// Istio wants a route, and there is none to divert now: one that no
			// request takes.
			spec["http"] = []any{map[string]any{
				"match": []any{map[string]any{"gateways": []any{meshGateway}, "port": unusedPort}},
				"route": []any{map[string]any{"destination": map[string]any{"host": r.host}}},
			}}
		}
	}
	object.Object["spec"] = spec
	return object, nil
}

// unusedPort is a port that no Service has: what is for it is for nobody.
const unusedPort = int64(65535)

// copyRoutes gives the http routes in force, or the one that istiod makes by
// default. That one names no port, so that each port goes to itself.
func (r *renderer) copyRoutes() []any {
	if r.base == nil {
		return []any{map[string]any{
			"name":  "default",
			"route": []any{map[string]any{"destination": map[string]any{"host": r.host}}},
		}}
	}
	copied := make([]any, len(r.routes))
	for i, route := range r.routes {
		copied[i] = runtime.DeepCopyJSON(route)
	}
	return copied
}

// shown gives http routes as a plan compares them: with hosts that mean the same
// in every namespace.
func (r *renderer) shown(routes []any, namespace string) []map[string]any {
	copied := map[string]any{"http": runtime.DeepCopyJSONValue(routes)}
	qualifyDestinations(copied, namespace, r.ClusterDomain)
	return mapsAt(copied, "http")
}

// guarded narrows routes to the callers and ports that the experiment means.
func (r *renderer) guarded(routes []map[string]any) ([]map[string]any, error) {
	guard, narrowed, err := r.guardHere()
	if !narrowed || err != nil {
		return routes, err
	}
	var kept []map[string]any
	for _, route := range routes {
		match, err := narrow(mapsAt(route, "match"), guard, r.callers)
		if err != nil {
			return nil, err
		}
		if len(match) > 0 {
			route["match"] = mapsToAny(match)
			kept = append(kept, route)
		}
	}
	return kept, nil
}

// guardHere gives the group's guard as far as the base lets it be used. Where
// no base stands for the host, the target's ports belong to it: port 80 is the
// one port on which istiod routes a VirtualService's hosts without a Service
// there (httproute.go, BuildSidecarOutboundVirtualHosts), and calls that pass
// through today must go on to do so. A guard that is narrowed to nothing leaves
// no http route at all.
func (r *renderer) guardHere() (guard []condition, narrowed bool, err error) {
	guard = r.guard()
	if r.base != nil {
		return guard, len(guard) > 0 && !r.base.wildcard(), nil
	}
	var ports []condition
	for _, port := range r.blackholes.known {
		if port.hasHTTPRoutes() {
			ports = append(ports, condition{"port": port.Number})
		}
	}
	on80 := slices.ContainsFunc(ports, func(c condition) bool { return c["port"] == int64(80) })
	switch {
	case on80:
		return guard, len(guard) > 0, nil
	case len(guard) == 0:
		return ports, true, nil
	default:
		guard, err = intersect(guard, ports, r.callers)
		return guard, true, err
	}
}

// aim is one condition of an injection while the routes are gone through.
type aim struct {
	injection injection
	condition condition
	reached   bool // a route carries the fault for it
	closed    bool // an earlier route takes all of its requests
}

// aimsOf lists the conditions of injections; one without any takes everything.
func aimsOf(active []injection) []*aim {
	var aims []*aim
	for _, one := range active {
		if len(one.conditions) == 0 {
			aims = append(aims, &aim{injection: one, condition: condition{}})
		}
		for _, c := range one.conditions {
			aims = append(aims, &aim{injection: one, condition: c})
		}
	}
	return aims
}

// segment is a part of a route's requests, and the injections that are for it.
type segment struct {
	match      []condition
	injections []injection
}

// faulted gives routes with the injections on exactly the requests that their
// conditions take, and everything else as it is.
//
// Routes are matched first to last, so a clone that carries a fault stands
// directly before the original that it narrows: no clone takes a request that
// an earlier original would have taken.
func (r *renderer) faulted(routes []map[string]any, active []injection) ([]any, error) {
	aims := aimsOf(active)
	r.clones = 0
	names := map[string]bool{}
	for _, route := range routes {
		name, _ := route["name"].(string)
		names[name] = true
	}
	var out []any
	for _, route := range routes {
		segments, err := r.split(route, active, aims)
		if err != nil {
			return nil, err
		}
		for i, s := range segments {
			drawn := route
			if i < len(segments)-1 {
				drawn = maps.Clone(route) // what is inside is replaced, never changed
				drawn["match"] = mapsToAny(s.match)
				drawn["name"] = r.cloneName(names)
			}
			if err := r.apply(drawn, s.injections); err != nil {
				return nil, err
			}
			out = append(out, drawn)
		}
		for _, aim := range aims {
			aim.closed = aim.closed || takesAll(route, aim.condition, r.callers)
		}
	}
	r.aims = aims
	return out, nil
}

// checkReached refuses when a condition meets no route that can carry its
// fault: the fault would silently do nothing there. A blackhole may be for
// connections alone.
func (r *renderer) checkReached(active []injection) error {
	for _, s := range active {
		onHTTP := s.Fault.Blackhole == nil || r.blackholes.onHTTP(s)
		if !onHTTP && !r.diverted[s.Number] {
			return refuse(NothingToCarry, "compare target.subset with the destinations of the VirtualService", "no rule for connections of %s forwards them to subset %s of %s", describeBase(r.base), s.Target.Subset, r.host)
		}
	}
	for _, aim := range r.aims {
		if aim.reached || aim.injection.Fault.Blackhole != nil && !r.blackholes.onHTTP(aim.injection) {
			continue
		}
		if subset := aim.injection.Target.Subset; subset != "" {
			return refuse(NothingToCarry, "compare target.subset with the destinations of the VirtualService", "no http route of %s forwards requests to subset %s of %s", describeBase(r.base), subset, r.host)
		}
		return refuse(NothingToCarry, "compare spec.match and spec.callers with the routes of the VirtualService",
			"no http route of %s both forwards requests and meets %s", describeBase(r.base), describeCondition(aim.condition))
	}
	return nil
}

// split cuts the requests of a route into those that different sets of injections
// are for, the more specific first; the last segment is the route itself.
func (r *renderer) split(route map[string]any, active []injection, aims []*aim) ([]segment, error) {
	matches := mapsAt(route, "match")
	if len(matches) == 0 {
		matches = []map[string]any{{}}
	}
	whole, err := intersect(matches, []condition{{}}, r.callers)
	if err != nil {
		return nil, err
	}
	segments := []segment{{match: whole}}
	if len(whole) == 0 {
		return segments, nil // for gateways only
	}
	for _, one := range active {
		if !r.canHit(one, route) {
			continue
		}
		var next []segment
		for _, s := range segments {
			if one.addsNothingTo(s.injections) {
				next = append(next, s)
				continue
			}
			var hit []condition
			for _, aim := range aims {
				if aim.closed || !aim.injection.same(one) {
					continue
				}
				both, err := intersect(s.match, []condition{aim.condition}, r.callers)
				if err != nil {
					return nil, err
				}
				aim.reached = aim.reached || len(both) > 0
				hit = append(hit, both...)
			}
			hit = simplify(hit)
			with := append(slices.Clone(s.injections), one)
			switch {
			case len(hit) == 0:
				next = append(next, s)
			case sameConditions(hit, s.match):
				next = append(next, segment{s.match, with})
			default:
				next = append(next, segment{hit, with}, s)
			}
		}
		segments = next
		if needed := countConditions(segments); needed > max(maxConditions, len(matches)) {
			return nil, tooManyConditions(needed)
		}
	}
	return segments, nil
}

// addsNothingTo reports whether others already do all that an injection does. Of
// two that would do the same to a request, the first of the file does it, as
// the first of Istio's routes would.
func (s injection) addsNothingTo(others []injection) bool {
	has := func(does func(injection) bool) bool { return slices.ContainsFunc(others, does) }
	return s.Fault.Blackhole == nil &&
		(s.Fault.Abort == nil || has(func(o injection) bool { return o.Fault.Abort != nil })) &&
		(s.Fault.Delay == nil || has(func(o injection) bool { return o.Fault.Delay != nil }))
}

func countConditions(segments []segment) int {
	needed := 0
	for _, s := range segments[:len(segments)-1] {
		needed += len(s.match)
	}
	return needed
}

// same reports whether two injections are the same one.
func (s injection) same(other injection) bool { return s.Number == other.Number }

func sameConditions(a, b []condition) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(c condition) bool {
		return !slices.ContainsFunc(b, func(other condition) bool { return reflect.DeepEqual(c, other) })
	})
}

// takesAll reports whether a route takes every request that a condition takes,
// so that none of them gets past it.
func takesAll(route map[string]any, c condition, namespace string) bool {
	matches := mapsAt(route, "match")
	return len(matches) == 0 || slices.ContainsFunc(matches, func(m map[string]any) bool {
		m = withoutTruisms(m, namespace)
		for field := range m {
			if field != "gateways" && c[field] == nil {
				return false
			}
		}
		// One that was not expressible is not known to take all.
		both, ok, err := conjoin(m, c, namespace)
		return err == nil && ok && reflect.DeepEqual(withoutTruisms(both, namespace), withoutTruisms(c, namespace))
	})
}

// withoutTruisms gives a match without the conditions that every request of the
// callers meets. Istiod reads the same uris as a catch-all
// (istio.io/istio/pilot/pkg/networking/core/route, IsCatchAllRoute).
func withoutTruisms(m map[string]any, namespace string) map[string]any {
	m = maps.Clone(m)
	for _, label := range []string{"name", "statPrefix"} {
		delete(m, label)
	}
	if uri := mapAt(m, "uri"); m["uri"] != nil && (len(uri) == 0 || uri["prefix"] == "/" || uri["regex"] == ".*") {
		delete(m, "uri")
	}
	if m["uri"] == nil {
		delete(m, "ignoreUriCase")
	}
	if m["sourceNamespace"] == namespace && m["gateways"] == nil {
		delete(m, "sourceNamespace")
	}
	for field, value := range m {
		if all, is := value.(map[string]any); is && len(all) == 0 {
			delete(m, field)
		}
	}
	return m
}

// canHit reports whether a route can carry a one. Redirects and direct
// responses refuse a fault (istio.io/istio/pkg/config/validation,
// validateHTTPRouteConflict) and have no destination.
func (r *renderer) canHit(s injection, route map[string]any) bool {
	if len(mapsAt(route, "route")) == 0 || route["redirect"] != nil || route["directResponse"] != nil {
		return false
	}
	if s.Fault.Blackhole != nil && !r.blackholes.onHTTP(s) {
		return false
	}
	return s.Target.Subset == "" || slices.ContainsFunc(mapsAt(route, "route"), func(weighted map[string]any) bool { return r.isTarget(s, weighted) })
}

// apply puts the injections on a route.
func (r *renderer) apply(route map[string]any, injections []injection) error {
	own := mapAt(route, "fault")
	fault := maps.Clone(own)
	for _, s := range injections {
		for kind, rendered := range renderFault(s.Injection) {
			switch {
			case own[kind] != nil:
				return refuse(ExistingFault, "remove that fault first; two of a kind cannot be told apart", "an http route of %s carries a fault already (%s)", describeBase(r.base), kind)
			case fault[kind] != nil:
				continue // the first of the file
			case fault == nil:
				fault = map[string]any{}
			}
			fault[kind] = rendered
		}
		r.traceInjection(s, route)
	}
	if fault != nil {
		route["fault"] = fault
	}
	return r.blackholes.divert(route, injections, r.isTarget)
}

// isTarget reports whether an injection means a destination of a route: any, unless
// the experiment names a subset.
func (r *renderer) isTarget(s injection, weighted map[string]any) bool {
	if s.Target.Subset == "" {
		return true
	}
	destination := mapAt(weighted, "destination")
	name, _ := destination["host"].(string)
	return destination["subset"] == s.Target.Subset && strings.EqualFold(host.Qualify(name, r.place.namespace, r.ClusterDomain), r.host)
}

// traceInjection notes how the requests of an injection look in telemetry.
func (r *renderer) traceInjection(s injection, route map[string]any) {
	r.trace.Aborts = r.trace.Aborts || s.Fault.Abort != nil
	r.trace.Delays = r.trace.Delays || s.Fault.Delay != nil
	for _, weighted := range mapsAt(route, "route") {
		name, _ := mapAt(weighted, "destination")["host"].(string)
		name = host.Normalize(host.Qualify(name, r.place.namespace, r.ClusterDomain))
		if !slices.Contains(r.trace.Destinations, name) {
			r.trace.Destinations = append(r.trace.Destinations, name)
		}
	}
}

// describeCondition says in words which requests are meant.
func describeCondition(c condition) string {
	if len(c) == 0 {
		return "the experiment's callers"
	}
	encoded, err := json.Marshal(c)
	if err != nil {
		return "the experiment's callers, match and port"
	}
	return string(encoded)
}

// checkForeignFaults refuses faults of others that telemetry could not tell
// from the experiment's own, when its effect must be proven: those on routes
// that the callers' proxies have.
func checkForeignFaults(now inForce, g *group, callers []proxies) error {
	for i, route := range now.routes {
		own := mapAt(route, "fault")
		for _, s := range g.injections {
			if own["abort"] == nil || s.Fault.Abort == nil {
				if own["delay"] == nil || s.Fault.Delay == nil {
					continue
				}
			}
			if !now.reaches(i, callers) {
				continue
			}
			return refuse(ExistingFault, "remove that fault first, or set effect.minRequests to 0", "VirtualService %s carries a fault of the same kind, so telemetry could not tell whose requests were hit", now.name())
		}
	}
	return nil
}

// reaches reports whether some of the callers may have a request that gets to a
// route in force: istiod makes it for them, and no route before it takes
// everything of theirs.
func (f inForce) reaches(route int, callers []proxies) bool {
	return slices.ContainsFunc(callers, func(p proxies) bool {
		if p.coveredBy(f.routes[route:route+1]) == none {
			return false
		}
		c := condition{}
		if len(p.labels) > 0 {
			c["sourceLabels"] = jsonMap(p.labels)
		}
		return !slices.ContainsFunc(f.routes[:route], func(earlier map[string]any) bool { return takesAll(earlier, c, p.namespace) })
	})
}

// renderFault writes an abort and a delay in Istio's words. The percentage is
// always explicit: Istio reads an omitted one as 0.
func renderFault(i experiments.Injection) map[string]any {
	f := i.Fault
	percentage := func() map[string]any { return map[string]any{"value": i.Percentage} }
	fault := map[string]any{}
	if f.Abort != nil {
		abort := map[string]any{"percentage": percentage()}
		if f.Abort.GRPCStatus != "" {
			abort["grpcStatus"] = f.Abort.GRPCStatus
		} else {
			abort["httpStatus"] = int64(f.Abort.HTTPStatus)
		}
		fault["abort"] = abort
	}
	if f.Delay != nil {
		// Protobuf's JSON knows seconds only. Whole numbers, because a float
		// would not always come out as whole milliseconds.
		delay := f.Delay.FixedDelay.Milliseconds()
		fault["delay"] = map[string]any{"fixedDelay": fmt.Sprintf("%d.%03ds", delay/1000, delay%1000), "percentage": percentage()}
	}
	return fault
}

// cloneName gives a route name that stands for the experiment in access logs
// and that no other route has.
func (r *renderer) cloneName(taken map[string]bool) string {
	for {
		r.clones++
		name := "squall-" + r.experiment
		if r.clones > 1 {
			name += "-" + strconv.Itoa(r.clones)
		}
		if !taken[name] {
			return name
		}
	}
}

func mapsToAny(maps []map[string]any) []any {
	out := make([]any, len(maps))
	for i, m := range maps {
		out[i] = m
	}
	return out
}

// qualifyDestinations completes the short host names of a spec that moves to
// another namespace, where they would mean other Services.
func qualifyDestinations(spec map[string]any, namespace, domain string) {
	qualifyHost := func(destination map[string]any) {
		if name, ok := destination["host"].(string); ok {
			destination["host"] = host.Qualify(name, namespace, domain)
		}
	}
	for _, protocol := range []string{"http", "tcp", "tls"} {
		for _, route := range mapsAt(spec, protocol) {
			for _, weighted := range mapsAt(route, "route") {
				qualifyHost(mapAt(weighted, "destination"))
			}
			if protocol != "http" {
				continue
			}
			if mirror := mapAt(route, "mirror"); mirror != nil {
				qualifyHost(mirror)
			}
			for _, mirror := range mapsAt(route, "mirrors") {
				qualifyHost(mapAt(mirror, "destination"))
			}
		}
	}
}
