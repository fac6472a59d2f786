package mesh

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/experiments"
)

// Plan is what a run would create, and why, for each namespace of callers.
type Plan struct {
	Experiment string `json:"experiment"`
	// Decisions has one entry for each host and namespace of callers, and at
	// least one.
	Decisions []Decision `json:"decisions"`
	// Objects are complete manifests in the order of their creation, as they
	// are when the experiment starts. They carry no metadata of a run yet; Stamp
	// adds it.
	Objects []*unstructured.Unstructured `json:"objects"`
	// Steps are the later states of some of them, in the order of their times.
	Steps []Step `json:"steps,omitempty"`
}

// Step is a new state of an object while the experiment lasts, because a fault
// starts or ends.
type Step struct {
	// After is the time from the start of the experiment.
	After  experiments.Duration       `json:"after"`
	Object *unstructured.Unstructured `json:"object"`
}

// Decision is what happens to the calls from one namespace to one host.
type Decision struct {
	// Host is the target's name as the mesh knows it.
	Host    string `json:"host"`
	Callers string `json:"callers"`
	// InForce is the VirtualService that routes the calls today, as
	// namespace/name, or nil when there is none.
	InForce   *string   `json:"inForce"`
	Placement Placement `json:"placement"`
	Namespace string    `json:"namespace,omitempty"`
	ExportTo  []string  `json:"exportTo,omitempty"`
	// Reason explains the placement or the refusal.
	Reason string `json:"reason"`
	// Cause names the kind of a refusal; docs/refusals has a page for each.
	Cause Cause `json:"cause,omitempty"`
	// Hint says what would help against it.
	Hint string `json:"hint,omitempty"`
	// Bases are the objects that the new one is derived from, the
	// VirtualService in force and those that it delegates to, in the state that
	// the plan was made from.
	Bases []Version `json:"-"`
	// Injections are the faults on these calls, each for the callers of this
	// namespace only.
	Injections experiments.Injections `json:"-"`
	// Before and During are the http routes for the callers, today and in the
	// first state of the plan in which a fault is active.
	Before []map[string]any `json:"-"`
	During []map[string]any `json:"-"`
	// Trace says how the requests that are hit look in telemetry.
	Trace Trace `json:"-"`
}

// Trace is how the requests that a plan disturbs look in Istio's metrics.
type Trace struct {
	// Destinations are the hosts that the disturbed routes forward to.
	Destinations []string
	// Aborts and Delays tell that the callers' proxies flag requests FI or DI.
	Aborts, Delays bool
	// Blackholes are the hosts that blackholed requests are sent to.
	Blackholes []string
}

// Version is an object in one state. The generation counts the changes of its
// spec.
type Version struct {
	Ref
	Generation int64
}

// Placement is how a fault is brought to the callers.
type Placement string

// The placements: a new VirtualService where none is in force, a shadow that
// takes precedence over the one in force, or none because the fault could not
// take effect.
const (
	Plain   Placement = "plain"
	Shadow  Placement = "shadow"
	Refused Placement = "refused"
)

// Options are what a plan depends on beside the mesh and the experiment.
type Options struct {
	// HomeNamespace is where objects stand if that takes precedence; empty means
	// no preference.
	HomeNamespace string
	// BlackholeAddress is where dropped connections go: an address that never
	// answers.
	BlackholeAddress string
	// Denied has the namespaces in which objects may not be made, and why.
	Denied map[string]string
}

// DefaultBlackholeAddress is in a network that is reserved for documentation,
// so that nothing answers there (RFC 5737).
const DefaultBlackholeAddress = "192.0.2.1"

// Refusal gives the first decision that refuses, if any does: a run either
// reaches all of its callers or does not start.
func (p Plan) Refusal() (Decision, bool) {
	i := slices.IndexFunc(p.Decisions, func(d Decision) bool { return d.Placement == Refused })
	if i < 0 {
		return Decision{}, false
	}
	return p.Decisions[i], true
}

