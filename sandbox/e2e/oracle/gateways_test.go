package oracle_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/squall-chaos/squall/sandbox/internal/identity"
	"github.com/squall-chaos/squall/sandbox/internal/routes"
)

var gatewaySeeds = flag.Int("gateways", 30, "how many meshes with a gateway are generated")

// Any gateway that may exist: what Squall plans for the calls through it takes effect on
// the requests that are meant and lead to the target, and changes nothing else.
func TestGateways(t *testing.T) {
	began := time.Now()
	var all []*gatewayTrial
	for seed := *firstSeed; seed < *firstSeed+*gatewaySeeds; seed++ {
		all = append(all, generateGateway(seed))
	}
	for batch := range slices.Chunk(all, batchSize) {
		bed.conductGateways(t, batch)
	}
	counts := map[string]int{}
	hit, spared := 0, 0
	for _, tr := range all {
		hit, spared = hit+tr.hit, spared+tr.spared
		name := "planned"
		if tr.refused.refused() {
			name = "refused: " + tr.refused.Cause
		}
		counts[name]++
		if len(tr.problems) > 0 {
			t.Errorf("%s: %s\n%s", tr.name, strings.Join(tr.problems, "\n\n"), tr)
		} else if *verbose {
			t.Logf("%s", tr)
		}
	}
	var out strings.Builder
	for name, count := range sortedCounts(counts) {
		fmt.Fprintf(&out, "%5d  %s\n", count, name)
	}
	t.Logf("%d gateways in %.1f s; of the drawn requests %d were to be hit and %d to be spared\n%s", len(all), time.Since(began).Seconds(), hit, spared, &out)
	if hit == 0 || spared == 0 {
		t.Error("the drawn requests cannot tell a fault from none")
	}
}

// gatewayTrial is a small mesh with a gateway, and an experiment.
type gatewayTrial struct {
	scenario
	// router is a pod of the gateway, and sidecars are other workloads.
	router   identity.Workload
	sidecars []identity.Workload
	// blackhole is whether the fault is one, of all requests.
	blackhole bool
	plan      plan
	refused   decision
	// The views of the router and of the sidecars.
	before, during, after map[string]view
	problems              []string
	hit, spared           int
}

func (tr *gatewayTrial) problem(format string, args ...any) {
	tr.problems = append(tr.problems, fmt.Sprintf(format, args...))
}

// document returns the experiment as a file.
func (tr *gatewayTrial) document() m {
	e := tr.experiment
	spec := m{
		"target": m{"host": e.host}, "faults": list(e.fault), "duration": "1m",
		"callers":     list(m{"gateway": m{"namespace": tr.router.Namespace, "labels": e.callers[0].labels}}),
		"steadyState": m{"probes": []any{}}, "effect": m{"minRequests": e.minRequests},
	}
	if e.port != 0 {
		spec["target"] = m{"host": e.host, "port": e.port}
	}
	if len(e.match) > 0 {
		spec["match"] = anys(e.match)
	}
	return experimentFile(e.name, spec)
}

func (tr *gatewayTrial) String() string {
	return tr.scenario.String() + encode(tr.document()) + "\n" + encode(tr.plan)
}

// generateGateway returns the trial of a seed.
func generateGateway(seed int) *gatewayTrial {
	name := fmt.Sprintf("w%04d", seed)
	return rapid.Custom(func(t *rapid.T) *gatewayTrial { return (&gatewayGenerator{generator{T: t, name: name}}).trial() }).Example(seed)
}

// gatewayGenerator draws a gateway. Its namespaces are the namespace of the pods, of the
// services, and one more.
type gatewayGenerator struct{ generator }

