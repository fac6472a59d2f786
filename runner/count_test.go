package runner

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/runner/event"
)

// Faults may lead to each other's hosts: what one of them marks is hit.
func TestScopesThatOverlap(t *testing.T) {
	c := calls{scopes: []scope{
		{callers: "shop", hosts: []string{"a", "b"}, flags: []string{"DI"}, asked: 1, labels: []map[string]string{nil}},
		{callers: "shop", hosts: []string{"b"}, flags: []string{"FI"}, asked: 1, labels: []map[string]string{nil}},
	}}
	got := c.count(map[string]string{"source_workload_namespace": "shop", "destination_service": "b", "response_flags": "FI"}, 7)
	if diff := cmp.Diff(event.Counted{Requests: 7, Hit: 7, Expected: 7}, got); diff != "" {
		t.Error(diff)
	}
}

// A blackhole of half of the connections spares the other half.
func TestConnectionsThatABlackholeSpares(t *testing.T) {
	half := experiments.Percentage(50)
	spec := experiments.Spec{
		Target: experiments.Target{Host: "db.prod.svc.cluster.local"}, Callers: []experiments.Caller{{Namespace: "shop"}},
		Faults: []experiments.Fault{{Blackhole: &experiments.Blackhole{Mode: experiments.Reject}, Percentage: &half}},
	}
	c := newCalls(Planned{
		Plan: mesh.Plan{Decisions: []mesh.Decision{{
			Host: "db.prod.svc.cluster.local", Callers: "shop",
			Trace: mesh.Trace{Destinations: []string{"db.prod.svc.cluster.local"}, Blackholes: []string{"nowhere.squall"}},
		}}},
		Experiment: experiments.Experiment{Spec: spec},
		Snapshot:   mesh.Snapshot{ClusterDomain: "cluster.local"},
	})
	for _, query := range []string{c.query, c.times} {
		_, connections, _ := strings.Cut(query, "istio_tcp_connections_opened_total")
		for _, host := range []string{`db\\.prod`, `nowhere\\.squall`} {
			if !strings.Contains(connections, host) {
				t.Errorf("%s is not in %s", host, query)
			}
		}
	}
}
