package oracle_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/sandbox/internal/identity"
)

var verbose = flag.Bool("scenarios", false, "print every scenario, not only those that fail")

// batchSize is the number of scenarios in the sandbox at a time.
const batchSize = 64

// trial is a scenario under test.
type trial struct {
	scenario
	who  workloads
	plan plan
	// refused is the decision that refuses, if any does.
	refused  decision
	category category
	// temporary is what is created for the time of the fault: the plan's
	// objects, or a naive shadow where the plan refuses.
	temporary []object
	// The views of all workloads.
	before, during, after map[string]view
	problems              []string
	// faulted and spared count the drawn requests.
	faulted, spared int
}

func key(w identity.Workload) string { return w.Namespace + "/" + w.Name }

func (tr *trial) problem(format string, args ...any) {
	tr.problems = append(tr.problems, fmt.Sprintf(format, args...))
}

func (tr *trial) planned() bool { return !tr.refused.refused() }

// conduct puts scenarios to the test, many at a time.
func conduct(t *testing.T, scenarios []scenario) []*trial {
	t.Helper()
	var all []*trial
	for batch := range slices.Chunk(scenarios, batchSize) {
		all = append(all, bed.conduct(t, batch)...)
	}
	return all
}

func (w *world) conduct(t *testing.T, scenarios []scenario) []*trial {
	t.Helper()
	var trials []*trial
	for _, s := range scenarios {
		trials = append(trials, &trial{scenario: s, who: s.workloads()})
	}
	w.build(t, trials)
	w.sync(t)
	var experiments []m
	for _, s := range scenarios {
		experiments = append(experiments, s.experiment.document())
	}
	plans, err := w.engine.plan(t.Context(), experiments)
	if err != nil {
		t.Fatal(err)
	}
	for i, tr := range trials {
		if err := tr.take(plans[i]); err != nil {
			t.Fatalf("%v\n%s", err, tr)
		}
	}
	w.lookAll(t, trials, func(tr *trial, views map[string]view) { tr.before = views })
	forEach(t, trials, func(ctx context.Context, tr *trial) error { return tr.validate(ctx, w) })
	var temporary []object
	for _, tr := range trials {
		temporary = append(temporary, tr.temporary...)
	}
	w.create(t, temporary)
	w.sync(t)
	w.lookAll(t, trials, func(tr *trial, views map[string]view) { tr.during = views })
	w.remove(t, temporary)
	w.sync(t)
	w.lookAll(t, trials, func(tr *trial, views map[string]view) { tr.after = views })
	for _, tr := range trials {
		tr.check(t)
		w.remove(t, tr.objects())
	}
	return trials
}

// build creates the scenarios' own objects, wave by wave.
func (w *world) build(t *testing.T, trials []*trial) {
	t.Helper()
	var namespaces []object
	waves := 0
	for _, tr := range trials {
		for _, name := range tr.namespaces {
			namespaces = append(namespaces, manifest("v1", "Namespace", "", name))
		}
		waves = max(waves, len(tr.waves))
	}
	w.create(t, namespaces)
	for i := range waves {
		if i > 0 {
			w.nextSecond(t)
		}
		var wave []object
		for _, tr := range trials {
			if i < len(tr.waves) {
				wave = append(wave, tr.waves[i]...)
			}
		}
		w.create(t, wave)
	}
}

// take takes the engine's plan, and sorts a refusal into its category.
func (tr *trial) take(p plan) error {
	tr.plan = p
	i := slices.IndexFunc(p.Decisions, decision.refused)
	if i < 0 {
		tr.temporary = p.Objects
		return nil
	}
	tr.refused = p.Decisions[i]
	i = slices.IndexFunc(categories, func(c category) bool { return c.cause == tr.refused.Cause })
	if i < 0 {
		return fmt.Errorf("a refusal of no known kind: %s: %s", tr.refused.Cause, tr.refused.Reason)
	}
	tr.category = categories[i]
	tr.temporary = []object{tr.naiveShadow(tr.refused.Callers)}
	return nil
}

