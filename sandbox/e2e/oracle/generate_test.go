package oracle_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"pgregory.net/rapid"
)

// generate returns the scenario of a seed.
func generate(seed int) scenario {
	name := fmt.Sprintf("g%04d", seed)
	return rapid.Custom(func(t *rapid.T) scenario { return (&generator{T: t, name: name}).scenario() }).Example(seed)
}

// generator draws a scenario. Its words are few, so that conditions meet.
type generator struct {
	*rapid.T
	name string
	// hosts are FQDNs; the first is the target.
	hosts []string
	// objects by wave.
	waves [2][]object
	count int
}

// The namespaces of a generated scenario: of the callers, of the services, and
// one more.
func (g *generator) callers() string  { return g.name + "-a" }
func (g *generator) services() string { return g.name + "-b" }
func (g *generator) third() string    { return g.name + "-c" }

func (g *generator) namespaces() []string { return []string{g.callers(), g.services(), g.third()} }

func pick[T any](g *generator, what string, values ...T) T {
	return rapid.SampledFrom(values).Draw(g.T, what)
}

// oneIn is true in one of n draws.
func (g *generator) oneIn(n int, what string) bool {
	return rapid.IntRange(0, n-1).Draw(g.T, what) == n-1
}

func (g *generator) add(o object) {
	wave := pick(g, "wave", 0, 1)
	g.waves[wave] = append(g.waves[wave], o)
}

func (g *generator) unique(stem string) string {
	g.count++
	return fmt.Sprintf("%s-%d", stem, g.count)
}

func (g *generator) scenario() scenario {
	suffix := pick(g, "domain", "."+g.services()+".svc.cluster.local", ".deep."+g.name+".test", "."+g.services()+".svc.cluster.local")
	for _, word := range []string{"t", "u", "v"} {
		g.hosts = append(g.hosts, word+suffix)
		g.waves[0] = append(g.waves[0], withSpec(manifest(networking, "ServiceEntry", g.services(), word),
			serviceEntrySpec(list(word+suffix), []int64{9080, 9090}, g.namespaces())))
	}
	if g.oneIn(3, "is a contest") {
		g.contest(suffix)
	} else {
		for range pick(g, "VirtualServices", 1, 2, 1, 3, 1, 2, 1, 1, 0) {
			g.virtualService(suffix)
		}
	}
	if g.oneIn(5, "has Sidecar") {
		g.sidecar()
	}
	return scenario{name: g.name, namespaces: g.namespaces(), waves: [][]object{g.waves[0], g.waves[1]}, experiment: g.experiment()}
}

func (g *generator) experiment() experiment {
	e := experiment{name: g.name, host: g.hosts[0], minRequests: pick(g, "minRequests", int64(0), 1)}
	if g.oneIn(4, "has port") {
		e.port = pick(g, "port", int64(9080), 9090)
	}
	for _, namespace := range pick(g, "caller namespaces", []string{g.callers()}, []string{g.callers()}, []string{g.callers(), g.third()}, []string{g.services()}) {
		for range pick(g, "callers", 1, 1, 1, 2) {
			labels := pick(g, "caller labels", map[string]string{"app": "caller"}, nil, map[string]string{"app": "caller"}, map[string]string{"tier": "x"}, map[string]string{"app": "caller", "tier": "x"})
			e.callers = append(e.callers, caller{namespace, labels})
		}
	}
	for range pick(g, "experiment matches", 1, 0, 1, 0, 2) {
		e.match = append(e.match, g.experimentMatch())
	}
	e.fault, e.envoy = g.injection()
	return e
}

// injection returns a fault in the formats of Squall and of Envoy.
func (g *generator) injection() (fault, envoy m) {
	fault = m{"percentage": 50.5}
	envoy = m{"@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault"}
	percentage := m{"numerator": 505000.0, "denominator": "MILLION"}
	kind := pick(g, "fault", "abort", "grpc", "delay", "both")
	switch kind {
	case "abort", "both":
		fault["abort"] = m{"httpStatus": int64(503)}
		envoy["abort"] = m{"httpStatus": 503.0, "percentage": percentage}
	case "grpc":
		fault["abort"] = m{"grpcStatus": "UNAVAILABLE"}
		envoy["abort"] = m{"grpcStatus": 14.0, "percentage": percentage}
	}
	if kind == "delay" || kind == "both" {
		fault["delay"] = m{"fixedDelay": "1500ms"}
		envoy["delay"] = m{"fixedDelay": "1.500s", "percentage": percentage}
	}
	return fault, envoy
}

