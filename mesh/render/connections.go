package render

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/fields"
	"github.com/squall-chaos/squall/istio/routing"
	"github.com/squall-chaos/squall/mesh/match"
	"github.com/squall-chaos/squall/mesh/refusal"
)

// renderConnections adds to an object the TCP and TLS routes that blackholes need.
//
// For connections istiod goes through all VirtualServices of the host and takes the
// first route for the proxy and the port (routing.WithConnections), so the object
// needs no copy of the routes for other proxies.
func (r *renderer) renderConnections(spec map[string]any, active []Injection) error {
	var tcp, tls []any
	for _, port := range r.blackholes.known {
		for _, part := range r.connectionParts(active, port) {
			var err error
			switch {
			case port.HasTCPRoutes():
				tcp, err = r.divertConnections(tcp, "tcp", part)
			case port.Protocol() == config.TLS:
				tls, err = r.divertConnections(tls, "tls", part)
			}
			if err != nil {
				return err
			}
		}
	}
	for field, diverted := range map[string][]any{"tcp": tcp, "tls": tls} {
		if len(diverted) > 0 {
			spec[field] = diverted
		}
	}
	return nil
}

// connectionParts divides the connections to a port by the sets of blackholes that
// are for them, the more specific first.
func (r *renderer) connectionParts(active []Injection, port config.Port) []segment {
	whole := match.Condition{"port": port.Number}
	parts := []segment{{match: []match.Condition{whole}}}
	for _, s := range active {
		if s.Fault.Blackhole == nil {
			continue
		}
		for _, c := range Requestless(s, port) {
			var next []segment
			for _, part := range parts {
				both, ok, err := match.Conjoin(part.match[0], c, r.group.Callers)
				switch {
				case err != nil || !ok || slices.ContainsFunc(part.injections, s.same):
					next = append(next, part)
				case reflect.DeepEqual(both, part.match[0]):
					next = append(next, segment{match: part.match, injections: append(slices.Clone(part.injections), s)})
				default:
					next = append(next, segment{match: []match.Condition{both}, injections: append(slices.Clone(part.injections), s)}, part)
				}
			}
			parts = next
		}
	}
	return slices.DeleteFunc(parts, func(p segment) bool { return len(p.injections) == 0 })
}

// Requestless returns the conditions of an injection on the connections to a port.
// Conditions on requests never hold for a connection.
func Requestless(s Injection, port config.Port) []match.Condition {
	if s.Target.Port != 0 && int64(s.Target.Port) != port.Number {
		return nil
	}
	conditions := s.Conditions
	if len(conditions) == 0 {
		conditions = []match.Condition{{}}
	}
	var found []match.Condition
	for _, c := range conditions {
		c = maps.Clone(c)
		c["port"] = port.Number
		extra := maps.Clone(c)
		delete(extra, "port")
		delete(extra, "sourceLabels")
		if len(extra) == 0 {
			found = append(found, c)
		}
	}
	return found
}

// divertConnections adds the routes that divert a part of the connections: a
// narrowed copy of each route that is effective for them.
func (r *renderer) divertConnections(routes []any, protocol string, part segment) ([]any, error) {
	c := part.match[0]
	for _, vs := range r.withConnections(r.listener) {
		if b := r.mesh.VisibilityOf(vs, r.group.Callers); b <= r.place.Visibility && len(fields.Maps(fields.Map(vs.Object, "spec"), protocol)) > 0 {
			return nil, refusal.New(refusal.PrivateConnections, "remove exportTo from it, or name callers in another namespace", "VirtualService %s/%s has %s routes and is %s, where nothing outranks them", vs.GetNamespace(), vs.GetName(), protocol, b)
		}
		spec := runtime.DeepCopyJSON(fields.Map(vs.Object, "spec"))
		routing.QualifyDestinations(spec, vs.GetNamespace(), r.mesh.ClusterDomain)
		for _, route := range fields.Maps(spec, protocol) {
			if len(fields.Maps(route, "route")) == 0 {
				continue
			}
			if err := r.checkOverlap(vs, route, c); err != nil {
				return nil, err
			}
			narrowed, final := r.narrowConnections(route, protocol, c)
			if len(narrowed) == 0 {
				continue
			}
			route["match"] = narrowed
			if !slices.Contains(r.connections, vs) {
				r.connections = append(r.connections, vs)
			}
			r.undiverted[protocol] = append(r.undiverted[protocol], runtime.DeepCopyJSON(route))
			if err := r.divertRoute(route, part.injections); err != nil {
				return nil, err
			}
			routes = append(routes, route)
			if final {
				return routes, nil
			}
		}
	}
	match := runtime.DeepCopyJSON(c)
	if protocol == "tls" {
		if err := checkServerName(r.mesh, r.group.Host); err != nil {
			return nil, err
		}
		if aliases := routing.Aliases(r.mesh, r.group.Host); len(aliases) > 0 {
			return nil, refusal.New(refusal.OtherServerNames, "create a tls route for exactly this host",
				"connections to a TLS port of %s have its server name or the one of an alias, %s, and a blackhole would take the route of the alias away", r.group.Host, aliases[0])
		}
		match["sniHosts"] = []any{r.group.Host}
	}
	route := map[string]any{
		"match": []any{match},
		"route": []any{map[string]any{"destination": map[string]any{"host": r.group.Host, "port": map[string]any{"number": c["port"]}}}},
	}
	r.undiverted[protocol] = append(r.undiverted[protocol], runtime.DeepCopyJSON(route))
	return append(routes, route), r.divertRoute(route, part.injections)
}