// At gives the objects as they are at a time from the start of the experiment.
func (p Plan) At(after time.Duration) []*unstructured.Unstructured {
	now := slices.Clone(p.Objects)
	for _, step := range p.Steps {
		i := slices.IndexFunc(now, func(o *unstructured.Unstructured) bool { return RefTo(o) == RefTo(step.Object) })
		if step.After.Duration <= after {
			now[i] = step.Object
		}
	}
	return now
}

// Decide plans an experiment against a snapshot. It decides for each host and
// namespace of callers; a refusal is a decision, not an error.
func Decide(s Snapshot, e experiments.Experiment, o Options) Plan {
	plan := Plan{Experiment: e.Metadata.Name}
	groups, err := s.groupsOf(e.Spec)
	for _, g := range groups {
		decision := Decision{Host: g.host, Callers: g.callers, Injections: g.resolved()}
		var made drawn
		if err == nil {
			made, err = s.decide(&decision, g, e, o)
		}
		if err != nil {
			decision = Decision{Host: g.host, Callers: g.callers, Injections: g.resolved(), InForce: decision.InForce, Placement: Refused, Reason: err.Error()}
			if r, ok := err.(refusal); ok { //nolint:errorlint // made in this package, never wrapped
				decision.Cause, decision.Hint = r.cause, r.hint
			}
		}
		plan.Objects = append(plan.Objects, made.objects...)
		plan.Steps = append(plan.Steps, made.steps...)
		plan.Decisions = append(plan.Decisions, decision)
		err = nil
	}
	// What requests are diverted to exists before anything diverts them, and
	// longer, because a rollback goes the other way.
	slices.SortStableFunc(plan.Objects, func(a, b *unstructured.Unstructured) int {
		return compareBool(a.GetKind() == "VirtualService", b.GetKind() == "VirtualService")
	})
	slices.SortStableFunc(plan.Steps, func(a, b Step) int { return cmp.Compare(a.After.Duration, b.After.Duration) })
	return plan
}

// drawn is what a decision creates, and its later states.
type drawn struct {
	objects []*unstructured.Unstructured
	steps   []Step
}

// decide decides where the faults go for the callers of one namespace, and
// renders the objects that carry them.
func (s Snapshot) decide(d *Decision, g *group, e experiments.Experiment, o Options) (drawn, error) {
	switch {
	case !g.known:
		return drawn{}, refuse(UnknownHost, "check the spelling; kubectl get services,serviceentries -A lists the hosts", "the mesh knows no host %s: no Service and no ServiceEntry stands for it", g.host)
	case g.callers == "":
		return drawn{}, refuse(NoCallers, "add spec.callers with the namespace of the workloads that call "+g.host, "the experiment names no callers")
	}
	if err := s.checkCallers(g.callers); err != nil {
		return drawn{}, err
	}
	if err := s.checkTarget(g.host); err != nil {
		return drawn{}, err
	}
	if run, live := s.liveRun(g.host, g.callers); live {
		return drawn{}, refuse(LiveRun, LiveRunHint(run), "run %s already disturbs the calls from %s to %s", run, g.callers, g.host)
	}
	if !slices.ContainsFunc(s.standIns(g.host), func(i standIn) bool { return s.sees(i, g.callers) }) {
		return drawn{}, refuse(NotVisible, "exportTo of the Service or ServiceEntry decides, and Istio's MeshConfig", "%s is not visible to namespace %s, so its proxies have no route for it", g.host, g.callers)
	}
	ports := s.portsOf(g.host, g.callers)
	if err := checkPorts(g, ports); err != nil {
		return drawn{}, err
	}
	seen, err := s.see(g, ports)
	if len(seen) > 0 && seen[0].base != nil {
		name := seen[0].name()
		d.InForce = &name
	}
	if err != nil {
		return drawn{}, err
	}
	now := seen[0].inForce
	if e.Spec.Effect.MinRequests > 0 {
		if err := checkForeignFaults(now, g, g.proxies(ports)); err != nil {
			return drawn{}, err
		}
	}
	place, err := s.choose(g, o, now.base, seen)
	if err != nil {
		return drawn{}, err
	}
	if err := s.checkBystanders(g, now.base, place); err != nil {
		return drawn{}, err
	}
	d.explain(now, place)
	return s.draw(d, g, seen, place, ports, e, o)
}

