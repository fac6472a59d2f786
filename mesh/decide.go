package mesh

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/routing"
	"github.com/squall-chaos/squall/mesh/impact"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/mesh/refusal"
	"github.com/squall-chaos/squall/mesh/render"
)

// planner plans one experiment.
type planner struct {
	// mesh has no objects of runs: a plan is the same with and without live runs,
	// but that it is refused where one of them disturbs the same calls.
	mesh config.Snapshot
	// runs are the VirtualServices of runs.
	runs       []*unstructured.Unstructured
	experiment experiments.Experiment
	options    Options
}

func newPlanner(s config.Snapshot, e experiments.Experiment, o Options) *planner {
	return &planner{
		mesh:       s.Only(func(object *unstructured.Unstructured) bool { return !objects.IsOurs(object) }),
		runs:       s.Only(func(object *unstructured.Unstructured) bool { return objects.IsOurs(object) }).VirtualServices,
		experiment: e, options: o,
	}
}

// Decide plans an experiment against a snapshot, for each host and namespace of
// callers. A refusal is a decision, not an error.
func Decide(s config.Snapshot, e experiments.Experiment, o Options) Plan {
	p := newPlanner(s, e, o)
	plan := Plan{Experiment: e.Metadata.Name}
	groups, err := groupsOf(p.mesh, e.Spec)
	for _, g := range groups {
		decision := Decision{Host: g.Host, Callers: g.Callers, Injections: g.Resolved()}
		if g.Gateway != nil {
			decision.Gateway = &Gateway{Labels: g.Gateway, Hosts: []string{}}
		}
		var made rendered
		if err == nil {
			made, err = p.decide(&decision, g)
		}
		if err != nil {
			decision = refused(decision, err)
		}
		plan.Objects = append(plan.Objects, made.objects...)
		plan.Steps = append(plan.Steps, made.steps...)
		plan.Decisions = append(plan.Decisions, decision)
		err = nil
	}
	// The destinations of diverted requests must exist before a route diverts to
	// them, and until none does: a rollback deletes in the reverse order.
	slices.SortStableFunc(plan.Objects, func(a, b *unstructured.Unstructured) int {
		return cmp.Compare(creationOrder(a), creationOrder(b))
	})
	slices.SortStableFunc(plan.Steps, func(a, b Step) int { return cmp.Compare(a.After.Duration, b.After.Duration) })
	return plan
}

// creationOrder puts VirtualServices last.
func creationOrder(object *unstructured.Unstructured) int {
	if object.GetKind() == objects.KindVirtualService {
		return 1
	}
	return 0
}

// refused returns a decision that refuses with an error.
func refused(d Decision, err error) Decision {
	r := Decision{Host: d.Host, Callers: d.Callers, Injections: d.Injections, Gateway: d.Gateway, Effective: d.Effective, Placement: Refused, Reason: err.Error(), Blocker: d.Blocker}
	if known, ok := errors.AsType[*refusal.Error](err); ok {
		r.Cause, r.Hint = known.Cause, known.NextStep
	}
	return r
}

// rendered are the objects that a decision creates, and their later states.
type rendered struct {
	objects []*unstructured.Unstructured
	steps   []Step
}

// decide decides where the faults of a group are placed, and renders the objects
// that carry them.
func (p *planner) decide(d *Decision, g *render.Group) (rendered, error) {
	p, err := p.forCallers(g)
	if err != nil {
		return rendered{}, err
	}
	if g.Gateway != nil {
		return decideGateway(p, d, g)
	}
	if err := p.checkCalls(d, g); err != nil {
		return rendered{}, err
	}
	entries, err := p.entries(g)
	if err != nil {
		return rendered{}, err
	}
	ports := config.PortsOf(entries)
	if len(entries) > 0 {
		// Without entries the host is not imported, and views says so.
		if err := checkPorts(g, ports); err != nil {
			return rendered{}, err
		}
	}
	views, err := p.views(g, ports)
	if len(views) > 0 && views[0].Base != nil {
		name := views[0].Base.Name()
		d.Effective = &name
	}
	if err != nil {
		return rendered{}, err
	}
	now := views[0].Effective
	if p.experiment.Spec.Effect.MinRequests > 0 {
		proxies := g.Proxies(ports)
		for i := range proxies {
			proxies[i] = withHTTPRoutes(proxies[i], ports)
		}
		if err := render.CheckForeignFaults(now, g, proxies); err != nil {
			return rendered{}, err
		}
	}
	if err := p.checkNames(g, views, ports); err != nil {
		return rendered{}, err
	}
	if err := p.checkAffinity(g, now.Base, ports); err != nil {
		return rendered{}, err
	}
	if err := p.checkSharing(g, views, ports); err != nil {
		return rendered{}, err
	}
	place, err := p.choose(g, now.Base, views)
	if err != nil {
		return rendered{}, err
	}
	if err := p.checkBystanders(g, now.Base, place); err != nil {
		return rendered{}, err
	}
	d.explain(now, place)
	return p.render(d, g, views, place, ports)
}

