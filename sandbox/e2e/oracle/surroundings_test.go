package oracle_test

import (
	"context"
	"flag"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/squall-chaos/squall/sandbox/internal/identity"
	"github.com/squall-chaos/squall/sandbox/internal/routes"
)

var surroundings = flag.Int("surroundings", 128, "how many meshes are generated with much around the target")

// judgement is how a plan compares with istiod's configuration.
type judgement string

const (
	right           judgement = "right"
	rightlyRefused  judgement = "rightly refused"
	needlessRefusal judgement = "needlessly refused"
	wrong           judgement = "wrong"
)

// surrounded is a trial that also looks at connections.
type surrounded struct {
	*trial
	// The connections of all workloads.
	linksBefore, linksDuring, linksAfter map[string][]routes.Connection
	// addresses and ports are the ones of the target.
	addresses, ports []string
}

// A fault hits all of the callers' calls to the target, and none to another host, or is
// refused, with aliases, other entries and other names around the target.
func TestSurroundings(t *testing.T) {
	began := time.Now()
	var all []*surrounded
	var objects []object
	for seed := *firstSeed; seed < *firstSeed+*surroundings; seed++ {
		s := surround(seed)
		all = append(all, &surrounded{trial: &trial{scenario: s, who: s.workloads()}})
		for _, o := range s.objects() {
			if o.GetKind() != "Service" {
				objects = append(objects, o)
			}
		}
	}
	forEach(t, objects, func(ctx context.Context, o object) error {
		if err := bed.validate(ctx, o); err != nil {
			t.Errorf("the generator has drawn %s: %v", encode(o.Object), err)
		}
		return nil
	})
	counts, causes := map[string]int{}, map[string]int{}
	for batch := range slices.Chunk(all, batchSize) {
		bed.surround(t, batch)
		for _, tr := range batch {
			result := tr.judge(t)
			counts[string(result)]++
			if tr.refused.refused() {
				causes[string(result)+": "+tr.refused.Cause]++
			}
		}
	}
	t.Logf("%d meshes in %.1f s", len(all), time.Since(began).Seconds())
	for name, count := range sortedCounts(counts) {
		t.Logf("%5d  %s", count, name)
	}
	for name, count := range sortedCounts(causes) {
		t.Logf("%5d  %s", count, name)
	}
	if counts[string(right)]*4 < len(all) {
		t.Error("less than a quarter of the meshes have a plan: the generator proves little")
	}
}

// surround conducts trials, many at a time.
func (w *world) surround(t *testing.T, batch []*surrounded) {
	t.Helper()
	var trials []*trial
	var files []m
	for _, tr := range batch {
		trials = append(trials, tr.trial)
		files = append(files, tr.experiment.document())
	}
	w.build(t, trials)
	w.sync(t)
	forEach(t, batch, func(ctx context.Context, tr *surrounded) error { return tr.survey(ctx, w) })
	plans, err := w.engine.plan(t.Context(), files)
	if err != nil {
		t.Fatal(err)
	}
	for i, tr := range batch {
		tr.plan, tr.temporary = plans[i], plans[i].Objects
		if refused := slices.IndexFunc(plans[i].Decisions, decision.refused); refused >= 0 {
			tr.refused = plans[i].Decisions[refused]
			tr.temporary = tr.naive()
		}
	}
	w.lookAll(t, trials, func(tr *trial, views map[string]view) { tr.before = views })
	w.linksAll(t, batch, func(tr *surrounded, links map[string][]routes.Connection) { tr.linksBefore = links })
	forEach(t, trials, func(ctx context.Context, tr *trial) error { return tr.validate(ctx, w) })
	var temporary []object
	for _, tr := range trials {
		temporary = append(temporary, tr.temporary...)
	}
	w.create(t, temporary)
	w.sync(t)
	w.lookAll(t, trials, func(tr *trial, views map[string]view) { tr.during = withoutBlackholes(views) })
	w.linksAll(t, batch, func(tr *surrounded, links map[string][]routes.Connection) { tr.linksDuring = links })
	w.remove(t, temporary)
	w.sync(t)
	w.lookAll(t, trials, func(tr *trial, views map[string]view) { tr.after = views })
	w.linksAll(t, batch, func(tr *surrounded, links map[string][]routes.Connection) { tr.linksAfter = links })
	for _, tr := range trials {
		w.remove(t, tr.objects())
	}
}