// Connections are TCP and TLS routes, with fully qualified hosts.
type Connections struct{ TCP, TLS []map[string]any }

// connectionsOf returns the TCP and TLS routes of a spec in a namespace.
func connectionsOf(spec map[string]any, namespace, domain string) Connections {
	copied := map[string]any{}
	for _, protocol := range []string{"tcp", "tls"} {
		if routes, ok := spec[protocol].([]any); ok {
			copied[protocol] = runtime.DeepCopyJSONValue(routes)
		}
	}
	routing.QualifyDestinations(copied, namespace, domain)
	return Connections{TCP: fields.Maps(copied, "tcp"), TLS: fields.Maps(copied, "tls")}
}

func (r *renderer) divertRoute(route map[string]any, injections []Injection) error {
	for _, s := range injections {
		r.sign(s, route)
		if slices.ContainsFunc(fields.Maps(route, "route"), func(weighted map[string]any) bool { return r.isTarget(s, weighted) }) {
			r.diverted[s.Number] = true
		}
	}
	return r.blackholes.divert(route, injections, r.isTarget)
}

// checkServerName refuses to add the first TLS route of a host whose listener has
// its own address. Today such a proxy forwards every server name; with a route for
// one name, connections with other names would not reach the target.
func checkServerName(s config.Snapshot, name string) error {
	if !slices.ContainsFunc(s.Entries(name), func(entry config.Entry) bool { return entry.Addressed }) {
		return nil
	}
	return refusal.New(refusal.OtherServerNames, "name target.port if another port is meant; a VirtualService with a tls route for the host would define the names",
		"connections to a TLS port of %s carry any server name today, and a blackhole could take only those with exactly this one", name)
}

// narrowConnections returns the matches of a route narrowed to c; final reports
// whether the route matches all such connections.
func (r *renderer) narrowConnections(route map[string]any, protocol string, c match.Condition) (narrowed []any, final bool) {
	matches := fields.Maps(route, "match")
	if len(matches) == 0 && protocol == "tcp" {
		return []any{runtime.DeepCopyJSON(c)}, true
	}
	for _, m := range matches {
		if gateways := fields.Strings(m, "gateways"); len(gateways) > 0 && !slices.Contains(gateways, routing.MeshGateway) {
			continue
		}
		if namespace, _ := m["sourceNamespace"].(string); namespace != "" && namespace != r.group.Callers {
			continue
		}
		if port, set := fields.Int(m["port"]); set && port != 0 && port != c["port"] {
			continue
		}
		if protocol == "tls" && !slices.ContainsFunc(fields.Strings(m, "sniHosts"), func(name string) bool { return config.HostWithin(r.group.Host, strings.ToLower(name)) }) {
			continue
		}
		both := runtime.DeepCopyJSON(m)
		delete(both, "gateways")
		labels := maps.Clone(fields.Map(c, "sourceLabels"))
		clash := false
		for key, value := range fields.Map(m, "sourceLabels") {
			if labels == nil {
				labels = map[string]any{}
			}
			own, has := labels[key]
			clash = clash || has && own != value
			labels[key] = value
		}
		if clash {
			continue
		}
		if len(labels) > 0 {
			both["sourceLabels"] = labels
		}
		both["port"] = c["port"]
		if protocol == "tls" {
			both["sniHosts"] = []any{r.group.Host}
		}
		narrowed = append(narrowed, both)
		final = final || m["destinationSubnets"] == nil && m["sourceSubnet"] == nil && len(labels) == len(fields.Map(c, "sourceLabels"))
	}
	return narrowed, final
}

// withConnections returns the VirtualServices with TCP or TLS routes for the
// target.
func (r *renderer) withConnections(l config.Listener) []*unstructured.Unstructured {
	return routing.WithConnections(r.mesh, r.group.Host, r.group.Callers, l)
}

// checkConnections refuses callers whose listeners do not have the same TCP and TLS
// routes.
func (r *renderer) checkConnections(listeners []config.Listener) error {
	for _, other := range listeners[1:] {
		if !slices.Equal(r.withConnections(other), r.withConnections(listeners[0])) && slices.ContainsFunc(r.group.Injections, func(s Injection) bool { return s.Fault.Blackhole != nil }) {
			return refusal.New(refusal.DifferentRoutes, "name the callers of each kind, by their labels and the port, in a separate experiment",
				"the callers in %s do not have the same tcp and tls routes to %s, because of their Sidecars", r.group.Callers, r.group.Host)
		}
	}
	return nil
}

// checkOverlap refuses a route that is for the target and for other server names. A
// second route for the target's name would be a duplicate, and Envoy rejects a
// listener with duplicates; istiod removes the second one only if both have the
// same names.
func (r *renderer) checkOverlap(vs *unstructured.Unstructured, route map[string]any, c match.Condition) error {
	for _, m := range fields.Maps(route, "match") {
		names := fields.Strings(m, "sniHosts")
		if !slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(name, r.group.Host) }) || slices.Equal(names, []string{r.group.Host}) {
			continue
		}
		if narrowed, _ := r.narrowConnections(map[string]any{"match": []any{m}}, "tls", c); len(narrowed) > 0 {
			return refusal.New(refusal.OtherServerNames, "create a tls route for exactly this host", "a tls route of VirtualService %s/%s for %s is for other server names too, and Envoy accepts no second one for the same name", vs.GetNamespace(), vs.GetName(), r.group.Host)
		}
	}
	return nil
}
