package render

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/istio/fields"
	"github.com/squall-chaos/squall/istio/host"
	"github.com/squall-chaos/squall/istio/routing"
	"github.com/squall-chaos/squall/mesh/match"
	"github.com/squall-chaos/squall/mesh/refusal"
)

// aim is one condition of an injection, and what the routes so far do with its
// requests.
type aim struct {
	injection Injection
	condition match.Condition
	reached   bool // a route carries the fault for it
	closed    bool // an earlier route matches all of its requests
}

// aimsOf returns the conditions of injections; an injection without conditions has
// one that matches every request.
func aimsOf(active []Injection) []*aim {
	var aims []*aim
	for _, one := range active {
		if len(one.Conditions) == 0 {
			aims = append(aims, &aim{injection: one, condition: match.Condition{}})
		}
		for _, c := range one.Conditions {
			aims = append(aims, &aim{injection: one, condition: c})
		}
	}
	return aims
}

// segment is a part of a route's requests, and the injections for it.
type segment struct {
	match      []match.Condition
	injections []Injection
}

// faulted returns routes with the injections on exactly the requests that their
// conditions match, and everything else unchanged.
//
// Routes are matched in order, so a clone that carries a fault comes directly
// before the original that it narrows: no clone matches a request that an earlier
// original would have matched.
func (r *renderer) faulted(routes []map[string]any, active []Injection) ([]any, error) {
	aims := aimsOf(active)
	r.clones = 0
	names := map[string]bool{}
	for _, route := range routes {
		name, _ := route["name"].(string)
		names[name] = true
	}
	var out []any
	for i, route := range routes {
		if r.bases != nil {
			r.now.Base = r.bases[i]
		}
		segments, err := r.split(route, active, aims)
		if err != nil {
			return nil, err
		}
		for n, s := range segments {
			clone := route
			if n < len(segments)-1 {
				clone = maps.Clone(route) // nested values are replaced, never changed
				clone["match"] = fields.List(s.match)
				clone["name"] = r.cloneName(names)
			}
			if err := r.apply(clone, s.injections); err != nil {
				return nil, err
			}
			out = append(out, clone)
		}
		for _, aim := range aims {
			aim.closed = aim.closed || match.TakesAll(route, aim.condition, r.group.Callers)
		}
	}
	r.aims = aims
	return out, nil
}

// checkReached refuses if there is a condition without a route that can carry its
// fault, which would silently have no effect there. A blackhole may be for
// connections only.
func (r *renderer) checkReached(active []Injection) error {
	for _, s := range active {
		onHTTP := s.Fault.Blackhole == nil || r.blackholes.onHTTP(s)
		if !onHTTP && !r.diverted[s.Number] {
			return refusal.New(refusal.NothingToCarry, "compare target.subset with the destinations of the VirtualService", "no TCP or TLS route of %s forwards connections to subset %s of %s", DescribeBase(r.now.Base), s.Target.Subset, r.group.Host)
		}
	}
	for _, aim := range r.aims {
		if aim.reached || aim.injection.Fault.Blackhole != nil && !r.blackholes.onHTTP(aim.injection) {
			continue
		}
		if subset := aim.injection.Target.Subset; subset != "" {
			return refusal.New(refusal.NothingToCarry, "compare target.subset with the destinations of the VirtualService", "no http route of %s forwards requests to subset %s of %s", DescribeBase(r.now.Base), subset, r.group.Host)
		}
		return refusal.New(refusal.NothingToCarry, "compare spec.match and spec.callers with the routes of the VirtualService",
			"no http route of %s both forwards requests and meets %s", DescribeBase(r.now.Base), describeCondition(aim.condition))
	}
	return nil
}