// experimentMatch draws a condition as an experiment's file has it: never
// empty, a case that is ignored only where there is one, and no presence of a
// query parameter.
func (g *generator) experimentMatch() m {
	c := m{}
	for len(c) == 0 {
		g.requestFields(c)
		for _, wanted := range mapOf(c["queryParams"]) {
			if len(mapOf(wanted)) == 0 {
				delete(c, "queryParams")
			}
		}
	}
	if uri := mapOf(c["uri"]); uri != nil && uri["regex"] == nil && g.oneIn(4, "ignores case") {
		c["ignoreUriCase"] = true
	}
	return c
}

// requestFields draws conditions on the request.
func (g *generator) requestFields(c m) {
	if g.oneIn(2, "has uri") {
		c["uri"] = pick(g, "uri", m{"prefix": "/"}, m{"prefix": "/a"}, m{"prefix": "/a/"}, m{"prefix": "/A"}, m{"prefix": "/a/b"}, m{"exact": "/a"}, m{"exact": "/a/b"}, m{"exact": "/A"}, m{"regex": "/a.*"}, m{"regex": "/(a|b)/.*"}, m{"regex": ".*"})
	}
	if g.oneIn(3, "has headers") {
		c["headers"] = g.headers()
	}
	if g.oneIn(6, "has withoutHeaders") {
		c["withoutHeaders"] = m{pick(g, "absent header", "x-user", "x-skip"): pick(g, "absent value", m{"exact": "bob"}, m{"prefix": "ja"}, m{"regex": "ja.+"}, m{})}
	}
	if g.oneIn(5, "has method") {
		c["method"] = pick(g, "method", m{"exact": "GET"}, m{"exact": "POST"}, m{"regex": "GET|HEAD"}, m{"prefix": "P"})
	}
	if g.oneIn(8, "has authority") {
		c["authority"] = pick(g, "authority", m{"exact": g.hosts[0]}, m{"prefix": "t."}, m{"regex": ".*:9080"})
	}
	if g.oneIn(12, "has scheme") {
		c["scheme"] = m{"exact": "http"}
	}
	if g.oneIn(6, "has query") {
		c["queryParams"] = m{pick(g, "parameter", "q", "debug"): pick(g, "parameter value", m{"exact": "1"}, m{"regex": "[0-9]+"}, m{"prefix": "1"}, m{})}
	}
}

func (g *generator) headers() m {
	values := []any{m{"exact": "jason"}, m{"exact": "bob"}, m{"prefix": "ja"}, m{"prefix": "jas"}, m{"regex": "ja.*|bob"}, m{}}
	headers := m{}
	for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"x-user", "x-flag"}), 1, 2, rapid.ID).Draw(g.T, "headers") {
		headers[name] = rapid.SampledFrom(values).Draw(g.T, "header")
	}
	return headers
}

// routeMatch draws a condition of a route.
func (g *generator) routeMatch() m {
	c := m{}
	g.requestFields(c)
	if c["uri"] != nil && g.oneIn(6, "ignores case") {
		c["ignoreUriCase"] = true
	}
	if g.oneIn(6, "has source labels") {
		c["sourceLabels"] = pick(g, "source labels", m{"app": "caller"}, m{"app": "other"}, m{"tier": "x"}, m{"app": "caller", "tier": "x"})
	}
	if g.oneIn(10, "has source namespace") {
		c["sourceNamespace"] = pick(g, "source namespace", g.callers(), g.third())
	}
	if g.oneIn(8, "has port") {
		c["port"] = pick(g, "port", int64(9080), 9090)
	}
	if g.oneIn(10, "has gateways") {
		c["gateways"] = pick(g, "gateways", list("mesh"), list(g.services()+"/gw"), list("mesh", g.services()+"/gw"))
	}
	if g.oneIn(10, "has name") {
		c["name"] = pick(g, "match name", "m1", "m2")
	}
	return c
}

