package effect

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/istio/telemetry"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/mesh/render"
	"github.com/squall-chaos/squall/runner/event"
)

// Faults may lead to each other's hosts: a request that either of them marks is hit.
func TestEdgesThatOverlap(t *testing.T) {
	all := edges{
		{callers: "shop", hosts: []string{"a", "b"}, flags: []string{"DI"}, wanted: 1, labels: []map[string]string{nil}},
		{callers: "shop", hosts: []string{"b"}, flags: []string{"FI"}, wanted: 1, labels: []map[string]string{nil}},
	}
	got := all.count(map[string]string{"source_workload_namespace": "shop", "destination_service": "b", "response_flags": "FI"}, 7)
	if diff := cmp.Diff(event.Counted{Requests: 7, Hit: 7, Expected: 7}, got); diff != "" {
		t.Error(diff)
	}
}

// A blackhole of half of the connections spares the other half.
func TestConnectionsThatABlackholeSpares(t *testing.T) {
	queries := newEdges([]mesh.Decision{{
		Host: "db.prod.svc.cluster.local", Callers: "shop",
		Signature: render.Signature{Destinations: []string{"db.prod.svc.cluster.local"}, Blackholes: []string{telemetry.Diverted("db.prod.svc.cluster.local", "squall-db-1a2b3c4d-reject")}},
	}}).queries()
	for _, query := range []string{queries.counters, queries.times} {
		_, connections, _ := strings.Cut(query, "istio_tcp_connections_opened_total")
		for _, host := range []string{`db\\.prod`, `squall\\.internal`} {
			if !strings.Contains(connections, host) {
				t.Errorf("%s is not in %s", host, query)
			}
		}
	}
}

// The CORS filter of the caller's proxy answers a preflight, also one of a request
// that is diverted.
func TestPreflightsAreNotHit(t *testing.T) {
	hole := telemetry.Diverted("a", "squall-a-1a2b3c4d-reject")
	all := edges{{host: "a", callers: "shop", hosts: []string{"a"}, blackholes: []string{hole}, wanted: 1, labels: []map[string]string{nil}}}
	for _, test := range []struct {
		name        string
		code, flags string
		hit         float64
	}{
		{"rejected", "503", "UH", 3},
		{"the caller has given up", "0", "DC", 3},
		{"gRPC", "200", "UH", 3},
		{"a connection", "", "UH", 3},
		{"a preflight", "200", "-", 0},
	} {
		labels := map[string]string{"source_workload_namespace": "shop", "destination_service": hole, "response_flags": test.flags}
		if test.code != "" {
			labels["response_code"] = test.code
		}
		if diff := cmp.Diff(event.Counted{Requests: 3, Hit: test.hit, Expected: 3}, all.count(labels, 3)); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
	}
}

// The metrics have the namespace of a gateway, so the share of its calls is known only if there
// are no other workloads.
func TestShareOfAGateway(t *testing.T) {
	for _, test := range []struct {
		name    string
		alone   bool
		match   []experiments.Match
		noShare bool
	}{
		{"alone", true, nil, false},
		{"with others", false, nil, true},
		{"a match", true, []experiments.Match{{IgnoreURICase: true}}, true},
	} {
		gateway := experiments.Gateway{Namespace: "edge", Labels: map[string]string{"istio": "ingress"}}
		found := newEdges([]mesh.Decision{{
			Host: "ratings", Callers: "edge", Gateway: &mesh.Gateway{Alone: test.alone}, Signature: render.Signature{Aborts: true, Destinations: []string{"ratings"}},
			Injections: experiments.Injections{{Callers: []experiments.Caller{{Gateway: &gateway}}, Match: test.match, Percentage: 25, Until: time.Minute, Fault: experiments.Fault{Abort: &experiments.Abort{HTTPStatus: 503}}}},
		}})
		if got := found.noShare() != ""; got != test.noShare {
			t.Errorf("%s: %q", test.name, found.noShare())
		}
		counter := map[string]string{"destination_service": "ratings", "source_workload_namespace": "edge", "source_app": "gateway"}
		if !found[0].wants(counter) || found[0].wanted != 0.25 {
			t.Errorf("%s: the calls of the gateway do not count, or not %g of them", test.name, found[0].wanted)
		}
	}
}
