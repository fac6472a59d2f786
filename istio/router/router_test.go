package router_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/fields"
	"github.com/squall-chaos/squall/istio/router"
	"github.com/squall-chaos/squall/istio/routing"
)

// workload is the pods of the tests' gateway.
var workload = router.Workload{Namespace: "edge", Labels: map[string]string{"istio": "ingress"}}

// snapshot returns a mesh with objects, each of which is KIND NAMESPACE/NAME SPEC; the
// first one is the oldest.
func snapshot(t *testing.T, objects ...string) config.Snapshot {
	t.Helper()
	s := config.Defaults()
	s.Namespaces = map[string]map[string]string{"edge": {}, "shop": {}}
	s.Services = []config.Service{{Namespace: "edge", Name: "ingress", Selector: map[string]string{"istio": "ingress", "app": "edge"}}}
	for i, text := range objects {
		kind, rest, _ := strings.Cut(text, " ")
		name, spec, _ := strings.Cut(rest, " ")
		namespace, name, _ := strings.Cut(name, "/")
		object := &unstructured.Unstructured{}
		manifest := fmt.Sprintf("{apiVersion: networking.istio.io/v1, kind: %s, metadata: {namespace: %s, name: %s, creationTimestamp: %q}, spec: %s}",
			kind, namespace, name, time.Date(2026, 1, 1, 0, 0, i, 0, time.UTC).Format(time.RFC3339), spec)
		encoded, err := yaml.YAMLToJSON([]byte(manifest))
		if err != nil {
			t.Fatal(err)
		}
		if err := object.UnmarshalJSON(encoded); err != nil {
			t.Fatal(err)
		}
		switch kind {
		case "Gateway":
			s.Gateways = append(s.Gateways, object)
		case "VirtualService":
			s.VirtualServices = append(s.VirtualServices, object)
		default:
			t.Fatal(kind)
		}
	}
	return s
}

func TestSelect(t *testing.T) {
	for _, test := range []struct {
		name, selector     string
		labels             map[string]string
		selected, isUnsure bool
	}{
		{"same labels", "{istio: ingress}", nil, true, false},
		{"no selector", "{}", nil, true, false},
		{"other labels", "{istio: egress}", nil, false, false},
		{"labels of the Service", "{app: edge}", nil, true, false},
		{"other labels than the Service", "{app: other}", nil, false, false},
		{"labels that are not known", "{zone: a}", nil, false, true},
		{"more labels", "{istio: ingress}", map[string]string{"istio": "ingress", "app": "edge"}, true, false},
		{"labels without a Service", "{app: edge}", map[string]string{"istio": "egress"}, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			of := workload
			if test.labels != nil {
				of.Labels = test.labels
			}
			got := router.Select(snapshot(t, "Gateway shop/public {selector: "+test.selector+"}"), of)
			if len(got.Gateways) == 1 != test.selected || len(got.Unsure) == 1 != test.isUnsure {
				t.Errorf("%d selected, %d unsure", len(got.Gateways), len(got.Unsure))
			}
		})
	}
}

// A Gateway in a namespace that istiod does not watch selects nothing.
func TestSelectsOnlyWatchedGateways(t *testing.T) {
	s := snapshot(t, "Gateway shop/public {selector: {istio: ingress}}")
	s.Discovered = func(labels map[string]string) bool { return labels["watched"] == "yes" }
	if got := router.Select(s, workload); len(got.Gateways) != 0 {
		t.Error(got)
	}
}

func TestWorkload(t *testing.T) {
	s := snapshot(t)
	if !workload.Exists(s) || !workload.IsAlone(s) {
		t.Error("it exists alone")
	}
	s.Services = append(s.Services, config.Service{Namespace: "edge", Name: "egress", Selector: map[string]string{"istio": "egress"}})
	if workload.IsAlone(s) {
		t.Error("there is another workload")
	}
	if (router.Workload{Namespace: "shop", Labels: workload.Labels}).Exists(s) {
		t.Error("shop has no Service")
	}
}