// validate asks istiod about what will be created; what it refuses is not.
func (tr *trial) validate(ctx context.Context, w *world) error {
	for _, o := range tr.temporary {
		err := w.validate(ctx, o)
		if _, denied := errors.AsType[deniedError](err); denied {
			tr.problem("%v: %s", err, encode(o.Object))
			tr.temporary = nil
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

const naiveName = "oracle-naive"

// naiveShadow is what one would create without knowing better.
func (tr *trial) naiveShadow(namespace string) object {
	fault := m{}
	for _, kind := range []string{"abort", "delay"} {
		if own := mapOf(tr.experiment.fault[kind]); own != nil {
			fault[kind] = without(own)
			mapOf(fault[kind])["percentage"] = m{"value": tr.experiment.fault["percentage"]}
		}
	}
	return withSpec(manifest(networking, "VirtualService", namespace, naiveName), m{
		"hosts": list(tr.experiment.host), "exportTo": list("."),
		"http": list(m{"fault": fault, "route": list(m{"destination": m{"host": tr.experiment.host}})}),
	})
}

// lookAll looks at the mesh with the eyes of every workload.
func (w *world) lookAll(t *testing.T, trials []*trial, put func(*trial, map[string]view)) {
	t.Helper()
	type glance struct {
		tr  *trial
		who identity.Workload
		to  *view
	}
	var glances []glance
	for _, tr := range trials {
		for _, who := range tr.who.all() {
			glances = append(glances, glance{tr, who, new(view)})
		}
	}
	forEach(t, glances, func(ctx context.Context, g glance) (err error) {
		*g.to, err = w.look(ctx, g.who)
		return err
	})
	views := map[*trial]map[string]view{}
	for _, g := range glances {
		if views[g.tr] == nil {
			views[g.tr] = map[string]view{}
		}
		views[g.tr][key(g.who)] = *g.to
	}
	for _, tr := range trials {
		put(tr, views[tr])
	}
}

// check judges everything that was seen, and fails the test with the scenario.
func (tr *trial) check(t *testing.T) {
	t.Helper()
	for _, who := range tr.who.all() {
		if diff := cmp.Diff(tr.before[key(who)], tr.after[key(who)]); diff != "" {
			tr.problem("%s: the rollback has left something: %s", key(who), diff)
		}
	}
	switch {
	case len(tr.temporary) == 0: // istiod has refused it
	case tr.planned():
		tr.checkPlanned()
	default:
		tr.category.justify(tr)
	}
	if len(tr.problems) > 0 {
		t.Errorf("%s: %s\n%s", tr.name, strings.Join(tr.problems, "\n\n"), tr)
	} else if *verbose {
		t.Logf("%s", tr)
	}
}

// checkPlanned checks a plan that the engine was sure of.
func (tr *trial) checkPlanned() {
	requests := tr.requests()
	for _, d := range tr.plan.Decisions {
		for _, who := range tr.who.targeted {
			if who.Namespace == d.Callers {
				tr.checkTargeted(d, who, requests)
			}
		}
	}
	for _, who := range tr.who.beside {
		for _, d := range tr.plan.Decisions {
			if d.Callers == who.Namespace {
				tr.checkBeside(who, d)
			}
		}
	}
	for _, who := range tr.who.elsewhere {
		if diff := cmp.Diff(tr.before[key(who)], tr.during[key(who)]); diff != "" {
			tr.problem("%s is in another namespace, and its routes have changed: %s", key(who), diff)
		}
	}
}

// hostRoutes returns the routes to the target before and during the fault. All other
// routes must be equal.
func (tr *trial) hostRoutes(who identity.Workload) (before, during hostRoutes, ok bool) {
	b, d := tr.before[key(who)], tr.during[key(who)]
	if diff := cmp.Diff(b.beyond(tr.experiment.host), d.beyond(tr.experiment.host)); diff != "" {
		tr.problem("%s: routes to another host have changed: %s", key(who), diff)
	}
	before, during = b.routesTo(tr.experiment.host), d.routesTo(tr.experiment.host)
	if len(before) != len(during) {
		tr.problem("%s: the target had %d virtual hosts, and now has %d", key(who), len(before), len(during))
		return nil, nil, false
	}
	for i := range before {
		if diff := cmp.Diff(before[i].frame, during[i].frame); diff != "" {
			tr.problem("%s: the virtual host of the target has changed: %s", key(who), diff)
		}
	}
	return before, during, true
}

// checkBeside checks a workload that is not a caller but in the callers' namespace. Its
// routes are unchanged, including their origin, except next to a wildcard: a new exact
// host disables the wildcard for it, so the object contains the wildcard's routes for
// all proxies.
func (tr *trial) checkBeside(who identity.Workload, d decision) {
	before, during, ok := tr.hostRoutes(who)
	if !ok {
		return
	}
	for i := range before {
		b, is := before[i].routes, during[i].routes
		if tr.isWildcard(d.InForce) {
			b, is = allPlainly(b), allPlainly(is)
		}
		if diff := cmp.Diff(b, is); diff != "" {
			tr.problem("%s is no caller, and its routes on port %d have changed: %s", key(who), before[i].port, diff)
		}
	}
}

// isWildcard reports whether a VirtualService of the scenario names the target
// by a wildcard alone.
func (tr *trial) isWildcard(name string) bool {
	return slices.ContainsFunc(tr.objects(), func(o object) bool {
		hosts, _, _ := unstructured.NestedStringSlice(o.Object, "spec", "hosts")
		return o.GetKind() == "VirtualService" && o.GetNamespace()+"/"+o.GetName() == name &&
			!slices.ContainsFunc(hosts, func(host string) bool {
				return !strings.HasPrefix(host, "*") && strings.HasPrefix(tr.experiment.host, host)
			})
	})
}

// checkTargeted checks a caller: the fault is on the requests that it is meant
// for, and nothing else has changed.
func (tr *trial) checkTargeted(d decision, who identity.Workload, requests []request) {
	before, during, ok := tr.hostRoutes(who)
	if !ok {
		return
	}
	if len(before) == 0 {
		tr.problem("%s: istiod sends it no routes to the target at all", key(who))
	}
	for i := range before {
		at := fmt.Sprintf("%s on port %d", key(who), before[i].port)
		if tr.experiment.port == 0 || tr.experiment.port == before[i].port {
			if origins := before[i].origins(); !slices.Equal(origins, []string{d.InForce}) {
				tr.problem("%s: in force is %q, says the plan; istiod's routes are of %q", at, d.InForce, origins)
			}
		}
		tr.checkStructure(at, before[i].routes, during[i].routes)
		for _, r := range requests {
			if err := tr.checkRequest(before[i], during[i], r); err != nil {
				tr.problem("%s: %v: %v", at, r, err)
				break
			}
		}
	}
}

// checkStructure compares the routes one by one: without the clones and their
// faults they are what they were.
func (tr *trial) checkStructure(at string, before, during []m) {
	during = withoutRepeats(during)
	original := 0
	for i, route := range during {
		if isClone(tr.experiment, route, before) {
			if !slices.ContainsFunc(before[original:], func(b m) bool {
				return equal(action(b), action(route)) && equal(faultOf(route), tr.experiment.onto(faultOf(b)))
			}) {
				tr.problem("%s: clone %d does what no later original with the fault does: %v, fault %v", at, i, action(route), faultOf(route))
			}
			continue
		}
		if original == len(before) {
			tr.problem("%s: route %d is neither a clone nor an original: %v", at, i, route)
			return
		}
		b := before[original]
		original++
		if !equal(faultOf(route), faultOf(b)) && equal(faultOf(route), tr.experiment.onto(faultOf(b))) {
			b, route = withoutFault(b), withoutFault(route)
		}
		if diff := cmp.Diff(plainly(b), plainly(route)); diff != "" {
			tr.problem("%s: route %d is not the original any more: %s", at, i, diff)
		}
	}
	// istiod sends no routes after one that takes everything.
	if original < len(before) && !takesEverything(during[len(during)-1]) {
		tr.problem("%s: the last %d originals are gone", at, len(before)-original)
	}
}

// withoutRepeats leaves out routes that are the same as the one before: a
// workload that is two of the callers at once gets each route twice, and the
// second takes no request.
func withoutRepeats(routes []m) []m {
	return slices.CompactFunc(slices.Clone(routes), func(a, b m) bool { return equal(a, b) })
}

func takesEverything(route m) bool {
	match := mapOf(route["match"])
	return (match["prefix"] == "/" || mapOf(match["safeRegex"])["regex"] == ".*") && len(items(match["headers"])) == 0 && len(items(match["queryParameters"])) == 0
}

// checkRequest follows one request through the routes before and during the
// fault.
func (tr *trial) checkRequest(before, during virtualHost, r request) error {
	was, is, err := bothFirst(before, during, r)
	if err != nil || was == nil {
		return err
	}
	if diff := cmp.Diff(action(was), action(is)); diff != "" {
		return fmt.Errorf("it goes another way: %s", diff)
	}
	want := faultOf(was)
	if forwards(was) && tr.experiment.faulted(r, before.port) {
		want = tr.experiment.onto(want)
		tr.faulted++
	} else {
		tr.spared++
	}
	if !equal(want, faultOf(is)) {
		return fmt.Errorf("its fault is %v instead of %v", faultOf(is), want)
	}
	return nil
}

// tally prints what became of the scenarios.
func tally(t *testing.T, trials []*trial, began time.Time) {
	t.Helper()
	counts, effective, unseen := map[string]int{}, map[string]int{}, map[string]int{}
	faulted, spared := 0, 0
	for _, tr := range trials {
		faulted, spared = faulted+tr.faulted, spared+tr.spared
		if tr.planned() {
			counts["planned: "+tr.plan.Decisions[0].Placement]++
			continue
		}
		name := "refused: " + tr.category.cause
		counts[name]++
		if tr.naiveTakesEffect() {
			effective[name]++
		}
		if tr.refused.InForce != "" && tr.inForceForNobody() {
			unseen[name]++
		}
	}
	var out strings.Builder
	for name, count := range sortedCounts(counts) {
		fmt.Fprintf(&out, "%5d  %s", count, name)
		if strings.HasPrefix(name, "refused") {
			fmt.Fprintf(&out, " (a naive shadow takes effect: %d; no caller has routes of what the engine says is in force: %d)", effective[name], unseen[name])
		}
		out.WriteByte('\n')
	}
	t.Logf("%d scenarios in %.1f s; of the drawn requests %d were to be hit and %d to be spared\n%s", len(trials), time.Since(began).Seconds(), faulted, spared, &out)
	if faulted == 0 || spared == 0 {
		t.Error("the drawn requests cannot tell a fault from none")
	}
}

func sortedCounts(counts map[string]int) iter.Seq2[string, int] {
	return func(yield func(string, int) bool) {
		for _, name := range slices.Sorted(maps.Keys(counts)) {
			if !yield(name, counts[name]) {
				return
			}
		}
	}
}
