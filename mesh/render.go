package mesh

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/squall-chaos/squall/experiments"
)

// renderPlain gives the spec for a host that no VirtualService routes: the
// fault on its requests, and the route that istiod makes by default for all
// the others. The default route names no port, so each port goes to itself.
func renderPlain(host string, conditions []condition, e experiments.Experiment) map[string]any {
	toHost := func() map[string]any {
		return map[string]any{
			"name":  "default",
			"route": []any{map[string]any{"destination": map[string]any{"host": host}}},
		}
	}
	faulted := toHost()
	faulted["fault"] = renderFault(e.Spec.Faults[0])
	routes := []any{faulted}
	if len(conditions) > 0 {
		faulted["name"] = cloneName(e, nil)
		match := make([]any, len(conditions))
		for i, c := range conditions {
			match[i] = c
		}
		faulted["match"] = match
		routes = append(routes, toHost())
	}
	return map[string]any{
		"hosts":    []any{host},
		"exportTo": []any{"."},
		"http":     routes,
	}
}

// renderShadow gives the spec of base for one host, with the fault on exactly
// the requests that the conditions take and everything else as it is.
//
// Routes are matched first to last, so a clone that carries the fault stands
// directly before the original that it narrows: no clone takes a request that
// an earlier original would have taken.
func (s Snapshot) renderShadow(base *unstructured.Unstructured, host, namespace string, conditions []condition, e experiments.Experiment) (map[string]any, error) {
	spec := runtime.DeepCopyJSON(mapAt(base.Object, "spec"))
	delete(spec, "gateways") // bound to the mesh; gateways keep the original
	spec["hosts"] = []any{host}
	spec["exportTo"] = []any{"."}
	if err := checkServerNames(spec, host, base); err != nil {
		return nil, err
	}
	if base.GetNamespace() != namespace {
		qualifyDestinations(spec, base.GetNamespace(), s.ClusterDomain)
	}
	unlabelled := func(c condition) bool { return c["sourceLabels"] == nil }
	if !slices.ContainsFunc(mapsAt(spec, "http"), isForEveryProxy) && (len(conditions) == 0 || slices.ContainsFunc(conditions, unlabelled)) {
		return nil, refuse("name the callers' labels as the VirtualService does, and the port",
			"VirtualService %s/%s has routes for some proxies or ports only, so the fault would miss the others of %s", base.GetNamespace(), base.GetName(), namespace)
	}
	var routes []any
	reached := make([]bool, max(1, len(conditions)))
	reachable := true
	for i, route := range mapsAt(spec, "http") {
		if reachable && canCarryFault(route) {
			carrier, inPlace, err := carry(route, conditions, namespace, reached)
			if err != nil {
				return nil, err
			}
			if carrier != nil && route["fault"] != nil {
				return nil, refuse("remove that fault first; two at once cannot be told apart", "http route %d of VirtualService %s/%s carries a fault already", i+1, base.GetNamespace(), base.GetName())
			}
			if carrier != nil {
				carrier["fault"] = renderFault(e.Spec.Faults[0])
				if !inPlace {
					carrier["name"] = cloneName(e, append(routes, mapsToAny(mapsAt(spec, "http")[i:])...))
					routes = append(routes, carrier)
				}
			}
		}
		routes = append(routes, route)
		reachable = reachable && !takesEverything(route)
	}
	for i := range reached {
		if !reached[i] {
			return nil, refuse("compare spec.match and spec.callers with the routes of the VirtualService",
				"no http route of VirtualService %s/%s both forwards requests and meets %s", base.GetNamespace(), base.GetName(), describeCondition(conditions, i))
		}
	}
	if e.Spec.Effect.MinRequests > 0 {
		for i, route := range mapsAt(mapAt(base.Object, "spec"), "http") {
			if own := mapAt(route, "fault"); own["abort"] != nil && e.Spec.Faults[0].Abort != nil || own["delay"] != nil && e.Spec.Faults[0].Delay != nil {
				return nil, refuse("remove that fault first, or set effect.minRequests to 0", "http route %d of VirtualService %s/%s carries a fault of the same kind, so telemetry could not tell whose requests were hit", i+1, base.GetNamespace(), base.GetName())
			}
		}
	}
	spec["http"] = routes
	return spec, nil
}