// survey sets the addresses and the ports of the target.
func (tr *surrounded) survey(ctx context.Context, w *world) error {
	for _, o := range tr.objects() {
		spec := mapOf(o.Object["spec"])
		hosts, _ := spec["hosts"].([]any)
		switch {
		case o.GetKind() == "Service" && o.GetName()+"."+o.GetNamespace()+".svc.cluster.local" == tr.experiment.host:
			created, err := w.resource(o).Get(ctx, o.GetName(), metav1.GetOptions{})
			if err != nil {
				return err
			}
			tr.addresses = append(tr.addresses, text(mapOf(created.Object["spec"])["clusterIP"]))
		case o.GetKind() == "ServiceEntry" && slices.Contains(hosts, any(tr.experiment.host)):
			addresses, _ := spec["addresses"].([]any)
			for _, address := range addresses {
				tr.addresses = append(tr.addresses, text(address))
			}
		default:
			continue
		}
		for _, port := range items(spec["ports"]) {
			for _, field := range []string{"port", "number"} {
				if port[field] != nil {
					tr.ports = append(tr.ports, fmt.Sprint(port[field]))
				}
			}
		}
	}
	return nil
}

// withoutBlackholes returns views without the virtual hosts of blackholes, which have no
// calls.
func withoutBlackholes(views map[string]view) map[string]view {
	out := map[string]view{}
	for who, v := range views {
		out[who] = make(view, 0, len(v))
		for _, config := range v {
			hosts := slices.DeleteFunc(items(config["virtualHosts"]), func(host m) bool { return strings.Contains(text(host["name"]), ".squall.internal:") })
			config = without(config, "virtualHosts")
			config["virtualHosts"] = anys(hosts)
			out[who] = append(out[who], config)
		}
	}
	return out
}

// linksAll looks at the connections of every workload.
func (w *world) linksAll(t *testing.T, batch []*surrounded, put func(*surrounded, map[string][]routes.Connection)) {
	t.Helper()
	type glance struct {
		tr  *surrounded
		who identity.Workload
		to  *[]routes.Connection
	}
	var glances []glance
	for _, tr := range batch {
		for _, who := range tr.who.all() {
			glances = append(glances, glance{tr, who, new([]routes.Connection)})
		}
	}
	forEach(t, glances, func(ctx context.Context, g glance) (err error) {
		*g.to, err = routes.Connections(ctx, g.who)
		return err
	})
	links := map[*surrounded]map[string][]routes.Connection{}
	for _, g := range glances {
		if links[g.tr] == nil {
			links[g.tr] = map[string][]routes.Connection{}
		}
		links[g.tr][key(g.who)] = slices.DeleteFunc(*g.to, isBeside)
	}
	for _, tr := range batch {
		put(tr, links[tr])
	}
}

// isBeside reports whether connections are to no host: those that a proxy takes or passes
// through, and those to the entries of blackholes, which have no calls.
func isBeside(c routes.Connection) bool {
	return strings.HasPrefix(c.Listener, "240.251.") || strings.HasPrefix(c.Listener, "virtual") ||
		c.Clusters["PassthroughCluster"] > 0 || c.Clusters["BlackHoleCluster"] > 0
}

// The host of the naive blackhole.
func (tr *surrounded) naiveHost() string {
	return "oracle-naive-reject." + tr.name + ".squall.internal"
}

// naive returns what one would create without knowing better: the fault on everything that
// a VirtualService for the host can take.
func (tr *surrounded) naive() []object {
	from, host := tr.refused.Callers, tr.experiment.host
	if tr.experiment.fault["abort"] != nil {
		return []object{tr.naiveShadow(from)}
	}
	to := list(m{"destination": m{"host": tr.naiveHost()}})
	var ports []any
	for _, port := range []int64{80, 8080, 9000, 5432, 8443} {
		ports = append(ports, m{"number": port, "name": fmt.Sprintf("tcp-%d", port), "protocol": "TCP"})
	}
	return []object{
		withSpec(manifest(networking, "ServiceEntry", from, naiveName), m{
			"hosts": list(tr.naiveHost()), "addresses": list("240.251.0.9"), "ports": ports, "resolution": "STATIC", "exportTo": list("."),
			"workloadSelector": m{"labels": m{"oracle": "none"}},
		}),
		withSpec(manifest(networking, "VirtualService", from, naiveName), m{
			"hosts": list(host), "exportTo": list("."), "http": list(m{"route": to}), "tcp": list(m{"route": to}),
			"tls": list(m{"match": list(m{"sniHosts": list(host)}), "route": to}),
		}),
	}
}