func (g *gatewayGenerator) trial() *gatewayTrial {
	for _, word := range []string{"t", "u", "v"} {
		g.hosts = append(g.hosts, word+"."+g.services()+".svc.cluster.local")
		ports := list(m{"name": "http", "port": int64(9080)})
		if word != "u" {
			ports = append(ports, m{"name": "http-more", "port": int64(9090)})
		}
		g.waves[0] = append(g.waves[0], withSpec(manifest("v1", "Service", g.services(), word), m{"ports": ports, "selector": m{"app": word}}))
	}
	own := m{"istio": g.name, "app": "edge"}
	g.waves[0] = append(g.waves[0], withSpec(manifest("v1", "Service", g.callers(), "edge"), m{"ports": list(m{"name": "http", "port": int64(80)}), "selector": own}))
	var gateways []string
	for range pick(&g.generator, "Gateways", 1, 1, 1, 2) {
		gateways = append(gateways, g.gateway())
	}
	for range pick(&g.generator, "VirtualServices", 1, 2, 2, 3, 3, 4) {
		g.boundService(gateways)
	}
	tr := &gatewayTrial{scenario: scenario{name: g.name, namespaces: g.namespaces(), waves: [][]object{g.waves[0], g.waves[1]}}}
	e := experiment{name: g.name, host: pick(&g.generator, "target", g.hosts[0], g.hosts[0], g.hosts[1]), minRequests: pick(&g.generator, "minRequests", int64(0), 1)}
	if g.oneIn(6, "has port") {
		e.port = pick(&g.generator, "target port", int64(9080), 9090)
	}
	e.callers = []caller{{g.callers(), map[string]string{"istio": g.name}}}
	if g.oneIn(4, "names all labels") {
		e.callers[0].labels["app"] = "edge"
	}
	if g.oneIn(2, "has match") {
		c := g.experimentMatch()
		delete(c, "authority")
		if g.oneIn(4, "has authority") {
			c["authority"] = m{"exact": g.outside("selected")}
		}
		if len(c) == 0 {
			c["uri"] = m{"prefix": "/a"}
		}
		e.match = []m{c}
	}
	e.fault, e.envoy = g.injection()
	if g.oneIn(4, "is a blackhole") {
		tr.blackhole, e.fault, e.envoy = true, m{"blackhole": m{"mode": pick(&g.generator, "mode", "reject", "drop")}}, nil
	}
	tr.experiment = e
	tr.router = workload(g.callers(), "edge", map[string]string{"istio": g.name, "app": "edge"})
	tr.sidecars = []identity.Workload{workload(g.callers(), "beside", map[string]string{"app": "beside"}), workload(g.services(), "shop", map[string]string{"app": "shop"})}
	return tr
}

// outside draws a host by which clients reach the gateway.
func (g *gatewayGenerator) outside(what string) string {
	return pick(&g.generator, what, "a.", "b.", "a.eu.") + g.name + ".test"
}

// gateway draws a Gateway, and returns its name as namespace/name.
func (g *gatewayGenerator) gateway() string {
	namespace := pick(&g.generator, "Gateway namespace", g.services(), g.callers(), g.third())
	domain := g.name + ".test"
	var servers []any
	for i := range pick(&g.generator, "servers", 1, 1, 2) {
		hosts := pick(&g.generator, "server hosts", list("*."+domain), list("a."+domain, "b."+domain), list("*"), list(g.services()+"/*."+domain),
			list("./*."+domain, "a."+domain), list("a."+domain, "*.eu."+domain), list("*/*."+domain))
		server := m{"port": m{"number": int64(80), "name": fmt.Sprintf("http-%d", i), "protocol": "HTTP"}, "hosts": hosts}
		switch pick(&g.generator, "server", "http", "http", "https", "other port", "redirect") {
		case "https":
			server["port"] = m{"number": int64(443), "name": fmt.Sprintf("https-%d", i), "protocol": "HTTPS"}
			server["tls"] = m{"mode": "SIMPLE", "credentialName": "certificate"}
		case "other port":
			server["port"] = m{"number": int64(8000), "name": fmt.Sprintf("http-%d", i), "protocol": "HTTP"}
		case "redirect":
			server["tls"] = m{"httpsRedirect": true}
		}
		servers = append(servers, server)
	}
	name := g.unique("gateway")
	selector := pick(&g.generator, "selector", m{"istio": g.name}, m{"istio": g.name}, m{"istio": g.name, "app": "edge"})
	g.add(withSpec(manifest(networking, "Gateway", namespace, name), m{"selector": selector, "servers": servers}))
	return namespace + "/" + name
}