// describeCondition says in words which requests are meant.
func describeCondition(conditions []condition, i int) string {
	if len(conditions) == 0 {
		return "the experiment's callers"
	}
	encoded, err := json.Marshal(conditions[i])
	if err != nil {
		return "the experiment's callers, match and port"
	}
	return string(encoded)
}

// takesEverything reports whether no request of any proxy gets past a route:
// istiod generates no routes after such a one
// (istio.io/istio/pilot/pkg/networking/core/route, IsCatchAllRoute).
func takesEverything(route map[string]any) bool {
	matches := mapsAt(route, "match")
	return len(matches) == 0 || slices.ContainsFunc(matches, func(m map[string]any) bool {
		if !isForEverySidecar(m) {
			return false
		}
		for _, field := range []string{"scheme", "method", "authority", "headers", "withoutHeaders", "queryParams"} {
			if m[field] != nil {
				return false
			}
		}
		uri := mapAt(m, "uri")
		return len(uri) == 0 || uri["prefix"] == "/" || uri["regex"] == ".*"
	})
}

// carry gives the route that carries the fault: the route itself when every
// request of it is disturbed, else a clone narrowed to those that are, else
// nil when none is. It marks which of the conditions the route meets.
func carry(route map[string]any, conditions []condition, namespace string, reached []bool) (carrier map[string]any, inPlace bool, err error) {
	if len(conditions) == 0 {
		reached[0] = true
		return route, true, nil
	}
	var match []any
	for i := range conditions {
		both, err := intersect(mapsAt(route, "match"), conditions[i:i+1], namespace)
		if err != nil {
			return nil, false, err
		}
		reached[i] = reached[i] || len(both) > 0
		match = append(match, both...)
	}
	if len(match) > maxConditions {
		return nil, false, tooManyConditions(len(match))
	}
	if len(match) == 0 {
		return nil, false, nil
	}
	clone := runtime.DeepCopyJSON(route)
	clone["match"] = match
	return clone, false, nil
}

// canCarryFault reports whether Istio accepts a fault on a route; redirects
// and direct responses refuse one
// (istio.io/istio/pkg/config/validation, validateHTTPRouteConflict).
func canCarryFault(route map[string]any) bool {
	return len(mapsAt(route, "route")) > 0 && route["redirect"] == nil && route["directResponse"] == nil
}

// renderFault writes a fault in Istio's words. The percentage is always
// explicit: Istio reads an omitted one as 0.
func renderFault(f experiments.Fault) map[string]any {
	percentage := func() map[string]any { return map[string]any{"value": float64(*f.Percentage)} }
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
func cloneName(e experiments.Experiment, taken []any) string {
	name := "squall-" + e.Metadata.Name
	unique := name
	for i := 2; slices.ContainsFunc(taken, func(route any) bool { m, _ := route.(map[string]any); return m["name"] == unique }); i++ {
		unique = fmt.Sprintf("%s-%d", name, i)
	}
	return unique
}

func mapsToAny(maps []map[string]any) []any {
	out := make([]any, len(maps))
	for i, m := range maps {
		out[i] = m
	}
	return out
}

// checkServerNames refuses a base whose tls routes name other hosts: Istio
// wants every server name to be among the object's hosts, and the shadow has
// only one.
func checkServerNames(spec map[string]any, host string, base *unstructured.Unstructured) error {
	for _, route := range mapsAt(spec, "tls") {
		for _, match := range mapsAt(route, "match") {
			for _, name := range stringsAt(match, "sniHosts") {
				if !strings.EqualFold(name, host) {
					return refuse("give the host a VirtualService of its own", "tls routes of VirtualService %s/%s name %s beside %s", base.GetNamespace(), base.GetName(), name, host)
				}
			}
		}
	}
	return nil
}

// qualifyDestinations completes the short host names of a spec that moves to
// another namespace, where they would mean other Services.
func qualifyDestinations(spec map[string]any, namespace, domain string) {
	qualifyHost := func(destination map[string]any) {
		if host, ok := destination["host"].(string); ok {
			destination["host"] = qualify(host, namespace, domain)
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
