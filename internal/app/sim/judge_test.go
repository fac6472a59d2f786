package sim

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/kube/kubetest"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner/event"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// judge checks what Squall promises, after every event.
type judge struct {
	world    *world
	problems []string
	// ours are the objects of Squall that exist.
	ours map[kubetest.Key]*unstructured.Unstructured
	// wrong maps calls to the time since which their destinations are not the users'.
	wrong map[string]time.Time
	// outranked maps faults to the time since which other routes are effective for
	// their calls.
	outranked map[kubetest.Key]time.Time
	// rivals are pairs of faults on the same calls in different namespaces, of which one
	// has to yield, with the time since which both exist.
	rivals map[[2]kubetest.Key]time.Time
	// yields are the runs with a fault in such a pair, by id.
	yields map[string]bool
	// ended are the runs whose process is dead or has ended, by id.
	ended  map[string]*since
	truths map[string]*truth

	// held is true when a rollback that holds runs has reported success.
	held bool

	// awayFor is how long the API server or the controllers were away in all, up to
	// awaySince if they are away now.
	awayFor   time.Duration
	awaySince time.Time
	// back is how far the clock of the control plane has gone back in all. Deadlines that
	// count by that clock come later by as much. backAt is how far it had gone when the
	// first object of a run was created, by id.
	back   time.Duration
	backAt map[string]time.Duration
}

// since is a time, and how long the cluster had been away in all by then.
type since struct {
	at   time.Time
	away time.Duration
}

// truth is what a run has really done.
type truth struct {
	hits    float64
	created int // VirtualServices
}

func (w *world) truth(run string) *truth {
	t := w.judge.truths[run]
	if t == nil {
		t = &truth{}
		w.judge.truths[run] = t
	}
	return t
}

func (j *judge) problem(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	j.problems = append(j.problems, text)
	j.world.note("PROBLEM %s", text)
}

// away follows whether the API server or the controllers are away.
func (j *judge) away(is bool) {
	if !j.awaySince.IsZero() {
		j.awayFor += time.Since(j.awaySince)
		j.awaySince = time.Time{}
	}
	if is {
		j.awaySince = time.Now()
	}
}

func (j *judge) now() *since {
	s := &since{at: time.Now(), away: j.awayFor}
	if !j.awaySince.IsZero() {
		s.away += time.Since(j.awaySince)
	}
	return s
}

// elapsed returns the time since s in which the cluster was not away.
func (j *judge) elapsed(s *since) time.Duration {
	now := j.now()
	return now.at.Sub(s.at) - (now.away - s.away)
}

// slack is the time by which runs may have been late so far: the cluster was away, or its
// clock has gone back.
func (j *judge) slack() time.Duration { return j.now().away + j.back }

// leftAfter is how long a fault may outlive its run.
const leftAfter = 20 * time.Second

// followed is how long a run may take to follow a change of a base, or to end.
const followed = 30 * time.Second

// event checks what depends on the time.
func (j *judge) event() {
	for key, object := range j.ours {
		run := object.GetLabels()[objects.RunLabel]
		if gone := j.ended[run]; gone != nil && j.elapsed(gone) > leftAfter+j.back-j.backAt[run] {
			j.problem("I1: %s has outlived its run %s by %s", key, run, j.elapsed(gone))
		}
	}
	for calls, at := range j.wrong {
		if time.Since(at)-j.slack() > followed {
			j.problem("I3: %s have gone elsewhere than their users want for %s", calls, time.Since(at))
		}
	}
	for pair, at := range j.rivals {
		switch {
		case j.ours[pair[0]] == nil || j.ours[pair[1]] == nil:
			delete(j.rivals, pair)
		case time.Since(at)-j.slack() > followed:
			j.problem("I5: %s and %s disturb the same calls, and neither yields", pair[0], pair[1])
		}
	}
	for key, at := range j.outranked {
		if time.Since(at)-j.slack() > followed {
			j.problem("I7: %s has had no effect for %s", key, time.Since(at))
		}
	}
}

// rank follows which faults are effective for their calls.
func (j *judge) rank(all []*unstructured.Unstructured) {
	outranked := map[kubetest.Key]time.Time{}
	for key, object := range j.ours {
		if key.Resource != "virtualservices" {
			continue
		}
		a := object.GetAnnotations()
		if is := effective(all, a[objects.CallersAnnotation], a[objects.HostAnnotation]); is == nil || is.GetUID() == object.GetUID() {
			continue
		}
		since, known := j.outranked[key]
		if !known {
			since = time.Now().Add(-j.slack())
		}
		outranked[key] = since
	}
	j.outranked = outranked
}

// changed checks a write.
func (j *judge) changed(change kubetest.Change) {
	object := change.Object
	if objects.IsOurs(object) {
		switch change.Type {
		case "DELETED":
			delete(j.ours, change.Key)
		case "ADDED":
			j.ours[change.Key] = object
			j.added(change.Key, object)
		default:
			j.ours[change.Key] = object
		}
	}
	if change.Key.Resource == "virtualservices" {
		j.routes()
	}
}