// boundService draws a VirtualService that is bound to Gateways.
func (g *gatewayGenerator) boundService(gateways []string) {
	namespace := pick(&g.generator, "namespace", g.services(), g.services(), g.third(), g.callers())
	domain := g.name + ".test"
	spec := m{
		"hosts":    pick(&g.generator, "hosts", list("a."+domain), list("a."+domain), list("a."+domain, "b."+domain), list("*."+domain), list("*.eu."+domain), list("a.eu."+domain, "a."+domain)),
		"gateways": list(pick(&g.generator, "bound to", gateways...)),
	}
	if g.oneIn(6, "bound to all") {
		spec["gateways"] = anys(gateways)
	}
	if exportTo := pick(&g.generator, "exportTo", nil, nil, nil, nil, nil, nil, list(g.callers()), list("*"), list(".")); exportTo != nil {
		spec["exportTo"] = exportTo
	}
	var all []any
	for range pick(&g.generator, "routes", 1, 1, 2, 3) {
		all = append(all, g.boundRoute(gateways, true))
	}
	if g.oneIn(2, "has a catch-all") {
		all = append(all, g.toOne(m{}))
	}
	spec["http"] = all
	g.add(withSpec(manifest(networking, "VirtualService", namespace, g.unique(pick(&g.generator, "stem", "z", "a", "k"))), spec))
}

// boundRoute draws a route; only a root's may delegate.
func (g *gatewayGenerator) boundRoute(gateways []string, mayDelegate bool) m {
	route := m{}
	var match []any
	for range pick(&g.generator, "matches", 1, 1, 1, 2, 0) {
		c := m{}
		g.requestFields(c)
		delete(c, "authority")
		switch pick(&g.generator, "static", "", "", "", "", "", "", "port", "gateways", "labels", "namespace") {
		case "port":
			c["port"] = pick(&g.generator, "port", int64(80), 443)
		case "gateways":
			c["gateways"] = list(pick(&g.generator, "gateway", append([]string{"mesh"}, gateways...)...))
		case "labels":
			c["sourceLabels"] = pick(&g.generator, "labels", m{"istio": g.name}, m{"istio": "other"}, m{"app": "edge"})
		case "namespace":
			c["sourceNamespace"] = pick(&g.generator, "source", g.callers(), g.services())
		}
		match = append(match, c)
	}
	if len(match) > 0 {
		route["match"] = match
	}
	switch pick(&g.generator, "action", "forward", "forward", "forward", "forward", "forward", "redirect", "direct", "delegate") {
	case "redirect":
		route["redirect"] = m{"uri": "/elsewhere"}
	case "direct":
		route["directResponse"] = m{"status": int64(418)}
	case "delegate":
		if mayDelegate && len(match) > 0 {
			namespace, name := pick(&g.generator, "child namespace", g.services(), g.third()), g.unique("child")
			route["delegate"] = m{"name": name, "namespace": namespace}
			child := m{}
			if g.oneIn(2, "child refines") {
				child["match"] = list(without(items(match)[0]))
			}
			g.add(withSpec(manifest(networking, "VirtualService", namespace, name), m{"http": list(g.toOne(child))}))
			return route
		}
		fallthrough
	default:
		return g.toOne(route)
	}
	return route
}