// judge compares what was seen with the plan. A wrong plan fails the test.
func (tr *surrounded) judge(t *testing.T) judgement {
	t.Helper()
	known := len(tr.problems) // of objects that istiod refuses
	for _, who := range tr.who.all() {
		if diff := cmp.Diff(tr.before[key(who)], tr.after[key(who)]); diff != "" {
			tr.problem("%s: the rollback has left something: %s", key(who), diff)
		}
		if diff := cmp.Diff(tr.linksBefore[key(who)], tr.linksAfter[key(who)]); diff != "" {
			tr.problem("%s: the rollback has left connections: %s", key(who), diff)
		}
	}
	tr.forgetSplit()
	left := len(tr.problems) > known
	if len(tr.temporary) > 0 {
		tr.compare()
	}
	switch {
	case tr.planned() && len(tr.problems) == 0:
		if *verbose {
			t.Logf("right: %s", tr)
		}
		return right
	case tr.planned() || left:
		t.Errorf("%s: %s\n%s", tr.name, strings.Join(tr.problems, "\n\n"), tr)
		return wrong
	case len(tr.problems) > 0 || len(tr.temporary) == 0:
		return rightlyRefused
	default:
		if *verbose {
			t.Logf("needless: %s: %s\n%s", tr.refused.Cause, tr.refused.Reason, tr)
		}
		return needlessRefusal
	}
}

// forgetSplit drops the virtual hosts that an object for the exact host splits off from one
// for a wildcard, on a port that only VirtualServices have: 80. They have the same routes.
func (tr *surrounded) forgetSplit() {
	if !slices.ContainsFunc(tr.objects(), func(o object) bool {
		return o.GetKind() == "VirtualService" && tr.isWildcard(o.GetNamespace()+"/"+o.GetName())
	}) {
		return
	}
	for who, v := range tr.during {
		known := tr.before[who].routesTo(tr.experiment.host)
		for i, config := range v {
			port := text(config["name"])
			if slices.Contains(tr.ports, port) || slices.ContainsFunc(known, func(h virtualHost) bool { return fmt.Sprint(h.port) == port }) {
				continue
			}
			config = without(config)
			config["virtualHosts"] = anys(slices.DeleteFunc(items(v[i]["virtualHosts"]), func(host m) bool { return serves(host, tr.experiment.host) }))
			v[i] = config
		}
	}
}

// compare adds a problem for each of the callers' calls that are not hit, and for each
// other call that has changed.
func (tr *surrounded) compare() {
	for _, who := range tr.who.elsewhere {
		tr.unchanged(who)
	}
	for _, who := range tr.who.beside {
		before, during, ok := tr.hostRoutes(who)
		if !ok {
			continue
		}
		for i := range before {
			// A copy of a wildcard has routes for all proxies.
			if diff := cmp.Diff(allPlainly(before[i].routes), allPlainly(during[i].routes)); diff != "" {
				tr.problem("%s is no caller, and its routes on port %d have changed: %s", key(who), before[i].port, diff)
			}
		}
		if diff := cmp.Diff(tr.linksBefore[key(who)], tr.linksDuring[key(who)]); diff != "" {
			tr.problem("%s is no caller, and its connections have changed: %s", key(who), diff)
		}
	}
	hit := 0
	for _, who := range tr.who.targeted {
		hit += tr.hit(who)
	}
	if hit == 0 {
		tr.problem("no call is hit at all")
	}
}

// refuses reports whether a Sidecar makes a workload refuse calls to hosts that it does not
// import.
func (tr *surrounded) refuses(who identity.Workload) bool {
	return slices.ContainsFunc(tr.objects(), func(o object) bool {
		spec := mapOf(o.Object["spec"])
		app := mapOf(mapOf(spec["workloadSelector"])["labels"])["app"]
		return o.GetKind() == "Sidecar" && o.GetNamespace() == who.Namespace && mapOf(spec["outboundTrafficPolicy"])["mode"] == "REGISTRY_ONLY" && (app == nil || app == who.Labels["app"])
	})
}

// unchanged adds a problem if anything has changed for a workload.
func (tr *surrounded) unchanged(who identity.Workload) {
	if diff := cmp.Diff(tr.before[key(who)], tr.during[key(who)]); diff != "" {
		tr.problem("%s is in another namespace, and its routes have changed: %s", key(who), diff)
	}
	if diff := cmp.Diff(tr.linksBefore[key(who)], tr.linksDuring[key(who)]); diff != "" {
		tr.problem("%s is in another namespace, and its connections have changed: %s", key(who), diff)
	}
}

