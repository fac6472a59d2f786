package oracle_test

import (
	"fmt"
	"slices"
	"strings"

	"pgregory.net/rapid"
)

// surrounding draws a mesh in which much lies around the target: aliases, entries of
// several namespaces, hosts that share a port, other names, Sidecars. The match algebra
// is the subject of generator.
type surrounding struct {
	generator
	// target is the host of the experiment; it is a Service of the namespace b, or an
	// external host.
	target    string
	isService bool
	ports     []port
}

// port is a port of the target.
type port struct {
	number   int64
	protocol string
}

// surround returns the scenario of a seed.
func surround(seed int) scenario {
	name := fmt.Sprintf("s%05d", seed)
	return rapid.Custom(func(t *rapid.T) scenario {
		return (&surrounding{generator: generator{T: t, name: name}}).scenario()
	}).Example(seed)
}

func (g *surrounding) external() string { return "u." + g.name + ".test" }
func (g *surrounding) service(name string) string {
	return name + "." + g.services() + ".svc.cluster.local"
}

func (g *surrounding) scenario() scenario {
	g.isService = pick(&g.generator, "target", true, false, true)
	g.ports = pick(
		&g.generator, "ports", []port{{8080, "http"}}, []port{{80, "http"}}, []port{{8080, "http"}, {5432, "tcp"}}, []port{{5432, "tcp"}}, []port{{8443, "tls"}},
		[]port{{8080, "http"}, {8443, "tls"}}, []port{{8080, "http"}, {9000, "grpc"}},
	)
	g.target = "t." + g.name + ".test"
	if g.isService {
		g.target = g.service("t")
		g.add(g.serviceObject(g.services(), "t", g.ports))
	} else {
		for range pick(&g.generator, "entries", 1, 1, 2) {
			g.entry(g.target, g.ports)
		}
	}
	g.add(g.serviceObject(g.services(), "v", []port{{8080, "http"}, {80, "http"}}))
	for range pick(&g.generator, "entries of others", 0, 1, 2) {
		g.entry(pick(&g.generator, "other host", g.external(), "w."+g.name+".test"), g.ports)
	}
	for range pick(&g.generator, "aliases", 0, 0, 1, 2) {
		g.alias()
	}
	for range pick(&g.generator, "VirtualServices", 1, 0, 2, 3) {
		g.routes()
	}
	if g.oneIn(4, "has Sidecar") {
		g.imports()
	}
	return scenario{name: g.name, namespaces: g.namespaces(), waves: [][]object{g.waves[0], g.waves[1]}, experiment: g.experiment()}
}

// serviceObject returns a Service without endpoints.
func (g *surrounding) serviceObject(namespace, name string, ports []port) object {
	var all []any
	for _, p := range ports {
		all = append(all, m{"name": fmt.Sprintf("%s-%d", p.protocol, p.number), "port": p.number, "protocol": "TCP"})
	}
	o := withSpec(manifest("v1", "Service", namespace, name), m{"ports": all})
	everywhere := strings.Join(g.namespaces(), ",")
	o.SetAnnotations(map[string]string{"networking.istio.io/exportTo": pick(&g.generator, "Service's exportTo", everywhere, everywhere, everywhere, g.callers()+","+g.services(), ".")})
	return o
}

// entry draws a ServiceEntry of a host in some namespace.
func (g *surrounding) entry(host string, ports []port) {
	var all []any
	for _, p := range ports {
		protocol := map[string]string{"http": "HTTP", "grpc": "GRPC", "tcp": "TCP", "tls": "TLS"}[p.protocol]
		all = append(all, m{"number": p.number, "name": fmt.Sprintf("%s-%d", p.protocol, p.number), "protocol": protocol})
	}
	spec := m{"hosts": list(host), "ports": all, "location": "MESH_EXTERNAL", "resolution": "STATIC", "endpoints": list(m{"address": "127.0.0.21"})}
	if g.oneIn(2, "has addresses") {
		g.count++
		spec["addresses"] = list(fmt.Sprintf("10.98.%d.%d", g.count, rapid.IntRange(1, 250).Draw(g.T, "address")))
	}
	// An entry for all namespaces would share the listeners of other scenarios.
	everywhere := anys(g.namespaces())
	spec["exportTo"] = pick(&g.generator, "entry's exportTo", everywhere, everywhere, everywhere, list("."), list(g.callers()))
	namespace := pick(&g.generator, "entry's namespace", g.services(), g.third(), g.callers())
	// Of two entries for a host in one namespace istiod uses either, at random.
	if slices.ContainsFunc(slices.Concat(g.waves[0], g.waves[1]), func(o object) bool {
		own, _ := mapOf(o.Object["spec"])["hosts"].([]any)
		return o.GetKind() == "ServiceEntry" && o.GetNamespace() == namespace && slices.Contains(own, any(host))
	}) {
		return
	}
	g.add(withSpec(manifest(networking, "ServiceEntry", namespace, g.unique("entry")), spec))
}

// alias draws an ExternalName Service.
func (g *surrounding) alias() {
	namespace := pick(&g.generator, "alias' namespace", g.services(), g.callers(), g.third())
	spec := m{"type": "ExternalName", "externalName": pick(&g.generator, "alias of", g.target, g.target, g.service("v"), g.external())}
	if ports := pick(&g.generator, "alias' ports", g.ports, nil); ports != nil {
		spec["ports"] = mapOf(g.serviceObject(namespace, "x", ports).Object["spec"])["ports"]
	}
	o := withSpec(manifest("v1", "Service", namespace, g.unique("alias")), spec)
	o.SetAnnotations(map[string]string{"networking.istio.io/exportTo": strings.Join(g.namespaces(), ",")})
	g.add(o)
}