// virtualService draws one that names the target, most often, and its
// delegates.
func (g *generator) virtualService(suffix string) {
	namespace := pick(g, "namespace", g.services(), g.callers(), g.third(), g.services())
	hosts := pick(g, "hosts", list(g.hosts[0]), list(g.hosts[0]), list(g.hosts[0]), list("t"), list(g.hosts[0], g.hosts[1]), list("*"+suffix), list(strings.ToUpper(g.hosts[0])))
	spec := m{"hosts": hosts}
	if exportTo := pick(g, "exportTo", nil, nil, nil, nil, nil, list("*"), list("."), list(g.callers()), list(g.callers(), g.third())); exportTo != nil {
		spec["exportTo"] = exportTo
	}
	if gateways := pick(g, "bound to", nil, nil, nil, nil, nil, nil, nil, list("mesh"), list("mesh", g.services()+"/gw"), list(g.services()+"/gw")); gateways != nil {
		spec["gateways"] = gateways
	}
	others := g.otherProtocols(hosts)
	maps.Copy(spec, others)
	var routes []any
	for range pick(g, "routes", 1, 1, 2, 2, 3, 4) {
		routes = append(routes, g.route(true))
	}
	if g.oneIn(2, "has a catch-all") {
		routes = append(routes, g.forward(m{}))
	}
	if len(others) == 0 || !g.oneIn(4, "has no http") {
		spec["http"] = routes
	}
	o := withSpec(manifest(networking, "VirtualService", namespace, g.unique("vs")), spec)
	if g.oneIn(30, "is of another revision") {
		o.SetLabels(map[string]string{"istio.io/rev": "canary"})
	}
	g.add(o)
}

// contest draws simple VirtualServices that all have the target, most of them with the
// same host: only one of them is effective.
func (g *generator) contest(suffix string) {
	usual, rare := g.visibility(), g.visibility()
	for i := range pick(g, "contestants", 2, 3, 4) {
		spec := m{"hosts": pick(g, "contested", list(g.hosts[0]), list(g.hosts[0]), list("*"+suffix), list(g.hosts[0], g.hosts[1]), list("*"+strings.TrimPrefix(suffix, ".deep")))}
		if exportTo := pick(g, "which exportTo", usual, usual, rare); exportTo != nil {
			spec["exportTo"] = exportTo
		}
		route := m{"timeout": fmt.Sprintf("%ds", i+1), "route": list(m{"destination": m{"host": g.hosts[0]}})}
		if g.oneIn(6, "is for some") {
			route["match"] = list(pick(g, "some", m{"port": int64(9080)}, m{"sourceLabels": m{"app": "caller"}}, m{"sourceNamespace": g.third()}))
		}
		spec["http"] = list(route)
		namespace := pick(g, "contestant's namespace", g.services(), g.third(), g.services(), g.third(), g.callers())
		// The names' order is not the order of creation.
		g.add(withSpec(manifest(networking, "VirtualService", namespace, g.unique(pick(g, "stem", "z", "a", "k"))), spec))
	}
}

func (g *generator) visibility() []any {
	return pick(g, "contestant's exportTo", nil, list(g.callers()), list("*"), list(g.callers(), g.services(), g.third()), nil, list("."))
}

// otherProtocols draws tcp and tls routes.
func (g *generator) otherProtocols(hosts []any) m {
	routes := m{}
	to := list(m{"destination": m{"host": g.hosts[1]}})
	if g.oneIn(15, "has tcp") {
		routes["tcp"] = list(m{"match": list(m{"port": int64(9999)}), "route": to})
	}
	if g.oneIn(15, "has tls") && hosts[0] != "t" {
		names := pick(g, "server names", hosts[:1], hosts)
		routes["tls"] = list(m{"match": list(m{"port": int64(9443), "sniHosts": names}), "route": to})
	}
	return routes
}

// route draws an http route; only a root's may delegate.
func (g *generator) route(mayDelegate bool) m {
	route := m{}
	var match []any
	for range pick(g, "matches", 1, 0, 1, 2, 1, 3) {
		match = append(match, g.routeMatch())
	}
	if len(match) > 0 {
		route["match"] = match
	}
	if g.oneIn(5, "has name") {
		route["name"] = pick(g, "route name", "r1", "r2", "default", "squall-"+g.name)
	}
	switch pick(g, "action", "forward", "forward", "forward", "forward", "forward", "forward", "forward", "forward", "redirect", "direct", "delegate") {
	case "redirect":
		route["redirect"] = m{"uri": "/elsewhere", "authority": "elsewhere.test"}
	case "direct":
		route["directResponse"] = m{"status": int64(418), "body": m{"string": "teapot"}}
	case "delegate":
		if mayDelegate {
			g.delegate(route)
			return route
		}
		fallthrough
	default:
		return g.forward(route)
	}
	return route
}