func TestServers(t *testing.T) {
	const (
		http  = "{port: {number: 80, name: http, protocol: HTTP}, hosts: [a.example.com]}"
		tls   = "{port: {number: 443, name: tls, protocol: TLS}, tls: {mode: PASSTHROUGH}, hosts: [a.example.com]}"
		https = "{port: {number: 443, name: https, protocol: HTTPS}, tls: {mode: SIMPLE}, hosts: [a.example.com]}"
	)
	for _, test := range []struct {
		name    string
		servers [2]string // of an older and a younger Gateway
		want    string
	}{
		{"HTTP on one port", [2]string{http, "{port: {number: 80, name: grpc, protocol: GRPC}, hosts: [b.example.com]}"}, "http.80 http.80"},
		{"HTTPS on one port", [2]string{https, "{port: {number: 443, name: https, protocol: HTTPS}, tls: {mode: SIMPLE}, hosts: [b.example.com]}"}, "https.443.https.old.shop https.443.https.new.shop"},
		{"the same host with TLS", [2]string{https, tls}, "https.443.https.old.shop ignored"},
		{"the same host with TLS at other addresses", [2]string{https, "{port: {number: 443, name: https, protocol: HTTPS}, bind: 10.0.0.1, tls: {mode: SIMPLE}, hosts: [a.example.com]}"}, "https.443.https.old.shop https.443.https.new.shop.10.0.0.1"},
		{"another host with TLS", [2]string{tls, "{port: {number: 443, name: https, protocol: HTTPS}, tls: {mode: MUTUAL}, hosts: [b.example.com]}"}, "connections https.443.https.new.shop"},
		{"TCP after HTTP", [2]string{http, "{port: {number: 80, name: tcp, protocol: TCP}, hosts: [\"*\"]}"}, "http.80 ignored"},
		{"HTTP after TCP", [2]string{"{port: {number: 80, name: tcp, protocol: TCP}, hosts: [\"*\"]}", http}, "connections ignored"},
		{"HTTPS passed through", [2]string{"{port: {number: 443, name: https, protocol: HTTPS}, tls: {mode: PASSTHROUGH}, hosts: [a.example.com]}", http}, "connections http.80"},
		{"without a port", [2]string{"{hosts: [a.example.com]}", http}, "http.80"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := snapshot(t, "Gateway shop/old {selector: {istio: ingress}, servers: ["+test.servers[0]+"]}", "Gateway shop/new {selector: {istio: ingress}, servers: ["+test.servers[1]+"]}")
			var got []string
			for _, server := range router.Servers(router.Select(s, workload).Gateways) {
				switch {
				case server.Ignored:
					got = append(got, "ignored")
				case !server.HasRequests():
					got = append(got, "connections")
				default:
					got = append(got, server.Routes)
				}
			}
			if diff := cmp.Diff(test.want, strings.Join(got, " ")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTakes(t *testing.T) {
	s := snapshot(t, "Gateway shop/public {selector: {istio: ingress}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [a.com, shop/b.com, ./c.com, \"*/d.com\", other/e.com]}]}",
		"Gateway shop/all {selector: {istio: ingress}, servers: [{port: {number: 81, name: http, protocol: HTTP}, hosts: [f.com, \"*/*\"]}]}")
	servers := router.Servers(router.Select(s, workload).Gateways)
	for namespace, want := range map[string]string{"shop": "a.com b.com c.com d.com", "other": "a.com d.com e.com", "edge": "a.com d.com"} {
		if got := strings.Join(servers[0].Takes(namespace), " "); got != want {
			t.Errorf("%s: %s instead of %s", namespace, got, want)
		}
	}
	if got := strings.Join(servers[1].Takes("edge"), " "); got != "*" {
		t.Error(got)
	}
}

func TestIntersection(t *testing.T) {
	for _, test := range []struct{ a, b, want string }{
		{"a.com", "a.com", "a.com"},
		{"a.com", "b.com", ""},
		{"*.com", "a.com b.com", "a.com b.com"},
		{"a.com", "*", "a.com"},
		{"*.com", "*.a.com", "*.a.com"},
		{"*.a.com", "*.com", "*.a.com"},
		{"*", "*", "*"},
		{"*a.com", "a.com", "a.com"},
		{"*.a.com", "a.com", ""},
		{"a.com *.com", "a.com", "a.com"},
	} {
		if got := strings.Join(router.Intersection(strings.Fields(test.a), strings.Fields(test.b)), " "); got != test.want {
			t.Errorf("%s and %s: %q instead of %q", test.a, test.b, got, test.want)
		}
	}
}

func TestGatewayName(t *testing.T) {
	for name, want := range map[string]string{
		"public": "shop/public", "./public": "shop/public", "edge/public": "edge/public",
		"public.edge": "edge/public", "public.edge.svc.cluster.local": "edge/public",
	} {
		if got := router.GatewayName(name, "shop"); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// public is a Gateway with two ports.
const public = "Gateway shop/public {selector: {istio: ingress}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [\"*.example.com\"]}, {port: {number: 443, name: https, protocol: HTTPS}, tls: {mode: SIMPLE}, hosts: [A.example.com]}]}"

// route is an HTTP route to a host.
func route(to, match string) string {
	if match == "" {
		return "{route: [{destination: {host: " + to + "}}]}"
	}
	return "{match: [" + match + "], route: [{destination: {host: " + to + "}}]}"
}

func bind(name, more string, routes ...string) string {
	return "VirtualService " + name + " {hosts: [A.example.com], gateways: [shop/public]" + more + ", http: [" + strings.Join(routes, ", ") + "]}"
}

// routesOf describes the routes of a workload: a line for each host of each route
// configuration.
func routesOf(t *testing.T, s config.Snapshot) string {
	t.Helper()
	var lines []string
	for _, v := range router.VirtualHosts(s, workload, router.Servers(router.Select(s, workload).Gateways)) {
		line := v.Routing + " " + v.Host + ":"
		for _, r := range v.Routes {
			to := fields.String(fields.Map(fields.Maps(r.HTTP, "route")[0], "destination"), "host")
			line += " " + strings.TrimSuffix(to, ".svc.cluster.local")
			for _, m := range fields.Maps(r.HTTP, "match") {
				line += strings.ReplaceAll(fmt.Sprint(m), "map", "")
			}
		}
		if v.Err != nil {
			line += " (" + v.Err.Error() + ")"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func TestVirtualHosts(t *testing.T) {
	const https = "https.443.https.public.shop a.example.com:"
	for _, test := range []struct {
		name    string
		objects []string
		want    string
	}{
		{"one VirtualService", []string{bind("shop/a", "", route("a", "{uri: {prefix: /a}}"), route("b", ""))}, "a.shop[uri:[prefix:/a]] b.shop"},
		{"catch-alls come last, and end the routes of their VirtualService", []string{
			bind("shop/a", "", route("a", "{uri: {exact: /a}}, {uri: {prefix: /}}, {uri: {exact: /never}}"), route("never", "")),
			bind("shop/b", "", route("b", "{headers: {x: {exact: z}}}"), route("c", "{uri: {regex: \".*\"}}")),
		}, "a.shop[uri:[exact:/a]] b.shop[headers:[x:[exact:z]]] a.shop[uri:[prefix:/]] c.shop[uri:[regex:.*]]"},
		{"private ones come first, then those exported by name, then public ones", []string{
			bind("shop/a", "", route("a", "{uri: {exact: /a}}")),
			bind("shop/b", ", exportTo: [edge]", route("b", "{uri: {exact: /b}}")),
			bind("edge/c", ", exportTo: [.]", route("c", "{uri: {exact: /c}}")),
			bind("edge/d", "", route("d", "{uri: {exact: /d}}")),
			bind("shop/e", ", exportTo: [.]", route("hidden", "")),
		}, "c.edge[uri:[exact:/c]] b.shop[uri:[exact:/b]] a.shop[uri:[exact:/a]] d.edge[uri:[exact:/d]]"},
		{"labels and namespaces of sources are those of the gateway", []string{bind("shop/a", "",
			route("a", "{sourceLabels: {istio: ingress}, uri: {exact: /a}}"), route("never", "{sourceLabels: {istio: egress}}"),
			route("b", "{sourceNamespace: edge, uri: {exact: /b}}"), route("never", "{sourceNamespace: shop}"),
			route("c", "{gateways: [public], sourceNamespace: shop, sourceLabels: {x: y}, uri: {exact: /c}}"), route("never", "{gateways: [mesh]}"),
		)}, "a.shop[uri:[exact:/a]] b.shop[uri:[exact:/b]] c.shop[uri:[exact:/c]]"},
		{
			"labels that are not known",
			[]string{bind("shop/a", "", route("a", "{uri: {exact: /a}}"), route("b", "{sourceLabels: {zone: a}}"))},
			"a.shop[uri:[exact:/a]] (VirtualService shop/a has routes for some proxies or ports only)",
		},
		{"a VirtualService without routes for the gateway", []string{bind("shop/a", "", route("a", "{gateways: [mesh]}"))}, ""},
		{"another Gateway", []string{"VirtualService shop/a {hosts: [a.example.com], gateways: [other/public], http: [" + route("a", "") + "]}"}, ""},
		{"the mesh", []string{"VirtualService shop/a {hosts: [a.example.com], http: [" + route("a", "") + "]}"}, ""},
		{"a delegate", []string{
			bind("shop/a", "", "{match: [{uri: {prefix: /a}}], delegate: {name: child, namespace: edge}}"),
			"VirtualService edge/child {http: [" + route("c", "{uri: {prefix: /a/b}}") + "]}",
		}, "c.edge[uri:[prefix:/a/b]]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			want := ""
			if test.want != "" {
				want = "http.80 a.example.com: " + test.want + "\n" + https + " " + test.want
			}
			if diff := cmp.Diff(want, routesOf(t, snapshot(t, append([]string{public}, test.objects...)...))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestVirtualHostsByPort(t *testing.T) {
	s := snapshot(t, public, bind("shop/a", "", route("tls", "{port: 443}"), route("plain", "{port: 80}")),
		"VirtualService shop/w {hosts: [\"*.eu.example.com\", www.example.org], gateways: [shop/public], http: ["+route("w", "")+"]}")
	const want = "http.80 a.example.com: plain.shop\nhttp.80 *.eu.example.com: w.shop\nhttps.443.https.public.shop a.example.com: tls.shop"
	if diff := cmp.Diff(want, routesOf(t, s)); diff != "" {
		t.Error(diff)
	}
}

// The order of two VirtualServices of one visibility depends on their ages.
func TestUnknownAges(t *testing.T) {
	s := snapshot(t, public, bind("shop/a", "", route("a", "{uri: {exact: /a}}")), bind("shop/b", "", route("b", "")))
	s.VirtualServices[1].SetCreationTimestamp(s.VirtualServices[1].GetCreationTimestamp())
	unstructured.RemoveNestedField(s.VirtualServices[1].Object, "metadata", "creationTimestamp")
	v := router.VirtualHosts(s, workload, router.Servers(s.Gateways))[0]
	if undecided, ok := errors.AsType[*routing.UndecidedError](v.Err); !ok || undecided.Why != routing.UnknownAge {
		t.Error(v.Err)
	}
}

func TestOtherRevision(t *testing.T) {
	s := snapshot(t, public, bind("shop/a", "", route("a", "")))
	s.VirtualServices[0].SetLabels(map[string]string{config.RevisionLabel: "canary"})
	v := router.VirtualHosts(s, workload, router.Servers(s.Gateways))[0]
	if undecided, ok := errors.AsType[*routing.UndecidedError](v.Err); !ok || undecided.Why != routing.OtherRevision || len(v.Routes) != 0 {
		t.Errorf("%v", v)
	}
	s.Namespaces["edge"][config.RevisionLabel] = "canary"
	if v := router.VirtualHosts(s, workload, router.Servers(s.Gateways))[0]; v.Err != nil || len(v.Routes) != 1 {
		t.Errorf("%v", v)
	}
}

func TestConnecting(t *testing.T) {
	s := snapshot(t, "Gateway shop/public {selector: {istio: ingress}, servers: [{port: {number: 443, name: tls, protocol: TLS}, tls: {mode: PASSTHROUGH}, hosts: [\"*.example.com\"]}]}",
		"VirtualService shop/a {hosts: [a.example.com], gateways: [public], tls: [{match: [{sniHosts: [a.example.com]}], route: [{destination: {host: a}}]}]}",
		"VirtualService shop/b {hosts: [a.example.org], gateways: [public], tcp: [{route: [{destination: {host: b}}]}]}")
	servers := router.Servers(s.Gateways)
	if vs := router.Connecting(s, workload, servers, "a.shop.svc.cluster.local"); vs == nil || vs.GetName() != "a" {
		t.Error(vs)
	}
	if vs := router.Connecting(s, workload, servers, "b.shop.svc.cluster.local"); vs != nil {
		t.Error(vs)
	}
}