// toOne adds destinations to a route, most often one.
func (g *gatewayGenerator) toOne(route m) m {
	var destinations []any
	for range pick(&g.generator, "destinations", 1, 1, 1, 1, 1, 2) {
		destination := m{"host": pick(&g.generator, "destination", g.hosts[0], g.hosts[0], g.hosts[1], g.hosts[2])}
		if g.oneIn(5, "has subset") {
			destination["subset"] = pick(&g.generator, "subset", "v1", "v2")
		}
		if !g.oneIn(4, "has no port") {
			destination["port"] = m{"number": pick(&g.generator, "destination port", int64(9080), 9080, 9090)}
		}
		destinations = append(destinations, m{"destination": destination, "weight": pick(&g.generator, "weight", int64(10), 30)})
	}
	route["route"] = destinations
	if g.oneIn(4, "has timeout") {
		route["timeout"] = pick(&g.generator, "timeout", "2s", "0.5s")
	}
	if g.oneIn(6, "rewrites") {
		route["rewrite"] = m{"uri": "/new"}
	}
	if g.oneIn(20, "has fault") {
		route["fault"] = m{"abort": m{"httpStatus": int64(418), "percentage": m{"value": 10.0}}}
	}
	return route
}

// conductGateways puts trials to the test, many at a time.
func (w *world) conductGateways(t *testing.T, trials []*gatewayTrial) {
	t.Helper()
	var built []*trial
	var documents []m
	for _, tr := range trials {
		built = append(built, &trial{scenario: tr.scenario})
		documents = append(documents, tr.document())
	}
	w.build(t, built)
	w.syncGateways(t)
	plans, err := w.engine.plan(t.Context(), documents)
	if err != nil {
		t.Fatal(err)
	}
	var temporary []object
	for i, tr := range trials {
		tr.plan = plans[i]
		if at := slices.IndexFunc(tr.plan.Decisions, decision.refused); at >= 0 {
			tr.refused = tr.plan.Decisions[at]
		}
		temporary = append(temporary, tr.plan.Objects...)
	}
	w.lookAtGateways(t, trials, func(tr *gatewayTrial, views map[string]view) { tr.before = views })
	forEach(t, temporary, func(ctx context.Context, o object) error { return w.validate(ctx, o) })
	w.create(t, temporary)
	w.syncGateways(t)
	w.lookAtGateways(t, trials, func(tr *gatewayTrial, views map[string]view) { tr.during = views })
	w.remove(t, temporary)
	w.syncGateways(t)
	w.lookAtGateways(t, trials, func(tr *gatewayTrial, views map[string]view) { tr.after = views })
	for _, tr := range trials {
		tr.check()
		w.remove(t, tr.objects())
	}
}

// syncGateways is sync that waits for Gateways too.
func (w *world) syncGateways(t *testing.T) {
	t.Helper()
	w.sync(t)
	const namespace = "oracle-sync"
	name := fmt.Sprintf("sync-%d", w.synced)
	gateway := withSpec(manifest(networking, "Gateway", namespace, "sync"), m{
		"selector": m{"oracle": "sync"},
		"servers":  list(m{"port": m{"number": int64(80), "name": "http", "protocol": "HTTP"}, "hosts": list(name + ".gateway.test")}),
	})
	all := withSpec(manifest(networking, "VirtualService", namespace, "sync-gateway"), m{
		"hosts": list("*.gateway.test"), "gateways": list("sync"), "http": list(m{"directResponse": m{"status": int64(200)}}),
	})
	for _, o := range []object{all, gateway} {
		if _, err := w.resource(o).Apply(t.Context(), o.GetName(), o, metav1.ApplyOptions{FieldManager: "oracle", Force: true}); err != nil {
			t.Fatal(err)
		}
	}
	probe := identity.Workload{Namespace: namespace, Name: "gateway", IP: "127.0.1.1", Labels: map[string]string{"oracle": "sync"}}
	eventually(t, func() error {
		seen, err := w.lookAsRouter(t.Context(), probe)
		if err == nil && len(seen.byDomain()["http.80 "+name+".gateway.test"].routes) == 0 {
			err = errors.New("istiod has not seen the Gateway " + name)
		}
		return err
	})
}

// lookAsRouter returns the routes that istiod sends to the Envoy of a gateway.
func (w *world) lookAsRouter(ctx context.Context, who identity.Workload) (view, error) {
	encoded, err := routes.Fetch(ctx, who, "router", "")
	if err != nil {
		return nil, err
	}
	return parseView(encoded)
}