// explain says why the placement takes effect.
func (d *Decision) explain(now inForce, p placement) {
	d.Namespace, d.ExportTo = p.namespace, []string{p.exportTo}
	if now.base == nil {
		d.Placement = Plain
		d.Reason = fmt.Sprintf("no VirtualService is in force for %s in %s", d.Host, d.Callers)
		if len(now.passed) > 0 {
			d.Reason = fmt.Sprintf("VirtualService %s has no route for these callers, so istiod's default route is in force", now.passed[0].name())
		}
		if p.namespace != d.Callers {
			d.Reason += "; it stands in " + p.namespace
		}
		return
	}
	d.Placement = Shadow
	d.Bases = []Version{{RefTo(now.base.Unstructured), now.base.GetGeneration()}}
	for _, child := range now.delegates {
		d.Bases = append(d.Bases, Version{RefTo(child), child.GetGeneration()})
	}
	kind := now.base.bucket.String()
	if now.base.wildcard() {
		kind = "for " + now.base.pattern
	}
	d.Reason = fmt.Sprintf("shadow in %s, outranks %s (%s)", p.namespace, now.name(), kind)
	for _, passed := range now.passed {
		d.Reason += fmt.Sprintf("; %s has no route for these callers", passed.name())
	}
}

// draw renders the objects, and their later states when faults have times of
// their own.
func (s Snapshot) draw(d *Decision, g *group, seen []sight, p placement, ports []Port, e experiments.Experiment, o Options) (drawn, error) {
	now := seen[0].inForce
	duration := e.Spec.Duration.Duration
	r := &renderer{Snapshot: s, group: g, inForce: now, listener: seen[0].listener, place: p, experiment: e.Metadata.Name, blackholes: newBlackholes(s, g, p, ports, o)}
	if err := r.checkConnections(seen); err != nil {
		return drawn{}, err
	}
	home := p.namespace
	if now.base != nil {
		home = now.base.GetNamespace()
	}
	d.Before = r.shown(r.copyRoutes(), home)
	var states []*unstructured.Unstructured
	moments := append([]time.Duration{0}, g.resolved().Steps(duration)...)
	for _, at := range moments {
		active := g.active(at)
		object, err := r.render(active)
		if err != nil {
			return drawn{}, err
		}
		if len(active) > 0 && d.During == nil {
			routes, _ := mapAt(object.Object, "spec")["http"].([]any)
			d.During = r.shown(routes, p.namespace)
		}
		states = append(states, object)
	}
	d.Trace = r.trace
	d.Trace.Blackholes = r.blackholes.hosts()
	made := drawn{objects: append(r.blackholes.objects(), states[0])}
	for i, state := range states[1:] {
		made.steps = append(made.steps, Step{experiments.Duration{Duration: moments[i+1]}, state})
	}
	return made, nil
}

// newVirtualService gives the empty object for a host and a namespace of
// callers. Its name is a function of both, so that creating it is also the
// lock: a second run on the same calls finds it taken.
func (s Snapshot) newVirtualService(host, callers, namespace string) *unstructured.Unstructured {
	object := &unstructured.Unstructured{Object: map[string]any{}}
	object.SetAPIVersion(s.APIVersion)
	object.SetKind("VirtualService")
	object.SetNamespace(namespace)
	object.SetName(ObjectName(host, callers))
	object.SetAnnotations(map[string]string{HostAnnotation: host, CallersAnnotation: callers})
	return object
}

// ObjectName gives the name of the object that carries a fault on the calls
// from a namespace to a host.
func ObjectName(host, callers string) string {
	sum := sha256.Sum256([]byte(callers + "/" + host))
	label, _, _ := strings.Cut(strings.ReplaceAll(host, ":", "-"), ".")
	if len(label) > 40 {
		label = label[:40]
	}
	return "squall-" + strings.TrimRight(label, "-") + "-" + hex.EncodeToString(sum[:4])
}
