package gateway

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/fields"
	"github.com/squall-chaos/squall/istio/router"
	"github.com/squall-chaos/squall/istio/routing"
	"github.com/squall-chaos/squall/mesh/match"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/mesh/refusal"
	"github.com/squall-chaos/squall/mesh/render"
)

// Edge is a host by which clients reach a Gateway. One VirtualService carries the faults
// on its requests.
type Edge struct {
	// Host may begin with a wildcard. Gateway is namespace/name.
	Host, Gateway string
	// SourceLabels are labels of the gateway's pods that the Gateway does not select by.
	SourceLabels map[string]string
	// Servers are the ports on which the Gateway has the host, with the effective routes.
	Servers []EdgeServer
}

// EdgeServer is the effective routes of a host on one port of a Gateway.
type EdgeServer struct {
	Port   int64
	Routes []router.Route
}

// EdgeOutput is the object for the edge that it was rendered for.
type EdgeOutput struct {
	Edge Edge
	// States are the states of the VirtualService, one for each of the given times.
	States []*unstructured.Unstructured
	// Requests are the requests that are hit in the first state in which a fault is
	// active, in words.
	Requests []string
}

// Output is the objects of a group of calls through a gateway.
type Output struct {
	// Helpers are the ServiceEntries of blackholes.
	Helpers []*unstructured.Unstructured
	// Edges are those with requests that a fault hits.
	Edges []EdgeOutput
	// Before and During are the HTTP routes today and in the first state in which a
	// fault is active, edge by edge.
	Before, During []map[string]any
	Signature      render.Signature
}

// render renders the VirtualServices of edges for a place, in their states at the times of
// the plan. Each is a complete copy of the effective routes of one host and Gateway, with
// each fault on exactly the requests that are meant and that lead to the target. The error
// is a *refusal.Error if that cannot be done exactly, or if there are no such requests.
func (p *planner) render(at render.Place, edges []Edge) (Output, error) {
	seen := slices.DeleteFunc(p.Mesh.Entries(p.Group.Host), func(e config.Entry) bool { return !p.Mesh.CanSee(e, p.Group.Callers) })
	routes, err := render.NewGatewayRoutes(render.Input{
		Mesh: p.Mesh, Group: p.Group, Place: at, Ports: config.PortsOf(seen),
		Experiment: p.Experiment.Metadata.Name, BlackholeAddress: p.BlackholeAddress,
	})
	if err != nil {
		return Output{}, err
	}
	r := &renderer{GatewayRoutes: routes, group: p.Group, place: at}
	out := Output{}
	reached := map[aimKey]bool{}
	for _, edge := range edges {
		made := EdgeOutput{Edge: edge}
		during, hit := []any(nil), false
		for _, t := range p.Times {
			active := p.Group.Active(t)
			routes, keys, err := r.edgeRoutes(edge, active)
			if err != nil {
				return Output{}, err
			}
			for _, key := range keys {
				reached[key], hit = true, true
			}
			if len(active) > 0 && during == nil {
				during = routes
			}
			made.States = append(made.States, r.edgeObject(edge, routes))
		}
		if !hit {
			continue
		}
		before, _, err := r.edgeRoutes(edge, nil)
		if err != nil {
			return Output{}, err
		}
		made.Requests = hitRequests(edge.Host, before, during)
		out.Edges = append(out.Edges, made)
		out.Before = append(out.Before, fields.Maps(map[string]any{"http": before}, "http")...)
		out.During = append(out.During, fields.Maps(map[string]any{"http": during}, "http")...)
	}
	if err := r.checkEdges(edges, reached); err != nil {
		return Output{}, err
	}
	// The ports of the blackholes are known when all states are rendered.
	out.Helpers, out.Signature = r.Helpers(), r.Signature()
	return out, nil
}

// renderer renders the objects of edges.
type renderer struct {
	render.GatewayRoutes

	group *render.Group
	place render.Place
}

// hitRequests returns the requests to a host of which the routes change, in words.
func hitRequests(name string, before, during []any) []string {
	var found []string
	for _, item := range during {
		if slices.ContainsFunc(before, func(old any) bool { return reflect.DeepEqual(old, item) }) {
			continue
		}
		route, _ := item.(map[string]any)
		matches := fields.Maps(route, "match")
		if len(matches) == 0 {
			matches = []map[string]any{{}}
		}
		for _, m := range matches {
			text := requestInWords(name, m)
			if len(m) == 0 && len(during) > 1 {
				text = name + " (all other requests)"
			}
			if !slices.Contains(found, text) {
				found = append(found, text)
			}
		}
	}
	return found
}

