package router

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/fields"
	"github.com/squall-chaos/squall/istio/routing"
)

// VirtualHost is the routes of one route configuration for the requests to one host.
type VirtualHost struct {
	// Routing is the name of the route configuration.
	Routing string
	// Host is the name by which clients reach the gateway, in lower case; it may begin
	// with a wildcard.
	Host string
	Port int64
	// Servers are the servers that have the host.
	Servers []Server
	// Routes are in the order in which Envoy matches them.
	Routes []Route
	// Err is why the routes are not certain: a *routing.UndecidedError.
	Err error
}

// Gateways returns the Gateways that the routes come from, as namespace/name.
func (v VirtualHost) Gateways() []string {
	var names []string
	for _, route := range v.Routes {
		if !slices.Contains(names, route.Gateway) {
			names = append(names, route.Gateway)
		}
	}
	return names
}

// Route is one route of Envoy: an HTTP route of a VirtualService with one of its matches.
type Route struct {
	// Gateway is the Gateway by which the VirtualService is bound, as namespace/name.
	Gateway string
	// From is the VirtualService, and Delegates those that it delegates to.
	From       *unstructured.Unstructured
	Delegates  []*unstructured.Unstructured
	Visibility config.Visibility
	// HTTP is the route with at most one match. Conditions that istiod evaluates when
	// it generates the route are left out, and hosts are fully qualified.
	HTTP map[string]any
}

// CatchesAll reports whether the route matches every request
// (istio.io/istio/pilot/pkg/networking/core/route, IsCatchAllRoute).
func (r Route) CatchesAll() bool {
	for _, m := range fields.Maps(r.HTTP, "match") {
		for field, value := range m {
			switch field {
			case "name", "statPrefix", "ignoreUriCase":
			case "uri":
				uri, _ := value.(map[string]any)
				if len(uri) > 0 && uri["prefix"] != "/" && uri["regex"] != ".*" {
					return false
				}
			default:
				return false
			}
		}
	}
	return true
}

// VirtualHosts returns the routes of a workload, given its servers, in the order of the
// servers. Several route configurations may have the same host
// (istio.io/istio/pilot/pkg/networking/core, buildGatewayHTTPRouteConfig).
func VirtualHosts(s config.Snapshot, w Workload, servers []Server) []VirtualHost {
	g := generator{mesh: s, workload: w, at: map[place]int{}}
	for _, server := range servers {
		if server.Ignored || !server.HasRequests() {
			continue
		}
		for _, vs := range boundTo(s, w.Namespace, server.Gateway) {
			g.add(server, vs)
		}
	}
	for i := range g.found {
		v := &g.found[i]
		// istio.io/istio/pilot/pkg/networking/core/route, SortVHostRoutes.
		slices.SortStableFunc(v.Routes, func(a, b Route) int { return routing.CompareBool(a.CatchesAll(), b.CatchesAll()) })
		if v.Err == nil {
			v.Err = undecidedAge(v.Routes)
		}
	}
	return g.found
}

// generator collects the virtual hosts of a workload.
type generator struct {
	mesh     config.Snapshot
	workload Workload
	found    []VirtualHost
	at       map[place]int // indexes of found
}

// place identifies a virtual host.
type place struct{ routing, host string }

// add appends the routes of a VirtualService to the hosts that it shares with a server.
func (g *generator) add(server Server, vs bound) {
	names := Intersection(server.Takes(vs.GetNamespace()), vs.hosts)
	if len(names) == 0 {
		return
	}
	routes, err := g.routes(server, vs)
	if len(routes) == 0 && err == nil {
		return
	}
	for _, name := range names {
		name = strings.ToLower(name)
		here := place{routing: server.Routes, host: name}
		i, known := g.at[here]
		if !known {
			i, g.at[here] = len(g.found), len(g.found)
			g.found = append(g.found, VirtualHost{Routing: server.Routes, Host: name, Port: server.Port})
		}
		v := &g.found[i]
		v.Routes = append(v.Routes, routes...)
		v.Err = cmp.Or(v.Err, err)
		if !slices.ContainsFunc(v.Servers, func(have Server) bool { return reflect.DeepEqual(have, server) }) {
			v.Servers = append(v.Servers, server)
		}
	}
}

// routes returns the routes that istiod generates for a VirtualService: one for each
// match, up to the first that catches all requests
// (istio.io/istio/pilot/pkg/networking/core/route, BuildHTTPRoutesForVirtualService).
func (g *generator) routes(server Server, vs bound) ([]Route, error) {
	undecided := func(why routing.Why) error {
		return &routing.UndecidedError{Why: why, Candidate: routing.Candidate{Unstructured: vs.Unstructured, Visibility: vs.visibility}, Revision: vs.GetLabels()[config.RevisionLabel]}
	}
	if revision := vs.GetLabels()[config.RevisionLabel]; revision != "" && !g.mesh.Plane.Labelled && revision != g.mesh.Namespaces[g.workload.Namespace][config.RevisionLabel] {
		return nil, undecided(routing.OtherRevision)
	}
	all, delegates := routing.HTTPRoutes(g.mesh, vs.Unstructured)
	var out []Route
	for _, http := range all {
		http = runtime.DeepCopyJSON(http)
		routing.QualifyDestinations(map[string]any{"http": []any{http}}, vs.GetNamespace(), g.mesh.ClusterDomain)
		matches := fields.Maps(http, "match")
		if len(matches) == 0 {
			matches = []map[string]any{{}}
		}
		for _, m := range matches {
			switch g.covers(server, vs, m) {
			case routing.None:
				continue
			case routing.Some:
				return out, undecided(routing.RoutesForSome)
			case routing.All:
			}
			route := Route{Gateway: server.Gateway, From: vs.Unstructured, Delegates: delegates, Visibility: vs.visibility, HTTP: withMatch(http, m)}
			out = append(out, route)
			if route.CatchesAll() {
				return out, nil
			}
		}
	}
	return out, nil
}

