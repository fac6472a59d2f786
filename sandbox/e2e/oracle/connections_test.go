package oracle_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/squall-chaos/squall/sandbox/internal/identity"
	"github.com/squall-chaos/squall/sandbox/internal/routes"
)

// connectionTrial is a blackhole for connections: to a host on one port of a
// protocol, with or without effective VirtualServices.
type connectionTrial struct {
	name, protocol string
	virtualService m
	blackhole      m
	labels         m // of the callers
	unaddressed    bool
	// want is the destination of a caller's connections, by their server names and
	// subnets. REJECT and DROP are the hosts of blackholes, and HOST is the target.
	want map[string]map[string]uint32
}

// Blackholes take exactly the connections that they are for.
func TestConnections(t *testing.T) {
	reviews := m{"app": "caller"}
	to := func(subset string) m { return m{"destination": m{"host": "HOST", "subset": subset}} }
	weighted := func(subset string, weight int64) m {
		return m{"destination": m{"host": "HOST", "subset": subset}, "weight": weight}
	}
	for i, trial := range []connectionTrial{
		{
			name: "plain", protocol: "TCP", labels: reviews, blackhole: m{"blackhole": m{"mode": "reject"}},
			want: map[string]map[string]uint32{" []": {"outbound|5432||REJECT": 1}},
		},
		{
			name: "for everybody", protocol: "TCP", blackhole: m{"blackhole": m{"mode": "drop"}, "percentage": 25},
			want: map[string]map[string]uint32{" []": {"outbound|5432||HOST": 3, "outbound|5432||DROP": 1}},
		},
		{
			name: "rules by labels and subnets", protocol: "TCP", labels: reviews, blackhole: m{"blackhole": m{"mode": "reject"}, "percentage": 50},
			virtualService: m{"tcp": list(
				m{"match": list(m{"sourceLabels": m{"app": "other"}}), "route": list(to("other"))},
				m{"match": list(m{"port": int64(5432), "destinationSubnets": list("10.97.9.0/24")}), "route": list(to("v1"))},
				m{"route": list(weighted("v1", 30), weighted("v2", 70))},
			)},
			want: map[string]map[string]uint32{
				" [10.97.9.0/24]": {"outbound|5432|v1|HOST": 1, "outbound|5432||REJECT": 1},
				" []":             {"outbound|5432|v1|HOST": 3, "outbound|5432|v2|HOST": 7, "outbound|5432||REJECT": 10},
			},
		},
		{
			name: "one subset", protocol: "TCP", labels: reviews, blackhole: m{"blackhole": m{"mode": "reject"}, "target": m{"host": "HOST", "subset": "v2"}},
			virtualService: m{"tcp": list(m{"route": list(weighted("v1", 30), weighted("v2", 70))})},
			want:           map[string]map[string]uint32{" []": {"outbound|5432|v1|HOST": 3, "outbound|5432||REJECT": 7}},
		},
		{
			name: "tls", protocol: "TLS", labels: reviews, blackhole: m{"blackhole": m{"mode": "reject"}, "percentage": 20},
			virtualService: m{"tls": list(m{"match": list(m{"sniHosts": list("HOST")}), "route": list(to("v1"))})},
			want:           map[string]map[string]uint32{"HOST []": {"outbound|5432|v1|HOST": 4, "outbound|5432||REJECT": 1}},
		},
		{
			name: "tls without an address", protocol: "TLS", labels: reviews, unaddressed: true, blackhole: m{"blackhole": m{"mode": "drop"}},
			want: map[string]map[string]uint32{"HOST []": {"outbound|5432||DROP": 1}},
		},
	} {
		t.Run(trial.name, func(t *testing.T) { trial.run(t, fmt.Sprintf("l%d", i), fmt.Sprintf("10.97.0.%d", i+1)) })
	}
}