// split divides the requests of a route by the sets of injections that are for
// them, the more specific first; the last segment is the route itself.
func (r *renderer) split(route map[string]any, active []Injection, aims []*aim) ([]segment, error) {
	matches := fields.Maps(route, "match")
	if len(matches) == 0 {
		matches = []map[string]any{{}}
	}
	whole, err := match.Intersect(matches, []match.Condition{{}}, r.group.Callers)
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
			var hit []match.Condition
			for _, aim := range aims {
				if aim.closed || !aim.injection.same(one) {
					continue
				}
				both, err := match.Intersect(s.match, []match.Condition{aim.condition}, r.group.Callers)
				if err != nil {
					return nil, err
				}
				aim.reached = aim.reached || len(both) > 0
				hit = append(hit, both...)
			}
			hit = match.Simplify(hit)
			with := append(slices.Clone(s.injections), one)
			switch {
			case len(hit) == 0:
				next = append(next, s)
			case match.Same(hit, s.match):
				next = append(next, segment{match: s.match, injections: with})
			default:
				next = append(next, segment{match: hit, injections: with}, s)
			}
		}
		segments = next
		if needed := countConditions(segments); needed > max(match.Max, len(matches)) {
			return nil, match.TooMany(needed)
		}
	}
	return segments, nil
}

// addsNothingTo reports whether others already do everything that an injection does.
// Of two that would do the same to a request, the first one in the file does it, as
// with Istio's routes.
func (s Injection) addsNothingTo(others []Injection) bool {
	has := func(does func(Injection) bool) bool { return slices.ContainsFunc(others, does) }
	return s.Fault.Blackhole == nil &&
		(s.Fault.Abort == nil || has(func(o Injection) bool { return o.Fault.Abort != nil })) &&
		(s.Fault.Delay == nil || has(func(o Injection) bool { return o.Fault.Delay != nil }))
}

func countConditions(segments []segment) int {
	needed := 0
	for _, s := range segments[:len(segments)-1] {
		needed += len(s.match)
	}
	return needed
}

// same reports whether two injections are the same.
func (s Injection) same(other Injection) bool { return s.Number == other.Number }

// canHit reports whether a route can carry an injection. Redirects and direct
// responses cannot have a fault (istio.io/istio/pkg/config/validation,
// validateHTTPRouteConflict), and have no destination.
func (r *renderer) canHit(s Injection, route map[string]any) bool {
	if len(fields.Maps(route, "route")) == 0 || route["redirect"] != nil || route["directResponse"] != nil {
		return false
	}
	if s.Fault.Blackhole != nil && !r.blackholes.onHTTP(s) {
		return false
	}
	return s.Target.Subset == "" && r.group.Gateway == nil || slices.ContainsFunc(fields.Maps(route, "route"), func(weighted map[string]any) bool { return r.isTarget(s, weighted) })
}

// apply adds the injections to a route.
func (r *renderer) apply(route map[string]any, injections []Injection) error {
	own := fields.Map(route, "fault")
	fault := maps.Clone(own)
	for _, s := range injections {
		if err := checkMixed(r, s, route); err != nil {
			return err
		}
		for kind, rendered := range renderFault(s.Injection) {
			switch {
			case own[kind] != nil:
				return refusal.New(refusal.ExistingFault, "remove that fault first; two of a kind cannot be told apart", "an http route of %s already has a fault (%s)", DescribeBase(r.now.Base), kind)
			case fault[kind] != nil:
				continue // the first of the file
			case fault == nil:
				fault = map[string]any{}
			}
			fault[kind] = rendered
		}
		r.sign(s, route)
	}
	if fault != nil {
		route["fault"] = fault
	}
	return r.blackholes.divert(route, injections, r.isTarget)
}

// isTarget reports whether an injection is for a destination of a route: any, unless
// the experiment names a subset. A gateway routes to many hosts, so there the destination
// is the target.
func (r *renderer) isTarget(s Injection, weighted map[string]any) bool {
	if r.group.Gateway != nil {
		return leadsTo(r, s, fields.Map(weighted, "destination"))
	}
	if s.Target.Subset == "" {
		return true
	}
	destination := fields.Map(weighted, "destination")
	name, _ := destination["host"].(string)
	return destination["subset"] == s.Target.Subset && strings.EqualFold(host.Qualify(name, r.place.Namespace, r.mesh.ClusterDomain), r.group.Host)
}