// covers returns for how many of the pods istiod generates a match. A match that has
// gateways ignores the source conditions, which are about the gateway's own pods
// (istio.io/istio/pilot/pkg/networking/core/route, TranslateRoute and sourceMatchHTTP).
func (g *generator) covers(server Server, vs bound, m map[string]any) routing.Coverage {
	if port, set := fields.Int(m["port"]); set && port != 0 && port != server.Port {
		return routing.None
	}
	if gateways := fields.Strings(m, "gateways"); len(gateways) > 0 {
		if slices.ContainsFunc(gateways, func(name string) bool { return GatewayName(name, vs.GetNamespace()) == server.Gateway }) {
			return routing.All
		}
		return routing.None
	}
	if namespace := fields.String(m, "sourceNamespace"); namespace != "" && namespace != g.workload.Namespace {
		return routing.None
	}
	result := routing.All
	for key, value := range fields.Map(m, "sourceLabels") {
		switch own, has := g.workload.Labels[key]; {
		case !has:
			result = routing.Some
		case own != value:
			return routing.None
		}
	}
	return result
}

// withMatch returns a route with one match, without the conditions that covers evaluates.
func withMatch(http, m map[string]any) map[string]any {
	http, m = maps.Clone(http), maps.Clone(m)
	for _, static := range []string{"port", "gateways", "sourceLabels", "sourceNamespace"} {
		delete(m, static)
	}
	delete(http, "match")
	if len(m) > 0 {
		http["match"] = []any{m}
	}
	return http
}

// bound is a VirtualService that is bound to a Gateway.
type bound struct {
	*unstructured.Unstructured
	visibility config.Visibility
	hosts      []string
}

// boundTo returns the VirtualServices that are bound to a Gateway and visible to proxies
// of a namespace: those that are private to it, then those exported to it by name, then
// public ones, each in the order of their age
// (istio.io/istio/pilot/pkg/model, VirtualServicesForGateway).
func boundTo(s config.Snapshot, namespace, gateway string) []bound {
	var found []bound
	for _, vs := range s.VirtualServices {
		visibility := s.VisibilityOf(vs, namespace)
		if visibility != config.Hidden && slices.Contains(Binds(vs), gateway) {
			found = append(found, bound{Unstructured: vs, visibility: visibility, hosts: routing.Hosts(s, vs)})
		}
	}
	slices.SortFunc(found, func(a, b bound) int {
		return cmp.Or(cmp.Compare(a.visibility, b.visibility), config.CompareAge(a.Unstructured, b.Unstructured))
	})
	return found
}

// Binds returns the Gateways that a VirtualService is bound to, as namespace/name.
func Binds(vs *unstructured.Unstructured) []string {
	var names []string
	for _, name := range fields.Strings(vs.Object, "spec", "gateways") {
		if name != routing.MeshGateway {
			names = append(names, GatewayName(name, vs.GetNamespace()))
		}
	}
	return names
}

// GatewayName returns the name of a Gateway as namespace/name, as an object of a
// namespace writes it: NAME, NAMESPACE/NAME, ./NAME or NAME.NAMESPACE with any domain
// (istio.io/istio/pilot/pkg/model, resolveGatewayName).
func GatewayName(name, namespace string) string {
	if of, rest, found := strings.Cut(name, "/"); found {
		if of == "." {
			return namespace + "/" + rest
		}
		return name
	}
	labels := strings.Split(name, ".")
	if len(labels) == 1 || name == routing.MeshGateway {
		return namespace + "/" + name
	}
	return labels[1] + "/" + labels[0]
}

// undecidedAge returns an error if the order of the routes depends on the age of two
// VirtualServices, and one of them is not known.
func undecidedAge(routes []Route) error {
	for i, route := range routes {
		for _, other := range routes[:i] {
			created, known := route.From.GetCreationTimestamp(), other.From.GetCreationTimestamp()
			if route.From == other.From || route.Visibility != other.Visibility || !created.IsZero() && !known.IsZero() {
				continue
			}
			return &routing.UndecidedError{
				Why: routing.UnknownAge, Candidate: routing.Candidate{Unstructured: other.From, Visibility: other.Visibility},
				Other: &routing.Candidate{Unstructured: route.From, Visibility: route.Visibility},
			}
		}
	}
	return nil
}
