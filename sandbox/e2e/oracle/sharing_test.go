package oracle_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/sandbox/internal/identity"
	"github.com/squall-chaos/squall/sandbox/internal/routes"
)

// The hosts of ServiceEntries without addresses share one listener for each port. A
// blackhole for one of them is refused, because a naive one would take the connections
// to all of them, or none.
func TestSharedListener(t *testing.T) {
	const first, second = "FIRST", "SECOND" // in the order of their creation
	for i, trial := range []sharing{
		{name: "tcp, the host whose chain it is", protocol: "TCP", target: first, takes: true},
		{name: "tcp, another host", protocol: "TCP", target: second},
		{
			name: "tls, a VirtualService for both", protocol: "TLS", target: second,
			virtualService: m{"hosts": list(first, second), "tls": list(
				m{"match": list(m{"sniHosts": list(first)}), "route": list(m{"destination": m{"host": first}})},
				m{"match": list(m{"sniHosts": list(second)}), "route": list(m{"destination": m{"host": second}})},
			)},
		},
	} {
		t.Run(trial.name, func(t *testing.T) { trial.run(t, fmt.Sprintf("s%d", i)) })
	}
}

// sharing is two hosts that share a listener, and a blackhole for one of them.
type sharing struct {
	name, protocol, target string
	virtualService         m
	// takes reports that a naive VirtualService for the target would take all
	// connections to the port. Otherwise it would take none.
	takes bool
}

const sharedPort = 5432

func (s sharing) run(t *testing.T, prefix string) {
	ledger, orders := "ledger."+prefix+".test", "orders."+prefix+".test"
	named := func(value m) m { return withNames(t, value, strings.NewReplacer("FIRST", ledger, "SECOND", orders)) }
	callers, home := prefix+"-callers", prefix+"-home"
	look := func() map[string]string {
		return sharedChains(t, callers, strings.NewReplacer(ledger, "FIRST", orders, "SECOND"))
	}
	bed.create(t, []object{manifest("v1", "Namespace", "", callers), manifest("v1", "Namespace", "", home)})
	var made []object
	defer func() { bed.remove(t, made) }()
	create := func(objects ...object) {
		t.Helper()
		bed.create(t, objects)
		made = append(made, objects...)
	}
	for i, host := range []string{"FIRST", "SECOND"} {
		if i > 0 {
			bed.nextSecond(t)
		}
		entry := serviceEntrySpec(list(host), nil, []string{"*"})
		entry["ports"] = list(m{"number": int64(sharedPort), "name": "l4", "protocol": s.protocol})
		create(withSpec(manifest(networking, "ServiceEntry", home, strings.ToLower(host)), named(entry)))
	}
	if s.virtualService != nil {
		create(withSpec(manifest(networking, "VirtualService", home, "both"), named(s.virtualService)))
	}
	bed.sync(t)
	plans, err := bed.engine.plan(t.Context(), []m{experimentFile(prefix, named(m{
		"target": m{"host": s.target}, "callers": list(m{"namespace": callers}), "faults": list(m{"blackhole": m{"mode": "reject"}}), "duration": "1m",
		"steadyState": m{"probes": []any{}}, "effect": m{"minRequests": int64(0)},
	}))})
	if err != nil {
		t.Fatal(err)
	}
	if d := plans[0].Decisions[0]; !d.refused() || d.Cause != "shared-listener" || !strings.Contains(d.Reason, ledger) || !strings.Contains(d.Reason, orders) {
		t.Fatalf("the plan is not refused for the other host: %+v", d)
	}
	before := look()
	match := m{"port": int64(sharedPort)}
	kind := strings.ToLower(s.protocol)
	if kind == "tls" {
		match["sniHosts"] = list(s.target)
	}
	create(withSpec(manifest(networking, "VirtualService", callers, naiveName), named(m{
		"hosts": list(s.target), "exportTo": list("."),
		kind: list(m{"match": list(match), "route": list(m{"destination": m{"host": s.target, "subset": "nowhere"}})}),
	})))
	bed.sync(t)
	during := look()
	t.Logf("before %v, with a naive VirtualService %v", before, during)
	if s.takes {
		want := map[string]string{"": fmt.Sprintf("outbound|%d|nowhere|%s", sharedPort, s.target)}
		if diff := cmp.Diff(want, during); diff != "" {
			t.Errorf("a naive VirtualService does not take all connections to the port: %s", diff)
		}
		return
	}
	if diff := cmp.Diff(before, during); diff != "" || len(before) == 0 {
		t.Errorf("a naive VirtualService for %s takes effect: %s", s.target, diff)
	}
}

// sharedChains returns the destinations of the shared listener for a caller, by their
// server names, in short names.
func sharedChains(t *testing.T, namespace string, short *strings.Replacer) map[string]string {
	t.Helper()
	all, err := routes.Connections(t.Context(), identity.Workload{Namespace: namespace, Name: "caller", IP: "127.0.1.1", Labels: map[string]string{"app": "caller"}})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, c := range all {
		if c.Listener != fmt.Sprintf("0.0.0.0_%d", sharedPort) || c.Clusters["PassthroughCluster"] == 1 {
			continue
		}
		names := short.Replace(strings.Join(c.ServerNames, ","))
		if before, is := found[names]; is {
			t.Errorf("two filter chains for %q: %s and %v", names, before, c.Clusters)
		}
		found[names] = short.Replace(strings.Join(slices.Sorted(maps.Keys(c.Clusters)), ","))
	}
	return found
}