// sign adds to the signature how the requests of an injection look in telemetry.
func (r *renderer) sign(s Injection, route map[string]any) {
	r.signature.Aborts = r.signature.Aborts || s.Fault.Abort != nil
	r.signature.Delays = r.signature.Delays || s.Fault.Delay != nil
	for _, weighted := range fields.Maps(route, "route") {
		if r.group.Gateway != nil && !r.isTarget(s, weighted) {
			continue
		}
		name, _ := fields.Map(weighted, "destination")["host"].(string)
		name = host.Normalize(host.Qualify(name, r.place.Namespace, r.mesh.ClusterDomain))
		if !slices.Contains(r.signature.Destinations, name) {
			r.signature.Destinations = append(r.signature.Destinations, name)
		}
	}
}

// describeCondition returns a condition in words.
func describeCondition(c match.Condition) string {
	if len(c) == 0 {
		return "the experiment's callers"
	}
	encoded, err := json.Marshal(c)
	if err != nil {
		return "the experiment's callers, match and port"
	}
	return string(encoded)
}

// CheckForeignFaults refuses faults of other users that telemetry could not tell
// from the experiment's, if its effect must be proven: those on routes that the
// callers' requests can reach.
func CheckForeignFaults(now routing.Effective, g *Group, callers []routing.Proxies) error {
	for i, route := range now.Routes {
		own := fields.Map(route, "fault")
		for _, s := range g.Injections {
			if own["abort"] == nil || s.Fault.Abort == nil {
				if own["delay"] == nil || s.Fault.Delay == nil {
					continue
				}
			}
			if !reaches(now, i, callers) {
				continue
			}
			return refusal.New(refusal.ExistingFault, "remove that fault first, or set effect.minRequests to 0", "VirtualService %s has a fault of the same kind, so telemetry could not tell which of the two hit a request", now.Base.Name())
		}
	}
	return nil
}

// reaches reports whether requests of some of the callers can reach an effective
// route: istiod generates it for them, and no route before it matches all of their
// requests.
func reaches(now routing.Effective, route int, callers []routing.Proxies) bool {
	return slices.ContainsFunc(callers, func(p routing.Proxies) bool {
		if p.CoveredBy(now.Routes[route:route+1]) == routing.None {
			return false
		}
		c := match.Condition{}
		if len(p.Labels) > 0 {
			c["sourceLabels"] = fields.FromStrings(p.Labels)
		}
		return !slices.ContainsFunc(now.Routes[:route], func(earlier map[string]any) bool { return match.TakesAll(earlier, c, p.Namespace) })
	})
}

// renderFault returns an abort and a delay as the fault of an HTTP route. The
// percentage is always explicit, because Istio reads an omitted one as 0.
func renderFault(i experiments.Injection) map[string]any {
	f := i.Fault
	percentage := func() map[string]any { return map[string]any{"value": i.Percentage} }
	fault := map[string]any{}
	if f.Abort != nil {
		abort := map[string]any{"percentage": percentage()}
		if f.Abort.GRPCStatus != "" {
			abort["grpcStatus"] = string(f.Abort.GRPCStatus)
		} else {
			abort["httpStatus"] = int64(f.Abort.HTTPStatus)
		}
		fault["abort"] = abort
	}
	if f.Delay != nil {
		// The JSON of protobuf has seconds only.
		delay := f.Delay.FixedDelay.Milliseconds()
		fault["delay"] = map[string]any{"fixedDelay": strconv.FormatFloat(float64(delay)/1000, 'f', -1, 64) + "s", "percentage": percentage()}
	}
	return fault
}

// cloneName returns a route name that names the experiment in access logs, and that
// no other route has.
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