// delegate makes a route hand over to a child.
func (g *generator) delegate(route m) {
	namespace := pick(g, "child namespace", g.services(), g.callers(), g.third())
	name := g.unique("child")
	route["delegate"] = m{"name": name, "namespace": namespace}
	if g.oneIn(2, "root timeout") {
		route["timeout"] = "4s"
	}
	child := m{}
	if exportTo := pick(g, "child exportTo", nil, nil, list("."), list(g.services())); exportTo != nil {
		child["exportTo"] = exportTo
	}
	var routes []any
	for range pick(g, "child routes", 1, 2) {
		own := g.route(false)
		if matches := items(route["match"]); len(matches) > 0 && g.oneIn(2, "child refines") {
			own["match"] = list(without(matches[0]))
		}
		routes = append(routes, own)
	}
	child["http"] = routes
	g.add(withSpec(manifest(networking, "VirtualService", namespace, name), child))
}

// forward adds destinations to a route, and compatible fields.
func (g *generator) forward(route m) m {
	var destinations []any
	for range pick(g, "destinations", 1, 1, 1, 2, 3) {
		destination := m{"host": pick(g, "destination", g.hosts[0], g.hosts[0], g.hosts[1], g.hosts[2], "u")}
		if g.oneIn(3, "has subset") {
			destination["subset"] = pick(g, "subset", "v1", "v2")
		}
		if g.oneIn(3, "has destination port") {
			destination["port"] = m{"number": int64(9080)}
		}
		destinations = append(destinations, m{"destination": destination, "weight": pick(g, "weight", int64(10), 25, 80)})
	}
	route["route"] = destinations
	for _, extra := range []struct {
		field string
		value func() any
	}{
		{"timeout", func() any { return pick(g, "timeout", "2s", "0.5s") }},
		{"retries", func() any {
			return pick(g, "retries", m{"attempts": int64(0)}, m{"attempts": int64(3), "perTryTimeout": "1s", "retryOn": "5xx,reset"})
		}},
		{"rewrite", func() any {
			return pick(g, "rewrite", m{"uri": "/new"}, m{"authority": "new.test"}, m{"uriRegexRewrite": m{"match": "/a(.*)", "rewrite": `/z\1`}})
		}},
		{"mirror", func() any { return m{"host": pick(g, "mirror", g.hosts[1], "u"), "port": m{"number": int64(9080)}} }},
		{"headers", func() any { return m{"request": m{"set": m{"x-set": "1"}, "remove": list("x-gone")}} }},
		{"corsPolicy", func() any { return m{"allowOrigins": list(m{"exact": "http://o.test"}), "maxAge": "24h"} }},
	} {
		if g.oneIn(6, extra.field) {
			route[extra.field] = extra.value()
		}
	}
	if route["mirror"] == nil && g.oneIn(10, "mirrors") {
		route["mirrors"] = list(m{"destination": m{"host": g.hosts[2]}, "percentage": m{"value": 12.5}})
	}
	if g.oneIn(14, "has fault") {
		route["fault"] = pick(g, "own fault", m{"abort": m{"httpStatus": int64(418), "percentage": m{"value": 10.0}}}, m{"delay": m{"fixedDelay": "3s", "percentage": m{"value": 10.0}}})
	}
	return route
}

// sidecar draws a Sidecar in a namespace of callers.
func (g *generator) sidecar() {
	hosts := func() []any {
		return anys(rapid.SliceOfNDistinct(rapid.SampledFrom([]string{
			"./*", "*/*", g.services() + "/*", g.third() + "/*", g.callers() + "/*", g.services() + "/" + g.hosts[0], "*/" + g.hosts[0], "~" + g.services() + "/" + g.hosts[1],
		}), 1, 3, rapid.ID).Draw(g.T, "egress hosts"))
	}
	namespace := pick(g, "Sidecar namespace", g.callers(), g.callers(), g.services())
	var selectors []m
	switch pick(g, "Sidecars", "namespace", "namespace", "workload", "both") {
	case "namespace":
		selectors = []m{nil}
	case "workload":
		selectors = []m{{"app": "caller"}}
	case "both":
		selectors = []m{nil, {"app": "caller"}}
	}
	for _, labels := range selectors {
		spec := m{"egress": list(m{"hosts": hosts()})}
		if g.oneIn(3, "has a listener with a port") {
			listener := m{"port": m{"number": int64(9080), "protocol": "HTTP", "name": "http"}, "hosts": hosts()}
			spec["egress"] = slices.Insert(spec["egress"].([]any), 0, any(listener)) //nolint:forcetypeassert // made above
		}
		if labels != nil {
			spec["workloadSelector"] = m{"labels": labels}
		}
		g.add(withSpec(manifest(networking, "Sidecar", namespace, g.unique("sidecar")), spec))
	}
}