// lookAtGateways looks at the mesh with the eyes of all workloads of trials.
func (w *world) lookAtGateways(t *testing.T, trials []*gatewayTrial, put func(*gatewayTrial, map[string]view)) {
	t.Helper()
	forEach(t, trials, func(ctx context.Context, tr *gatewayTrial) error {
		views := map[string]view{}
		var err error
		if views["router"], err = w.lookAsRouter(ctx, tr.router); err != nil {
			return err
		}
		for _, who := range tr.sidecars {
			if views[key(who)], err = w.look(ctx, who); err != nil {
				return err
			}
		}
		put(tr, views) // each trial is looked at once
		return nil
	})
}

// byDomain returns the virtual hosts of a gateway by the name of the route configuration
// and the domain: istiod joins hosts whose routes are equal.
func (v view) byDomain() map[string]virtualHost {
	all := map[string]virtualHost{}
	for _, config := range v {
		for _, candidate := range items(config["virtualHosts"]) {
			domains, _ := candidate["domains"].([]any)
			for _, domain := range domains {
				all[text(config["name"])+" "+text(domain)] = virtualHost{frame: without(candidate, "routes", "domains", "name"), routes: items(candidate["routes"])}
			}
		}
	}
	return all
}

// knownRefusals are the causes that generated gateways may meet.
var knownRefusals = []string{"private-base", "no-placement", "nothing-to-carry", "gateway-order", "existing-fault", "inexpressible", "routes-for-some", "unround-weights"}

// check judges everything that was seen.
func (tr *gatewayTrial) check() {
	if diff := cmp.Diff(tr.before, tr.after); diff != "" {
		tr.problem("the rollback has left something: %s", diff)
	}
	for _, who := range tr.sidecars {
		if diff := cmp.Diff(tr.before[key(who)], tr.during[key(who)]); diff != "" {
			tr.problem("%s has a sidecar, and its routes have changed: %s", key(who), diff)
		}
	}
	if tr.refused.refused() {
		if !slices.Contains(knownRefusals, tr.refused.Cause) {
			tr.problem("a refusal of no known kind: %s: %s", tr.refused.Cause, tr.refused.Reason)
		}
		if len(tr.plan.Objects) > 0 {
			tr.problem("a refused plan has objects")
		}
	}
	before, during := tr.before["router"].byDomain(), tr.during["router"].byDomain()
	if diff := cmp.Diff(slices.Sorted(maps.Keys(before)), slices.Sorted(maps.Keys(during))); diff != "" {
		tr.problem("the gateway has other hosts: %s", diff)
		return
	}
	hit := tr.hit
	for _, at := range slices.Sorted(maps.Keys(before)) {
		if diff := cmp.Diff(before[at].frame, during[at].frame); diff != "" {
			tr.problem("%s has changed: %s", at, diff)
		}
		_, domain, _ := strings.Cut(at, " ")
		for _, r := range tr.requestsTo(domain) {
			if err := tr.checkRequest(before[at], during[at], domain, r); err != nil {
				tr.problem("%s: %v: %v", at, r, err)
				break
			}
		}
	}
	if tr.refused.Cause == "nothing-to-carry" && tr.hit > hit {
		tr.problem("%s, but %d of the drawn requests lead there", tr.refused.Reason, tr.hit-hit)
	}
}

// requestsTo draws requests to a host.
func (tr *gatewayTrial) requestsTo(domain string) []request {
	name := strings.Replace(domain, "*", "any", 1)
	d := drawer{rand: rand.New(rand.NewPCG(seedOf(tr.name+domain), 0)), host: name}
	for _, o := range tr.objects() {
		for _, route := range items(mapOf(o.Object["spec"])["http"]) {
			d.conditions = append(d.conditions, items(route["match"])...)
		}
	}
	var match []m
	for _, c := range tr.experiment.match {
		match = append(match, without(c, "authority"))
	}
	d.conditions = append(d.conditions, match...)
	var all []request
	for range requestsPerPort {
		all = append(all, d.draw(match))
	}
	return all
}