// requestInWords returns the requests to a host that meet a match: "shop.example.com
// /checkout (prefix)".
func requestInWords(name string, m map[string]any) string {
	words := []string{name}
	for _, field := range routing.TextFields {
		for kind, value := range fields.Map(m, field) {
			text := fmt.Sprintf("%v (%s)", value, kind)
			if field != "uri" {
				text = field + " " + text
			}
			words = append(words, text)
		}
	}
	for _, field := range []string{"headers", "withoutHeaders", "queryParams"} {
		if keys := slices.Sorted(maps.Keys(fields.Map(m, field))); len(keys) > 0 {
			words = append(words, field+" "+strings.Join(keys, ", "))
		}
	}
	if len(words) == 1 {
		words = append(words, "(all requests)")
	}
	return strings.Join(words, " ")
}

// edgeObject returns the VirtualService of an edge with some routes.
func (r *renderer) edgeObject(e Edge, routes []any) *unstructured.Unstructured {
	object := r.Object()
	object.SetName(objects.EdgeName(e.Host, e.Gateway, r.group.Callers))
	for _, server := range e.Servers {
		for _, route := range server.Routes {
			if revision := route.From.GetLabels()[config.RevisionLabel]; revision != "" {
				object.SetLabels(map[string]string{config.RevisionLabel: revision})
			}
		}
	}
	object.Object["spec"] = map[string]any{
		"hosts": []any{e.Host}, "gateways": []any{e.Gateway}, "exportTo": []any{r.place.ExportTo}, "http": routes,
	}
	return object
}

// aimKey identifies a condition of an injection.
type aimKey struct{ injection, condition int }

// edgeRoutes returns the routes of an edge while some injections are active, and the
// conditions for which a route carries the fault.
func (r *renderer) edgeRoutes(e Edge, active []render.Injection) (routes []any, reached []aimKey, err error) {
	here, keys := forHost(active, e.Host)
	servers := e.Servers
	one := len(servers) == 1 || !slices.ContainsFunc(servers, func(s EdgeServer) bool {
		return slices.ContainsFunc(s.Routes, func(route router.Route) bool { return r.UsesServerPort(route.HTTP) }) || !reflect.DeepEqual(plain(s), plain(servers[0]))
	})
	if one {
		servers = servers[:1]
	}
	for _, server := range servers {
		copied, bases := copyLive(server.Routes)
		faulted, carried, err := r.Faulted(copied, bases, server.Port, here)
		if err != nil {
			return nil, nil, err
		}
		for i, carries := range carried {
			if carries {
				reached = append(reached, keys[i])
			}
		}
		port := server.Port
		if one {
			port = 0
		}
		routes = append(routes, narrowed(faulted, port, e.SourceLabels)...)
	}
	return routes, reached, nil
}

// plain returns the routes of a server without where they come from.
func plain(s EdgeServer) []map[string]any {
	routes := make([]map[string]any, len(s.Routes))
	for i, route := range s.Routes {
		routes[i] = route.HTTP
	}
	return routes
}

// copyLive returns a copy of routes without those after the first that catches all
// requests, and the VirtualService of each. Matches of one HTTP route are together again.
func copyLive(all []router.Route) (routes []map[string]any, bases []*routing.Candidate) {
	for i, route := range all {
		copied := runtime.DeepCopyJSON(route.HTTP)
		if last := len(routes) - 1; last >= 0 && all[i-1].From == route.From && sameButMatch(routes[last], copied) {
			routes[last]["match"] = append(routes[last]["match"].([]any), copied["match"].([]any)...) //nolint:forcetypeassert // sameButMatch
		} else {
			routes = append(routes, copied)
			bases = append(bases, &routing.Candidate{Unstructured: route.From, Visibility: route.Visibility})
		}
		if route.CatchesAll() {
			break
		}
	}
	return routes, bases
}

// sameButMatch reports whether two routes have matches and differ in these only.
func sameButMatch(a, b map[string]any) bool {
	if a["match"] == nil || b["match"] == nil {
		return false
	}
	a, b = maps.Clone(a), maps.Clone(b)
	delete(a, "match")
	delete(b, "match")
	return reflect.DeepEqual(a, b)
}

// narrowed adds a port, unless it is 0, and labels of the gateway's pods to the matches
// of routes. istiod evaluates both when it generates the routes.
func narrowed(routes []any, port int64, labels map[string]string) []any {
	if port == 0 && len(labels) == 0 {
		return routes
	}
	for _, item := range routes {
		route, _ := item.(map[string]any)
		matches := fields.Maps(route, "match")
		if len(matches) == 0 {
			matches = []map[string]any{{}}
		}
		var all []any
		for _, m := range matches {
			m = maps.Clone(m)
			if port != 0 {
				m["port"] = port
			}
			if len(labels) > 0 {
				m["sourceLabels"] = fields.FromStrings(labels)
			}
			all = append(all, m)
		}
		route["match"] = all
	}
	return routes
}

