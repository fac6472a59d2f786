package sim

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/kube/kubetest"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// drawExperiment draws the text of an experiment.
func (w *world) drawExperiment(name string) string {
	pick := func(all ...string) string { return all[w.IntN(len(all))] }
	return `apiVersion: squall.dev/v1alpha1
kind: Experiment
metadata: {name: ` + name + `}
spec:
  target: {host: ` + pick("ratings", "ratings", "ratings", "details") + `, namespace: prod}
  callers: [{namespace: ` + pick("shop", "shop", "cart") + `}]
  faults: [` + pick("{abort: {httpStatus: 503}, percentage: 100}", "{abort: {httpStatus: 503}, percentage: 30}", "{delay: {fixedDelay: 1s}, percentage: 100}", "{abort: {httpStatus: 503}, percentage: 50, match: [{headers: {end-user: {exact: test}}}]}", "{abort: {httpStatus: 503}, percentage: 50, match: [{headers: {end-user: {exact: nobody}}}]}", "{blackhole: {mode: reject}, percentage: 50}", "{blackhole: {mode: drop}, percentage: 100}") + `]
  duration: ` + pick("6s", "6s", "12s", "12s", "20s", "60s") + `
  steadyState: {interval: ` + pick("1s", "2s") + `, before: ` + pick("1s", "3s") + `, probes: [{name: health, query: health, min: 1}]}
  effect: {minRequests: ` + pick("0", "1", "20") + `}
  recovery: {within: ` + pick("5s", "10s") + `}
`
}

// scenario draws what happens in the world.
func (w *world) scenario() {
	w.trouble = true
	slowest := w.between(time.Second, 8*time.Second)
	w.apiWeather = weather{slow: w.Float64() * 0.03, slowest: slowest}
	w.prometheus.weather = weather{slow: w.Float64() * 0.03, slowest: slowest}
	w.diskWeather = weather{slowest: w.between(time.Second, 20*time.Second)}
	if w.chance(0.3) {
		w.apiWeather.failing = w.Float64() * 0.03
	}
	for _, at := range []*weather{&w.apiWeather, &w.apiWeather, &w.prometheus.weather, &w.diskWeather} {
		w.sometimes(0.4, func() { w.storm(at, w.skewed(time.Second, 20*time.Second)) })
	}
	w.sometimes(0.2, func() {
		w.prometheus.blind = w.Float64()
		w.in(w.between(0, 10*time.Second), func() { w.prometheus.blind = 0 })
	})
	w.sometimes(0.1, func() { w.stepClock() })
	w.sometimes(0.1, func() { w.prometheus.offset += w.between(-2*time.Minute, 2*time.Minute) })
	w.sometimes(0.1, func() {
		w.prometheus.behind = w.between(0, 10*time.Second)
		w.in(w.between(0, 20*time.Second), func() { w.prometheus.behind = 0 })
	})
	w.sometimes(0.05, func() {
		w.prometheus.repeats = true
		w.in(w.between(0, 10*time.Second), func() { w.prometheus.repeats, w.prometheus.cached = false, map[string][]steadystate.Sample{} })
	})
	w.sometimes(0.05, func() {
		w.prometheus.partial = true
		w.in(w.between(0, 10*time.Second), func() { w.prometheus.partial = false })
	})
	if w.chance(0.04) {
		w.scheduled()
	}
	runs := 1 + w.IntN(3)
	for i := range runs {
		w.in(w.skewed(0, 20*time.Second), func() { w.start(fmt.Sprint("runner-", i), experiment(w.drawExperiment(string(rune('a'+i))))) })
	}
	w.sometimes(0.3, func() { w.killOne() })
	w.sometimes(0.15, func() { w.interruptOne() })
	w.sometimes(0.25, func() {
		if w.chance(0.2) {
			w.storm(&w.apiWeather, w.between(0, 5*time.Second))
		}
		w.rollBack("oncall")
	})
	w.sometimes(0.3, func() { w.gitops() })
	w.sometimes(0.3, func() { w.gitops() })
	w.sometimes(0.2, func() { w.private() })
	w.sometimes(0.2, func() { w.person() })
	w.sometimes(0.15, func() { w.outage(w.between(0, 25*time.Second), w.chance(0.5)) })
	w.sometimes(0.1, func() { w.kcmAway(w.between(0, 30*time.Second)) })
	w.sometimes(0.2, func() { w.api.Compact() })
	w.sometimes(0.15, func() { w.istiodAway(w.between(0, 30*time.Second)) })
	w.sometimes(0.1, func() { w.sever(w.between(0, 20*time.Second)) })
	w.sometimes(0.2, func() { w.sicken(w.between(0, 10*time.Second)) })
	w.sometimes(0.1, func() { w.cutOne(w.between(0, 30*time.Second)) })
	w.in(w.length, w.calm)
}

// stepClock moves the clock of the control plane. A deadline that counts by that clock
// comes later by as much as the clock goes back.
func (w *world) stepClock() {
	step := w.between(-20*time.Second, 10*time.Minute)
	w.note("the clock of the control plane is moved by %s", step)
	w.skew += step
	w.judge.back += max(0, -step)
	for _, job := range w.api.List("jobs") {
		w.controllers.schedule(kubetest.Key{Resource: "jobs", Namespace: job.GetNamespace(), Name: job.GetName()}, job)
	}
}