// hit adds a problem if a call of a caller to the target is not hit, or another one is. It
// returns how many routes and connections are hit.
func (tr *surrounded) hit(who identity.Workload) int {
	before, during, ok := tr.hostRoutes(who)
	if !ok {
		return 0
	}
	found := 0
	for i := range before {
		port := fmt.Sprint(before[i].port)
		if tr.experiment.port == 0 && !slices.Contains(tr.ports, port) {
			continue // proxies route a host on port 80 too, if a VirtualService names it
		}
		if !tr.isMeant(port) {
			if diff := cmp.Diff(allPlainly(before[i].routes), allPlainly(during[i].routes)); diff != "" {
				tr.problem("%s: the routes on port %d have changed, which is not meant: %s", key(who), before[i].port, diff)
			}
			continue
		}
		for j, route := range during[i].routes {
			taken := slices.ContainsFunc(during[i].routes[:j], func(earlier m) bool {
				return equal(plainly(earlier)["match"], plainly(route)["match"])
			})
			switch {
			case !forwards(route), taken:
			case tr.isHit(route):
				found++
			default:
				tr.problem("%s: a route on port %d is not hit: %v", key(who), before[i].port, action(route))
			}
		}
	}
	found += tr.hitConnections(who)
	if found == 0 && (len(before) > 0 || !tr.refuses(who)) {
		tr.problem("%s: no call is hit", key(who))
	}
	return found
}

// isHit reports whether a route aborts or diverts all requests.
func (tr *surrounded) isHit(route m) bool {
	if tr.experiment.fault["abort"] != nil {
		return equal(faultOf(route), tr.experiment.envoy)
	}
	return blackholeCluster.MatchString(text(mapOf(route["route"])["cluster"]))
}

// blackholeCluster is the name of the cluster of a blackhole.
var blackholeCluster = regexp.MustCompile(`^outbound\|\d+\|\|[^|]*-reject\..*\.squall\.internal$`)

// hitConnections compares the connections of a caller, and returns how many chains to
// the target are diverted.
func (tr *surrounded) hitConnections(who identity.Workload) int {
	type place struct{ listener, names, subnets string }
	at := func(c routes.Connection) place {
		return place{c.Listener, strings.Join(c.ServerNames, ","), strings.Join(c.Subnets, ",")}
	}
	during := map[place]routes.Connection{}
	for _, c := range tr.linksDuring[key(who)] {
		during[at(c)] = c
	}
	hit := 0
	for _, was := range tr.linksBefore[key(who)] {
		is, still := during[at(was)]
		delete(during, at(was))
		meant := tr.experiment.fault["blackhole"] != nil && tr.isTarget(was)
		switch {
		case !still:
			tr.problem("%s: connections of %v are gone", key(who), was)
		case diverted(is) && !meant:
			tr.problem("%s: connections are hit that are not meant: %v", key(who), was)
		case diverted(is):
			hit++
		case meant:
			tr.problem("%s: connections are not hit: %v", key(who), is)
		case !equal(was, is):
			tr.problem("%s: connections have changed: %v, %v", key(who), was, is)
		}
	}
	for _, is := range during {
		// A chain for the server name of the target takes them from one for all names.
		if names := is.ServerNames; diverted(is) && len(names) == 1 && names[0] == tr.experiment.host {
			hit++
			continue
		}
		tr.problem("%s: connections are new: %v", key(who), is)
	}
	return hit
}

func diverted(c routes.Connection) bool {
	for name := range c.Clusters {
		if !blackholeCluster.MatchString(name) {
			return false
		}
	}
	return len(c.Clusters) > 0
}

// isTarget reports whether connections are to the target on a port that is meant: by
// their server name, address or destination.
func (tr *surrounded) isTarget(c routes.Connection) bool {
	address, port, _ := strings.Cut(c.Listener, "_")
	if !tr.isMeant(port) {
		return false
	}
	if len(c.ServerNames) > 0 {
		// The listener of another host may have a route for the name too.
		own := slices.Contains(tr.addresses, address) || len(tr.addresses) == 0 && address == "0.0.0.0"
		return own && slices.Contains(c.ServerNames, tr.experiment.host)
	}
	if slices.Contains(tr.addresses, address) {
		return true
	}
	for name := range c.Clusters {
		if strings.HasSuffix(name, "|"+tr.experiment.host) {
			return true
		}
	}
	return false
}

// isMeant reports whether the experiment is about a port.
func (tr *surrounded) isMeant(port string) bool {
	return slices.Contains(tr.ports, port) && (tr.experiment.port == 0 || fmt.Sprint(tr.experiment.port) == port)
}
