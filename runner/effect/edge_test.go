package effect

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

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
		Signature: render.Signature{Destinations: []string{"db.prod.svc.cluster.local"}, Blackholes: []string{"nowhere.squall"}},
	}}).queries()
	for _, query := range []string{queries.counters, queries.times} {
		_, connections, _ := strings.Cut(query, "istio_tcp_connections_opened_total")
		for _, host := range []string{`db\\.prod`, `nowhere\\.squall`} {
			if !strings.Contains(connections, host) {
				t.Errorf("%s is not in %s", host, query)
			}
		}
	}
}