// storm makes calls of one kind fail for a while.
func (w *world) storm(at *weather, d time.Duration) {
	calm := *at
	at.failing, at.slow = w.Float64(), w.Float64()*0.5
	w.in(d, func() { at.failing, at.slow = calm.failing, calm.slow })
}

// calm ends the trouble.
func (w *world) calm() {
	w.trouble = false
	for _, name := range slices.Sorted(maps.Keys(w.replicas)) {
		w.replicas[name].stop(context.Canceled)
	}
	w.in(patience, func() {
		for _, name := range slices.Sorted(maps.Keys(w.running)) {
			w.judge.problem("L1: %s has not ended %s after the trouble", name, patience)
		}
	})
}

// patience is how long a process may go on after the trouble: the longest experiment
// with everything that it waits for.
const patience = 4 * time.Minute

// sometimes lets something happen with a probability, at any time of the trouble.
func (w *world) sometimes(p float64, do func()) {
	happens, at := w.chance(p), w.between(0, w.length-5*time.Second)
	if happens {
		w.in(at, do)
	}
}

// live returns a run whose process lives, or nil.
func (w *world) live() *run {
	ids := slices.Sorted(maps.Keys(w.runs))
	ids = slices.DeleteFunc(ids, func(id string) bool { return w.runs[id].dead || w.judge.ended[id] != nil })
	if len(ids) == 0 {
		return nil
	}
	return w.runs[ids[w.IntN(len(ids))]]
}

func (w *world) killOne() {
	if name := w.replica(); name != "" && w.chance(0.5) {
		w.replicas[name].kill()
		return
	}
	if r := w.live(); r != nil {
		r.kill()
	}
}

func (w *world) interruptOne() {
	if r := w.live(); r != nil {
		w.note("SIGINT to %s", r.id)
		r.stop(context.Canceled)
	}
}

// cutOne lets a process reach nothing for a while.
func (w *world) cutOne(d time.Duration) {
	if name := w.replica(); name != "" && w.chance(0.5) {
		r := w.replicas[name]
		w.note("%s is cut off", name)
		r.cut = true
		w.in(d, func() { r.cut = false })
		return
	}
	if r := w.live(); r != nil {
		w.note("%s is cut off", r.id)
		r.cut = true
		w.in(d, func() { r.cut = false })
	}
}

// sicken lets the hypothesis fail for a while.
func (w *world) sicken(d time.Duration) {
	w.note("the system is sick")
	w.sick = true
	w.in(d, func() { w.sick = false })
}

// kcmAway lets the controllers do nothing for a while.
func (w *world) kcmAway(d time.Duration) {
	w.note("the controllers are away")
	w.controllers.down = true
	w.judge.away(true)
	w.in(d, func() {
		w.note("the controllers are back")
		w.controllers.up()
		w.judge.away(w.apiWeather.down)
	})
}

// istiodAway lets istiod push nothing for a while.
func (w *world) istiodAway(d time.Duration) {
	w.note("istiod is away")
	w.istiod.stopped = true
	w.in(d, func() {
		w.note("istiod is back")
		w.istiod.resume()
	})
}

// sever cuts one proxy off from istiod for a while.
func (w *world) sever(d time.Duration) {
	p := w.proxies[w.IntN(len(w.proxies))]
	p.severed = true
	w.in(d, func() {
		p.severed = false
		w.istiod.changed()
	})
}

// gitops creates, changes or deletes a VirtualService of a user.
func (w *world) gitops() {
	key := kubetest.Key{Resource: "virtualservices", Namespace: "prod", Name: "ratings"}
	now := w.api.Get(key)
	w.note("GitOps tool changes the base")
	switch {
	case now == nil:
		w.api.Put("virtualservices", object(bases[1+w.IntN(len(bases)-1)]))
	case w.chance(0.2):
		w.api.Remove(key)
	default:
		next := object(bases[1+w.IntN(len(bases)-1)])
		changed := now.DeepCopy()
		changed.Object["spec"] = next.Object["spec"]
		if w.chance(0.5) {
			_ = unstructured.SetNestedField(changed.Object, fmt.Sprint(w.IntN(100)), "metadata", "annotations", "sync")
		}
		w.api.Put("virtualservices", changed)
	}
}

// private creates a VirtualService in a namespace of callers, and deletes it after a while.
func (w *world) private() {
	w.note("a private VirtualService")
	p := w.proxies[w.IntN(len(w.proxies))]
	own := object(bases[1+w.IntN(len(bases)-1)])
	own.SetNamespace(p.namespace)
	_ = unstructured.SetNestedStringSlice(own.Object, []string{"."}, "spec", "exportTo")
	w.api.Put("virtualservices", own)
	w.in(w.between(0, time.Minute), func() {
		w.api.Remove(kubetest.Key{Resource: "virtualservices", Namespace: p.namespace, Name: own.GetName()})
	})
}

// person deletes an object of Squall with kubectl.
func (w *world) person() {
	var keys []kubetest.Key
	for key := range w.judge.ours {
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return
	}
	slices.SortFunc(keys, func(a, b kubetest.Key) int { return compareKeys(a, b) })
	key := keys[w.IntN(len(keys))]
	w.note("a person deletes %s", key)
	w.api.Remove(key)
}