// aliases returns the hosts of the aliases so far.
func (g *surrounding) aliases() []string {
	var hosts []string
	for _, o := range slices.Concat(g.waves[0], g.waves[1]) {
		if mapOf(o.Object["spec"])["externalName"] != nil {
			hosts = append(hosts, o.GetName()+"."+o.GetNamespace()+".svc.cluster.local")
		}
	}
	return hosts
}

// routes draws a VirtualService for the target, for another name of it, or for another
// host.
func (g *surrounding) routes() {
	namespace := pick(&g.generator, "namespace", g.services(), g.services(), g.callers(), g.third())
	choices := [][]any{list(g.target), list(g.target), list(g.target, g.external()), list(g.service("v")), list(g.external())}
	if g.isService {
		choices = append(choices, list("t."+g.services()), list("t."+g.services()+".svc"), list("*."+g.services()+".svc.cluster.local"))
	}
	for _, alias := range g.aliases() {
		choices = append(choices, list(alias))
	}
	hosts := rapid.SampledFrom(choices).Draw(g.T, "hosts")
	spec := m{"hosts": hosts}
	if exportTo := pick(&g.generator, "exportTo", nil, nil, nil, list("."), list(g.callers()), list("*")); exportTo != nil {
		spec["exportTo"] = exportTo
	}
	kind := pick(&g.generator, "kind", "http", "http", "both", "connections")
	if kind != "connections" {
		spec["http"] = g.http(namespace)
	}
	if kind != "http" {
		spec["tls"] = list(m{"match": list(m{"port": int64(8443), "sniHosts": pick(&g.generator, "server names", hosts, hosts[:1])}), "route": g.to()})
		if text(hosts[0])[0] == '*' || kind == "connections" && g.oneIn(2, "has tcp only") {
			delete(spec, "tls")
			spec["tcp"] = list(m{"match": list(m{"port": int64(5432)}), "route": g.to()})
		}
	}
	g.add(withSpec(manifest(networking, "VirtualService", namespace, g.unique("vs")), spec))
}

// http draws HTTP routes, some of which delegate.
func (g *surrounding) http(namespace string) []any {
	route := m{"route": g.to(), "timeout": pick(&g.generator, "timeout", "2s", "3s")}
	if !g.oneIn(6, "delegates") {
		if g.oneIn(5, "is for a port") {
			route["match"] = list(m{"port": g.ports[0].number})
		}
		return list(route)
	}
	child := g.unique("child")
	g.add(withSpec(manifest(networking, "VirtualService", namespace, child), m{"http": list(route)}))
	return list(m{"match": list(m{"uri": m{"prefix": "/a"}}), "delegate": m{"name": child, "namespace": namespace}}, m{"route": g.to()})
}

// to draws the destination of a route: the target, or another host, as Flagger does.
func (g *surrounding) to() []any {
	return list(m{"destination": m{"host": pick(&g.generator, "destination", g.target, g.target, g.target, g.service("v"), g.external())}})
}

// imports draws a Sidecar.
func (g *surrounding) imports() {
	hosts := anys(rapid.SliceOfNDistinct(rapid.SampledFrom([]string{
		"./*", "*/*", g.services() + "/*", g.third() + "/*", g.services() + "/" + g.target, "*/" + g.target, "*/*." + g.name + ".test",
	}), 1, 3, rapid.ID).Draw(g.T, "egress hosts"))
	spec := m{"egress": list(m{"hosts": hosts})}
	if g.oneIn(2, "refuses others") {
		spec["outboundTrafficPolicy"] = m{"mode": "REGISTRY_ONLY"}
	}
	if g.oneIn(3, "is of a workload") {
		spec["workloadSelector"] = m{"labels": m{"app": "caller"}}
	}
	g.add(withSpec(manifest(networking, "Sidecar", pick(&g.generator, "Sidecar's namespace", g.callers(), g.callers(), g.third()), g.unique("sidecar")), spec))
}

// experiment draws an abort or a blackhole of all calls.
func (g *surrounding) experiment() experiment {
	e := experiment{name: g.name, host: g.target}
	if aliases := g.aliases(); len(aliases) > 0 && g.oneIn(6, "is about an alias") {
		e.host = aliases[0]
	}
	if g.oneIn(4, "has port") {
		e.port = g.ports[len(g.ports)-1].number
	}
	namespace := pick(&g.generator, "callers", g.callers(), g.callers(), g.third())
	e.callers = []caller{{namespace, pick(&g.generator, "caller labels", map[string]string{"app": "caller"}, nil, map[string]string{"app": "caller"})}}
	if !slices.ContainsFunc(g.ports, func(p port) bool { return p.protocol != "http" && p.protocol != "grpc" }) && g.oneIn(2, "is an abort") || g.oneIn(4, "aborts whatever") {
		e.fault = m{"abort": m{"httpStatus": int64(503)}, "percentage": 100}
		e.envoy = m{
			"@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
			"abort": m{"httpStatus": 503.0, "percentage": m{"numerator": 1000000.0, "denominator": "MILLION"}},
		}
		return e
	}
	e.fault = m{"blackhole": m{"mode": "reject"}, "percentage": 100}
	return e
}