// forHost returns injections with the conditions that requests to a host can meet, without
// the condition on the host if all of them meet it. keys identify the conditions, one after
// the other.
func forHost(active []render.Injection, name string) (here []render.Injection, keys []aimKey) {
	for _, one := range active {
		if len(one.Conditions) == 0 {
			here, keys = append(here, one), append(keys, aimKey{injection: one.Number})
			continue
		}
		narrow := one
		narrow.Conditions = nil
		every := false
		var own []aimKey
		for i, c := range one.Conditions {
			c, ok := onHost(c, name)
			if !ok {
				continue
			}
			every = every || len(c) == 0
			narrow.Conditions, own = append(narrow.Conditions, c), append(own, aimKey{injection: one.Number, condition: i})
		}
		if len(narrow.Conditions) == 0 {
			continue
		}
		if every && len(narrow.Conditions) == 1 {
			narrow.Conditions = nil // every request
		}
		here, keys = append(here, narrow), append(keys, own...)
	}
	return here, keys
}

// onHost returns a condition for the requests to a host; ok is false if none can meet it.
// The authority of a request may have a port, which Envoy ignores when it selects the
// host, so a condition that the host meets is left out.
func onHost(c match.Condition, name string) (narrowed match.Condition, ok bool) {
	authority := fields.Map(c, "authority")
	if authority == nil {
		return c, true
	}
	if strings.HasPrefix(name, "*") {
		exact, _ := authority["exact"].(string)
		bare, _, _ := strings.Cut(strings.ToLower(exact), ":")
		return c, exact == "" || router.Within(bare, name)
	}
	meets := false
	for kind, value := range authority {
		text, _ := value.(string)
		switch kind {
		case "exact":
			meets = strings.EqualFold(text, name)
		case "prefix":
			meets = strings.HasPrefix(name, strings.ToLower(text))
		case "regex":
			expression, err := regexp.Compile("^(?:" + text + ")$")
			meets = err == nil && expression.MatchString(name)
		}
	}
	c = maps.Clone(c)
	delete(c, "authority")
	return c, meets
}

// checkEdges refuses if there is a condition without a route that can carry its fault, and
// names the routes that there are.
func (r *renderer) checkEdges(edges []Edge, reached map[aimKey]bool) error {
	for _, one := range r.group.Injections {
		conditions := one.Conditions
		if len(conditions) == 0 {
			conditions = []match.Condition{{}}
		}
		for i, c := range conditions {
			if reached[aimKey{injection: one.Number, condition: i}] {
				continue
			}
			there := r.routesTo(edges, one)
			if len(there) == 0 {
				return refusal.New(refusal.NothingToCarry, "name a host that routes of the gateway lead to as the target: "+listed(r.destinations(edges)),
					"no http route of the gateway in %s leads to %s", r.group.Callers, render.DescribeTarget(r.group.Host, one))
			}
			return refusal.New(refusal.NothingToCarry, "compare spec.match with the routes of the gateway that lead there: "+listed(there),
				"no http route of the gateway in %s both leads to %s and meets %s", r.group.Callers, render.DescribeTarget(r.group.Host, one), render.DescribeCondition(c))
		}
	}
	return nil
}

// routesTo returns the routes that lead to the target of an injection in words: the host,
// and the path if the route has one.
func (r *renderer) routesTo(edges []Edge, s render.Injection) []string {
	var found []string
	for _, e := range edges {
		for _, server := range e.Servers {
			for _, route := range server.Routes {
				if !r.CanHit(s, route.HTTP, server.Port) {
					continue
				}
				text := e.Host
				for _, m := range fields.Maps(route.HTTP, "match") {
					text = requestInWords(e.Host, m)
				}
				if !slices.Contains(found, text) {
					found = append(found, text)
				}
			}
		}
	}
	return found
}

// destinations returns the hosts that the routes of edges lead to.
func (r *renderer) destinations(edges []Edge) []string {
	var found []string
	for _, e := range edges {
		for _, server := range e.Servers {
			for _, route := range server.Routes {
				for _, weighted := range fields.Maps(route.HTTP, "route") {
					if name := fields.String(fields.Map(weighted, "destination"), "host"); name != "" && !slices.Contains(found, name) {
						found = append(found, name)
					}
				}
			}
		}
	}
	return found
}

// maxListed is the largest number of names that a hint lists.
const maxListed = 10

func listed(names []string) string {
	if len(names) == 0 {
		return "there is none"
	}
	more := ""
	if others := len(names) - maxListed; others > 0 {
		names, more = names[:maxListed], fmt.Sprintf(" and %d more", others)
	}
	return strings.Join(names, ", ") + more
}