func (c connectionTrial) run(t *testing.T, prefix, address string) {
	host := "db." + prefix + ".test"
	callers := prefix + "-callers"
	caller := identity.Workload{Namespace: callers, Name: "caller", IP: "127.0.1.1", Labels: map[string]string{"app": "caller"}}
	others := []identity.Workload{{Namespace: prefix + "-elsewhere", Name: "elsewhere", IP: "127.0.1.3", Labels: map[string]string{"app": "caller"}}}
	if c.labels != nil {
		others = append(others, identity.Workload{Namespace: callers, Name: "other", IP: "127.0.1.2", Labels: map[string]string{"app": "other"}})
	}
	look := func(w identity.Workload) []routes.Connection {
		t.Helper()
		found, err := routes.Connections(t.Context(), w)
		if err != nil {
			t.Fatal(err)
		}
		// The listeners of the ServiceEntries of blackholes, at addresses without
		// calls.
		return slices.DeleteFunc(found, func(c routes.Connection) bool { return strings.HasPrefix(c.Listener, "240.251.") })
	}
	bed.create(t, []object{manifest("v1", "Namespace", "", callers), manifest("v1", "Namespace", "", prefix+"-elsewhere"), manifest("v1", "Namespace", "", prefix+"-home")})
	entry := serviceEntrySpec(list(host), nil, []string{"*"})
	entry["addresses"], entry["ports"] = list(address), list(m{"number": int64(5432), "name": "l4", "protocol": c.protocol})
	world := []object{withSpec(manifest(networking, "ServiceEntry", prefix+"-home", "db"), entry)}
	if c.unaddressed {
		delete(entry, "addresses")
	}
	if c.virtualService != nil {
		spec := merged(m{"hosts": list("HOST")}, c.virtualService)
		world = append(world, withSpec(manifest(networking, "VirtualService", prefix+"-home", "db"), withHost(t, spec, host)))
	}
	bed.create(t, world)
	defer bed.remove(t, world)
	bed.sync(t)
	before := map[string][]routes.Connection{}
	for _, w := range append(others, caller) {
		before[key(w)] = look(w)
	}
	from := m{"namespace": callers}
	if c.labels != nil {
		from["labels"] = c.labels
	}
	plans, err := bed.engine.plan(t.Context(), []m{experimentFile(prefix, m{
		"target": m{"host": host}, "callers": list(from), "faults": list(withHost(t, c.blackhole, host)), "duration": "1m",
		"steadyState": m{"probes": []any{}}, "effect": m{"minRequests": int64(0)},
	})})
	if err != nil {
		t.Fatal(err)
	}
	if len(plans[0].Objects) != 2 {
		t.Fatalf("plan %+v", plans[0])
	}
	for _, o := range plans[0].Objects {
		if err := bed.validate(t.Context(), o); err != nil {
			t.Errorf("%v: %s", err, encode(o.Object))
		}
	}
	bed.create(t, plans[0].Objects)
	bed.sync(t)
	got := map[string]map[string]uint32{}
	for _, connection := range look(caller) {
		if connection.Clusters["PassthroughCluster"] == 1 {
			continue // what has no server name
		}
		if strings.HasPrefix(connection.Listener, address+"_") || slices.Contains(connection.ServerNames, host) {
			got[strings.ReplaceAll(strings.Join(connection.ServerNames, ","), host, "HOST")+" "+fmt.Sprint(withoutAddress(connection.Subnets, address))] = c.shortened(connection.Clusters, host)
		}
	}
	if diff := cmp.Diff(c.want, got); diff != "" {
		t.Errorf("a caller's connections: %s\n%s", diff, encode(plans[0].Objects[1].Object))
	}
	for _, w := range others {
		if diff := cmp.Diff(before[key(w)], look(w)); diff != "" {
			t.Errorf("connections of %s have changed: %s", key(w), diff)
		}
	}
	bed.remove(t, plans[0].Objects)
	bed.sync(t)
	for _, w := range append(others, caller) {
		if diff := cmp.Diff(before[key(w)], look(w)); diff != "" {
			t.Errorf("connections of %s have not come back: %s", key(w), diff)
		}
	}
}

// shortened writes the names of clusters as the table does.
func (c connectionTrial) shortened(clusters map[string]uint32, host string) map[string]uint32 {
	short := map[string]uint32{}
	for name, weight := range clusters {
		direction, destination, _ := strings.Cut(name, "||squall-")
		switch {
		case strings.HasSuffix(destination, "-reject."+host+".squall.internal"):
			name = direction + "||REJECT"
		case strings.HasSuffix(destination, "-drop."+host+".squall.internal"):
			name = direction + "||DROP"
		}
		short[strings.ReplaceAll(name, host, "HOST")] = weight
	}
	return short
}

// withHost puts the target in the place of HOST.
func withHost(t *testing.T, value m, host string) m {
	t.Helper()
	return withNames(t, value, strings.NewReplacer("HOST", host))
}

// withNames replaces names in a value.
func withNames(t *testing.T, value m, names *strings.Replacer) m {
	t.Helper()
	encoded, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	var out m
	// Integers stay integers, as in a manifest.
	if err := utiljson.Unmarshal([]byte(names.Replace(string(encoded))), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// withoutAddress leaves out the target's own address.
func withoutAddress(subnets []string, address string) []string {
	return slices.DeleteFunc(slices.Clone(subnets), func(subnet string) bool { return subnet == address+"/32" })
}