// added checks a new object of Squall.
func (j *judge) added(key kubetest.Key, object *unstructured.Unstructured) {
	id := object.GetLabels()[objects.RunLabel]
	if !j.world.recorded(id, object) {
		j.problem("I6: %s is not in the journal of its run", key)
	}
	if _, known := j.backAt[id]; !known {
		j.backAt[id] = j.back
	}
	if key.Resource != "virtualservices" {
		return
	}
	j.world.truth(id).created++
	j.begins(id)
	// A fault whose Job is gone was on its way, and is collected.
	if owners := object.GetOwnerReferences(); j.held && len(owners) == 1 && j.world.controllers.exists(owners[0].UID) {
		j.problem("H: %s begins after a rollback has held all runs", key)
	}
	for other, o := range j.ours {
		if other != key && other.Resource == key.Resource && o.GetLabels()[objects.RunLabel] != id &&
			o.GetAnnotations()[objects.HostAnnotation] == object.GetAnnotations()[objects.HostAnnotation] &&
			o.GetAnnotations()[objects.CallersAnnotation] == object.GetAnnotations()[objects.CallersAnnotation] {
			if other.Namespace == key.Namespace {
				j.problem("I5: %s and %s disturb the same calls", key, other)
			} else {
				j.rivals[[2]kubetest.Key{key, other}] = time.Now().Add(-j.slack())
				j.yields[id] = true
			}
		}
	}
}

// routes checks that all calls go where they would go without Squall.
func (j *judge) routes() {
	all := j.world.api.List("virtualservices")
	j.rank(all)
	theirs := slices.DeleteFunc(slices.Clone(all), func(vs *unstructured.Unstructured) bool { return objects.IsOurs(vs) })
	for _, p := range j.world.proxies {
		for _, c := range p.calls {
			calls := p.namespace + "'s calls to " + c.host
			is := effective(all, p.namespace, c.host)
			if is == nil || !objects.IsOurs(is) {
				delete(j.wrong, calls)
				continue
			}
			if a := is.GetAnnotations(); a[objects.HostAnnotation] != c.host || a[objects.CallersAnnotation] != p.namespace {
				j.problem("I3: %s are disturbed by %s, which is not for them", calls, is.GetName())
			}
			would := effective(theirs, p.namespace, c.host)
			same := true
			for _, k := range c.classes {
				now := p.outcome(is, c.host, k)
				same = same && (now.lost() > 1-1e-6 || sameShares(now.to, p.outcome(would, c.host, k).to))
			}
			if _, known := j.wrong[calls]; same {
				delete(j.wrong, calls)
			} else if !known {
				j.wrong[calls] = time.Now().Add(-j.slack())
			}
		}
	}
}

func sameShares(a, b map[string]float64) bool {
	normal := func(all map[string]float64) map[string]float64 {
		n := map[string]float64{}
		for name, share := range all {
			n[trimNil(name)] += share
		}
		return n
	}
	return maps.EqualFunc(normal(a), normal(b), func(x, y float64) bool { return math.Abs(x-y) < 1e-6 })
}

func trimNil(name string) string {
	const none = " <nil>"
	if len(name) > len(none) && name[len(name)-len(none):] == none {
		return name[:len(name)-len(none)]
	}
	return name
}

// finished checks the result of a run whose process lives.
func (j *judge) finished(r *run) {
	result := r.result
	j.world.note("%s: %s, %s", r.id, result.Status, result.Verdict)
	if *verbose {
		fmt.Println(result.Reason) // of two times that have passed at once, either may be the reason
	}
	t := j.world.truth(r.id)
	spec := r.experiment.Spec
	switch {
	case result.Status == event.StatusRefused && t.created > 0 && !j.yields[r.id]:
		j.problem("%s is refused and has injected: %s", r.id, result.Reason)
	case result.Status == event.StatusCompleted && result.Verdict == steadystate.Held && t.hits < float64(spec.Effect.MinRequests)*0.99:
		j.problem("I4: %s is held and has hit %.1f requests of %d", r.id, t.hits, spec.Effect.MinRequests)
	}
	for key, object := range j.ours {
		if object.GetLabels()[objects.RunLabel] == r.id && len(result.Left) == 0 {
			j.problem("%s has ended with nothing left, and there is %s", r.id, key)
		}
	}
}

// clean checks the claim of a run that its calls are clean.
func (j *judge) clean(r *run, claim event.Clean) {
	if claim.State != event.CleanSeen {
		return
	}
	for _, p := range j.world.proxies {
		for i, routes := range p.routes {
			for _, o := range routes {
				if o.run() == r.id && o.disturbed() {
					j.problem("C: %s claims that its calls are clean, and still disturbs calls from %s to %s", r.id, p.namespace, p.calls[i].host)
				}
			}
		}
	}
}

// end checks that the world is clean when no trouble is left.
func (j *judge) end() {
	for _, key := range slices.Collect(maps.Keys(j.ours)) {
		j.problem("L1: %s is left", key)
	}
	for _, p := range j.world.proxies {
		for i, routes := range p.routes {
			for _, o := range routes {
				if o.run() != "" {
					j.problem("L1: %s still disturbs calls from %s to %s", o.run(), p.namespace, p.calls[i].host)
				}
			}
		}
	}
}