// means reports whether the experiment means a request that a route takes.
func (tr *gatewayTrial) means(route m, domain string, r request) bool {
	if !forwards(route) || !slices.ContainsFunc(clustersOf(route), tr.isTarget) {
		return false
	}
	seen := request{path: r.path, headers: maps.Clone(r.headers), query: r.query}
	if !strings.HasPrefix(domain, "*") {
		seen.headers[":authority"] = domain
	}
	return len(tr.experiment.match) == 0 || satisfied(tr.experiment.match[0], seen)
}

// target is a destination of a route, with its weight.
type target struct {
	cluster string
	weight  float64
}

// clustersOf returns the destinations of a route.
func clustersOf(route m) []target {
	action := mapOf(route["route"])
	if name := text(action["cluster"]); name != "" {
		return []target{{name, 1}}
	}
	var all []target
	for _, weighted := range items(mapOf(action["weightedClusters"])["clusters"]) {
		weight, _ := weighted["weight"].(float64)
		all = append(all, target{text(weighted["name"]), weight})
	}
	return all
}

// isTarget reports whether a destination is the experiment's target.
func (tr *gatewayTrial) isTarget(to target) bool {
	parts := strings.Split(to.cluster, "|") // outbound|port|subset|host
	return len(parts) == 4 && parts[3] == tr.experiment.host && (tr.experiment.port == 0 || parts[1] == strconv.FormatInt(tr.experiment.port, 10))
}

// checkRequest follows one request through the routes before and during the fault.
func (tr *gatewayTrial) checkRequest(before, during virtualHost, domain string, r request) error {
	was, is, err := bothFirst(before, during, r)
	if err != nil || was == nil {
		return err
	}
	means := tr.means(was, domain, r)
	if means {
		tr.hit++
	} else {
		tr.spared++
	}
	hit := means && !tr.refused.refused()
	want := faultOf(was)
	if hit && !tr.blackhole {
		want = tr.experiment.onto(want)
	}
	if !equal(want, faultOf(is)) {
		return fmt.Errorf("its fault is %v instead of %v", faultOf(is), want)
	}
	wasAction, isAction := action(was), action(is)
	if hit && tr.blackhole {
		if err := tr.checkDiverted(clustersOf(was), clustersOf(is)); err != nil {
			return err
		}
		wasAction["route"], isAction["route"] = withoutClusters(wasAction), withoutClusters(isAction)
	}
	if diff := cmp.Diff(wasAction, isAction); diff != "" {
		return fmt.Errorf("it goes another way: %s", diff)
	}
	return nil
}

func withoutClusters(action m) m {
	return without(mapOf(action["route"]), "cluster", "weightedClusters")
}

// checkDiverted returns an error unless the destinations that are the target, and only
// these, are replaced by ones of the same port at the blackhole.
func (tr *gatewayTrial) checkDiverted(was, is []target) error {
	shares := func(all []target, name func(target) string) map[string]float64 {
		sum, found := 0.0, map[string]float64{}
		for _, to := range all {
			sum += to.weight
		}
		for _, to := range all {
			found[name(to)] += to.weight / sum
		}
		return found
	}
	nowhere := func(cluster string) string { return "nowhere " + strings.Split(cluster, "|")[1] }
	want := shares(was, func(to target) string {
		if tr.isTarget(to) {
			return nowhere(to.cluster)
		}
		return to.cluster
	})
	got := shares(is, func(to target) string {
		if strings.HasSuffix(to.cluster, ".squall.internal") {
			return nowhere(to.cluster)
		}
		return to.cluster
	})
	for name := range merged(anyMap(want), anyMap(got)) {
		if difference := want[name] - got[name]; difference > 1e-6 || difference < -1e-6 {
			return fmt.Errorf("its destinations are %v instead of %v", got, want)
		}
	}
	return nil
}

func anyMap(values map[string]float64) m {
	out := m{}
	for key, value := range values {
		out[key] = value
	}
	return out
}