// explain fills in why the placement takes effect.
func (d *Decision) explain(now routing.Effective, p render.Place) {
	d.Namespace, d.ExportTo = p.Namespace, []string{p.ExportTo}
	if now.Base == nil {
		d.Placement = Plain
		d.Reason = fmt.Sprintf("no VirtualService is effective for %s in %s", d.Host, d.Callers)
		if len(now.Skipped) > 0 {
			d.Reason = fmt.Sprintf("VirtualService %s has no route for these callers, so istiod's default route is effective", now.Skipped[0].Name())
		}
		if p.Namespace != d.Callers {
			d.Reason += "; the new one is in " + p.Namespace
		}
		return
	}
	d.Placement = Shadow
	d.Bases = []Version{{Ref: objects.RefTo(now.Base.Unstructured), Generation: now.Base.GetGeneration()}}
	for _, child := range now.Delegates {
		d.Bases = append(d.Bases, Version{Ref: objects.RefTo(child), Generation: child.GetGeneration()})
	}
	kind := now.Base.Visibility.String()
	if now.Base.IsWildcard() {
		kind = "for " + now.Base.Pattern
	}
	d.Reason = fmt.Sprintf("shadow in %s, outranks %s (%s)", p.Namespace, now.Base.Name(), kind)
	for _, skipped := range now.Skipped {
		d.Reason += fmt.Sprintf("; %s has no route for these callers", skipped.Name())
	}
}

// explainConnections adds the VirtualServices whose TCP and TLS routes the object has
// narrowed copies of.
func (d *Decision) explainConnections(bases []*unstructured.Unstructured) {
	var names []string
	for _, base := range bases {
		names = append(names, base.GetNamespace()+"/"+base.GetName())
		version := Version{Ref: objects.RefTo(base), Generation: base.GetGeneration()}
		if !slices.Contains(d.Bases, version) {
			d.Bases = append(d.Bases, version)
		}
	}
	where := "in " + d.Namespace
	switch {
	case len(names) > 0 && d.Connections:
		d.Effective = &names[0]
		d.Reason = fmt.Sprintf("the new one %s precedes the tcp and tls routes of VirtualService %s", where, strings.Join(names, ", "))
	case len(names) > 0:
		d.Reason += "; for connections it precedes the tcp and tls routes of VirtualService " + strings.Join(names, ", ")
	case d.Connections:
		d.Reason = fmt.Sprintf("no VirtualService has tcp or tls routes for connections from %s to %s", d.Callers, d.Host)
		if d.Namespace != d.Callers {
			d.Reason += "; the new one is " + where
		}
	}
}

// render renders the objects of a group, and their later states if its faults have
// different times.
func (p *planner) render(d *Decision, g *render.Group, views []view, at render.Place, ports []config.Port) (rendered, error) {
	in := render.Input{
		Mesh: p.mesh, Group: g, Now: views[0].Effective, Place: at, Ports: ports,
		Experiment: p.experiment.Metadata.Name, BlackholeAddress: p.options.BlackholeAddress,
	}
	for _, v := range views {
		in.Listeners = append(in.Listeners, v.listener)
	}
	times := append([]time.Duration{0}, g.Resolved().Steps(p.experiment.Spec.Duration.Duration)...)
	out, err := render.Render(in, times)
	if err != nil {
		return rendered{}, err
	}
	d.Before, d.During, d.Signature = out.Before, out.During, out.Signature
	d.Undiverted, d.Diverted = out.Undiverted, out.Diverted
	d.Connections = !slices.ContainsFunc(ports, func(port config.Port) bool {
		return port.HasHTTPRoutes() && slices.ContainsFunc(g.Injections, func(i render.Injection) bool { return i.Target.Port == 0 || int64(i.Target.Port) == port.Number })
	})
	d.explainConnections(out.Connections)
	d.Waits, d.Closes = impact.Of(p.mesh, slices.Concat(out.Helpers, out.States), ports)
	made := rendered{objects: append(out.Helpers, out.States[0])}
	for i, state := range out.States[1:] {
		made.steps = append(made.steps, Step{After: experiments.Duration{Duration: times[i+1]}, Object: state})
	}
	return made, nil
}
