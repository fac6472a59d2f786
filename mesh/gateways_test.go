package mesh_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/mesh/meshtest"
	"github.com/squall-chaos/squall/mesh/objects"
)

// edge returns a mesh in which the gateway of the namespace shop leads to the target, with
// more objects, and an experiment on the calls through it.
func edge(t *testing.T, more ...string) (config.Snapshot, experiments.Experiment) {
	t.Helper()
	s := meshtest.Snapshot(t, append([]string{
		"{apiVersion: v1, kind: Service, metadata: {namespace: shop, name: edge}, spec: {selector: {istio: edge}, ports: [{name: http, port: 80}]}}",
		"{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {namespace: shop, name: public}, spec: {selector: {istio: edge}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [\"*.example.com\"]}]}}",
		meshtest.VirtualService("prod/ratings", "{hosts: [shop.example.com], gateways: [shop/public], http: [{route: [{destination: {host: ratings}}]}]}"),
	}, more...)...)
	return s, meshtest.Experiment(t, "callers: [{namespace: shop}]", "callers: [{gateway: {namespace: shop, labels: {istio: edge}}}]")
}

// The object of a run that takes precedence for the same host of the same Gateway blocks
// another run. Labels alone do not.
func TestLiveRunAtAGateway(t *testing.T) {
	spec := func(of, exportTo string) string {
		return "{hosts: [" + of + "], gateways: [shop/public], exportTo: [" + exportTo + "], http: [{route: [{destination: {host: " + host + "}}]}]}"
	}
	for _, test := range []struct {
		name, object string
		blocks       bool
	}{
		{"the same host", fake("shop/squall-edge", spec("shop.example.com", ".")), true},
		{"a wildcard for it", fake("shop/squall-edge", spec("'*.example.com'", ".")), true},
		{"exported to the gateway", fake("prod/squall-edge", spec("shop.example.com", "shop")), true},
		{"another host", fake("shop/squall-edge", spec("api.example.com", ".")), false},
		{"public", fake("prod/squall-edge", spec("shop.example.com", "'*'")), false},
		{"private to another namespace", fake("prod/squall-edge", spec("shop.example.com", ".")), false},
		{"another Gateway", fake("shop/squall-edge", strings.Replace(spec("shop.example.com", "."), "shop/public", "shop/other", 1)), false},
		{"sidecars", fake("shop/squall-edge", "{hosts: ["+host+"], exportTo: [.], http: [{route: [{destination: {host: "+host+"}}]}]}"), false},
		{"the name of the new object", fake("shop/"+objects.EdgeName("shop.example.com", "shop/public", "shop"), spec("api.example.com", "'*'")), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, e := edge(t, test.object)
			plan := decide(s, e)
			first, refused := plan.Refusal()
			if refused != test.blocks || refused && first.Blocker == (objects.Key{}) {
				t.Errorf("refused %t: %s", refused, first.Reason)
			}
			if idle := mesh.Idle(s, e); len(idle) > 0 {
				t.Errorf("idle: %v", idle)
			}
		})
	}
}

// A plan needs only the narrowed mesh, and is the same for it.
func TestNarrowKeepsWhatAGatewayNeeds(t *testing.T) {
	s, e := edge(t, meshtest.VirtualService("prod/more", "{hosts: [shop.example.com], gateways: [shop/public], http: [{match: [{uri: {prefix: /x}}], route: [{destination: {host: other}}]}]}"),
		"{apiVersion: v1, kind: Service, metadata: {namespace: prod, name: other}, spec: {ports: [{name: http, port: 81}]}}",
		meshtest.VirtualService("prod/unrelated", "{hosts: [unrelated], http: [{route: [{destination: {host: unrelated}}]}]}"),
		"{apiVersion: v1, kind: Service, metadata: {namespace: prod, name: unrelated}, spec: {ports: [{name: http, port: 81}]}}")
	narrow := mesh.Narrow(s, e.Spec)
	if diff := cmp.Diff(decide(s, e), decide(narrow, e)); diff != "" {
		t.Error(diff)
	}
	if slices.ContainsFunc(narrow.Services, func(s config.Service) bool { return s.Name == "unrelated" }) || len(narrow.VirtualServices) != 2 {
		t.Errorf("%d VirtualServices, Services %v", len(narrow.VirtualServices), narrow.Services)
	}
}

// Gateways among discovered callers are named as gateways.
func TestAsGateways(t *testing.T) {
	s, _ := edge(t)
	gateway := experiments.Caller{Gateway: &experiments.Gateway{Namespace: "shop", Labels: map[string]string{"istio": "edge"}}}
	got := mesh.AsGateways(s, host, []experiments.Caller{{Namespace: "shop"}, {Namespace: "prod"}, gateway})
	if diff := cmp.Diff([]experiments.Caller{gateway, {Namespace: "prod"}, gateway}, got); diff != "" {
		t.Error(diff)
	}
	s.Services = append(s.Services, config.Service{Namespace: "shop", Name: "reviews", Selector: map[string]string{"app": "reviews"}})
	// Of several gateways in a namespace, the ones with a route to the host call it.
	s.Services = append(s.Services, config.Service{Namespace: "shop", Name: "egress", Selector: map[string]string{"istio": "egress"}})
	s.Gateways = append([]*unstructured.Unstructured{meshtest.Object(t, "{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {namespace: shop, name: egress}, spec: {selector: {istio: egress}, servers: []}}")}, s.Gateways...)
	got = mesh.AsGateways(s, host, []experiments.Caller{{Namespace: "shop"}})
	if diff := cmp.Diff([]experiments.Caller{{Namespace: "shop"}, gateway}, got); diff != "" {
		t.Error(diff)
	}
}
