package advice_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/fields"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/mesh/advice"
	"github.com/squall-chaos/squall/mesh/meshtest"
)

// decided plans an experiment against a snapshot, with what it warns of.
func decided(s config.Snapshot, e experiments.Experiment) (plan mesh.Plan, warnings []string) {
	plan = mesh.Decide(s, e, mesh.Options{})
	return plan, advice.Warnings(s, e, plan)
}

const (
	probeUp  = "{name: up, query: up, min: 1}"
	analysis = "VirtualService shop/squall-ratings-a093b15a takes the place of VirtualService prod/ratings on purpose: expect istioctl analyze to report IST0109 (ConflictingMeshGatewayVirtualServiceHosts) for the two while the run lasts, and ignore it until then"
	blind    = `counts what the destination reports, where aborted requests never arrive: select reporter=~"source|waypoint" instead`
	grpcOnly = ", which proxyless gRPC callers do not evaluate, so the fault misses their requests: match uri or headers if there are such callers"
)

func probe(query string) string { return "{name: p, query: '" + query + "', min: 1}" }

func TestWarnings(t *testing.T) {
	const delay = "[{delay: {fixedDelay: 1s}, percentage: 50}]"
	for _, test := range []struct {
		name     string
		base     string
		edits    []string
		warnings []string
	}{
		{name: "nothing to say"},
		{
			name:     "probe at the destination",
			edits:    []string{probeUp, probe(`sum(rate(istio_requests_total{reporter="destination"}[1m]))`)},
			warnings: []string{`probe "p" ` + blind},
		},
		{
			name:     "the host by any of its names",
			edits:    []string{probeUp, probe(`1 - sum(rate(istio_requests_total{reporter!="source",reporter!="waypoint",destination_service_name="ratings",destination_service_namespace=~"p.*"}[1m]))`)},
			warnings: []string{`probe "p" ` + blind},
		},
		{
			name:     "stop condition at the destination",
			edits:    []string{"duration: 2m", "duration: 2m\n  stopConditions: [{name: s, query: 'istio_requests_total{reporter=\"destination\"}', min: 1}]"},
			warnings: []string{`stop condition "s" ` + blind},
		},
		{name: "another host", edits: []string{probeUp, probe(`istio_requests_total{reporter="destination",destination_service="productpage.shop.svc.cluster.local"}`)}},
		{name: "another Service", edits: []string{probeUp, probe(`istio_requests_total{reporter="destination",destination_service_name="productpage"}`)}},
		{name: "all reporters", edits: []string{probeUp, probe(`istio_requests_total{reporter=~"source|destination"}`)}},
		{name: "another metric", edits: []string{probeUp, probe(`requests_total{reporter="destination"}`)}},
		{name: "in a string only", edits: []string{probeUp, probe(`label_replace(up, "a", "istio_requests_total{reporter=destination}", "b", "")`)}},
		{name: "not while the fault is in force", edits: []string{probeUp, `{name: p, query: 'istio_requests_total{reporter="destination"}', min: 1, phases: [before, after]}`}},
		{name: "a delay arrives", edits: []string{"[{abort: {httpStatus: 503}, percentage: 50}]", delay, probeUp, probe(`istio_requests_total{reporter="destination"}`)}},
		{
			name:     "shadow",
			base:     "{hosts: [ratings], http: [{route: [{destination: {host: ratings}}]}]}",
			warnings: []string{analysis},
		},
		{
			name:     "shadow of a public wildcard",
			base:     "{hosts: ['*.prod.svc.cluster.local'], http: [{route: [{destination: {host: ratings}}]}]}",
			warnings: []string{analysis},
		},
		{
			name: "shadow of a wildcard that is exported by name",
			base: "{hosts: ['*.prod.svc.cluster.local'], exportTo: [shop], http: [{route: [{destination: {host: ratings}}]}]}",
		},
		{
			name: "timeout and retries",
			base: "{hosts: [ratings], http: [{name: v1, route: [{destination: {host: ratings}}], timeout: 5s, retries: {attempts: 2}}]}",
			warnings: []string{
				`VirtualService shop/squall-ratings-a093b15a: abort and delay act before the retries and timeout of http route 1 ("v1"), so the run does not test them; a blackhole does`,
				analysis,
			},
		},
		{
			name:     "on routes without the fault",
			base:     "{hosts: [ratings], http: [{match: [{headers: {end-user: {exact: ann}}}], route: [{destination: {host: ratings}}], timeout: 5s}, {route: [{destination: {host: ratings}}], timeout: 0s, retries: {attempts: 0}}]}",
			edits:    []string{"duration: 2m", "duration: 2m\n  match: [{headers: {end-user: {exact: jason}}}]"},
			warnings: []string{analysis},
		},
		{
			name: "corsPolicy",
			base: "{hosts: [ratings], http: [{route: [{destination: {host: ratings}}], corsPolicy: {maxAge: 1s}}]}",
			warnings: []string{
				"http route 1 of VirtualService shop/squall-ratings-a093b15a has a corsPolicy, because of which proxyless gRPC callers reject the whole route configuration and keep their old one: name only callers with sidecars",
				"http route 1 of VirtualService shop/squall-ratings-a093b15a has a corsPolicy, which does not apply to aborted requests: preflights fail, and browsers report a network error in place of the status",
				analysis,
			},
		},
		{
			name:     "unusual matches",
			edits:    []string{"duration: 2m", "duration: 2m\n  match: [{method: {exact: GET}}, {method: {exact: PUT}, queryParams: {a: {exact: b}}, scheme: {exact: http}, authority: {exact: a}, withoutHeaders: {x: {}}}]"},
			warnings: []string{"spec.match names method, queryParams, scheme, authority, withoutHeaders" + grpcOnly},
		},
		{name: "usual matches", edits: []string{"duration: 2m", "duration: 2m\n  match: [{headers: {end-user: {exact: jason}}}]"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var objects []string
			if test.base != "" {
				objects = append(objects, meshtest.VirtualService("prod/ratings", test.base))
			}
			plan, warnings := decided(meshtest.Snapshot(t, objects...), meshtest.Experiment(t, test.edits...))
			if refusal, refused := plan.Refusal(); refused {
				t.Fatal(refusal.Reason)
			}
			if diff := cmp.Diff(test.warnings, warnings); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWarnsOfCallersWithoutInjection(t *testing.T) {
	for name, test := range map[string]struct {
		labels map[string]string
		warns  bool
	}{
		"known by name only":     {labels: map[string]string{}},
		"enabled":                {labels: map[string]string{"istio-injection": "enabled"}},
		"by revision":            {labels: map[string]string{"istio.io/rev": "canary"}},
		"not labelled":           {labels: map[string]string{"kubernetes.io/metadata.name": "shop"}, warns: true},
		"disabled":               {labels: map[string]string{"istio-injection": "disabled"}, warns: true},
		"disabled with revision": {labels: map[string]string{"istio-injection": "disabled", "istio.io/rev": "canary"}, warns: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := meshtest.Snapshot(t)
			s.Namespaces["shop"] = test.labels
			var want []string
			if test.warns {
				want = []string{"namespace shop is not labelled for sidecar injection (istio-injection=enabled or istio.io/rev), and a caller without a proxy is not disturbed: check that its pods are injected one by one"}
			}
			_, warnings := decided(s, meshtest.Experiment(t))
			if diff := cmp.Diff(want, warnings); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A blackhole acts in the router, as timeout and retries do.
func TestWarningsOfBlackholes(t *testing.T) {
	e := meshtest.Experiment(t,
		"[{abort: {httpStatus: 503}, percentage: 50}]", "[{blackhole: {mode: drop}, percentage: 30}]",
		"target: {host: ratings, namespace: prod}", "target: {host: ratings, namespace: prod, subset: v1}",
		probeUp, probe(`istio_requests_total{reporter="destination"}`))
	s := meshtest.Snapshot(t, meshtest.VirtualService("prod/ratings", "{hosts: [ratings], exportTo: [prod, shop], http: [{route: [{destination: {host: ratings, subset: v1}, weight: 50}, {destination: {host: ratings, subset: v2}, weight: 50}], timeout: 5s}]}"))
	inForce := "prod/ratings"
	routes := fields.Maps(fields.Map(s.VirtualServices[0].Object, "spec"), "http")
	plan := mesh.Plan{
		Decisions: []mesh.Decision{{Host: meshtest.Host, Callers: "shop", Effective: &inForce, Placement: mesh.Shadow, Namespace: "shop", Injections: e.Spec.Injections(), Before: routes}},
		Objects:   []*unstructured.Unstructured{meshtest.Object(t, meshtest.VirtualService("shop/squall-ratings-a093b15a", "{hosts: [ratings], http: [{route: [{destination: {host: squall-nowhere}}], timeout: 5s}]}"))},
	}
	want := []string{
		`probe "p" counts what the destination reports, where blackholed requests never arrive: select reporter=~"source|waypoint" instead`,
		"VirtualService prod/ratings sends at most 50 % of the requests to subset v1, so 30 % of them are at most 15 % of all requests: leave out target.subset if all requests were meant",
	}
	if diff := cmp.Diff(want, advice.Warnings(s, e, plan)); diff != "" {
		t.Error(diff)
	}
}

func TestSubsetShare(t *testing.T) {
	for name, test := range map[string]struct {
		routes string
		want   float64
	}{
		"no routes":          {routes: "[]", want: 1},
		"another subset":     {routes: "[{route: [{destination: {subset: v1}}]}]", want: 1},
		"all requests":       {routes: "[{route: [{destination: {subset: v2}}]}]", want: 1},
		"half":               {routes: "[{route: [{destination: {subset: v1}, weight: 50}, {destination: {subset: v2}, weight: 50}]}]", want: 0.5},
		"nothing":            {routes: "[{route: [{destination: {subset: v1}, weight: 100}, {destination: {subset: v2}, weight: 0}]}]", want: 0},
		"any weights":        {routes: "[{route: [{destination: {subset: v1}, weight: 3}, {destination: {subset: v2}, weight: 1}]}]", want: 0.25},
		"twice":              {routes: "[{route: [{destination: {subset: v2}, weight: 10}, {destination: {subset: v1}, weight: 80}, {destination: {subset: v2}, weight: 10}]}]", want: 0.2},
		"the largest counts": {routes: "[{route: [{destination: {subset: v1}, weight: 90}, {destination: {subset: v2}, weight: 10}]}, {route: [{destination: {subset: v2}}]}]", want: 1},
	} {
		object := meshtest.Object(t, meshtest.VirtualService("prod/ratings", "{hosts: [ratings], http: "+test.routes+"}"))
		if got := advice.SubsetShare(fields.Maps(fields.Map(object.Object, "spec"), "http"), "v2"); got != test.want {
			t.Errorf("%s: %g instead of %g", name, got, test.want)
		}
	}
}
