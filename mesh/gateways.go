package mesh

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/fields"
	"github.com/squall-chaos/squall/istio/router"
	"github.com/squall-chaos/squall/mesh/gateway"
	"github.com/squall-chaos/squall/mesh/impact"
	"github.com/squall-chaos/squall/mesh/match"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/mesh/refusal"
	"github.com/squall-chaos/squall/mesh/render"
)

// addGateways adds an injection to the groups of calls through its gateways. The port of
// the target is the port of a route's destination, and not the port of the gateway.
func addGateways(groups []*render.Group, one experiments.Injection, name string, known bool) ([]*render.Group, error) {
	for _, caller := range one.Callers {
		if caller.Gateway == nil {
			continue
		}
		of := *caller.Gateway
		conditions, err := match.Conditions([]experiments.Caller{{Namespace: of.Namespace}}, one.Match, 0, of.Namespace)
		if err != nil {
			return groups, err
		}
		i := slices.IndexFunc(groups, func(g *render.Group) bool {
			return g.Host == name && g.Callers == of.Namespace && g.Gateway != nil && maps.Equal(g.Gateway, of.Labels)
		})
		if i < 0 {
			i, groups = len(groups), append(groups, &render.Group{Host: name, Known: known, Callers: of.Namespace, Gateway: of.Labels})
		}
		groups[i].Injections = append(groups[i].Injections, render.Injection{Injection: one.ForGateway(of), Conditions: conditions})
	}
	return groups, nil
}

// decideGateway decides where the faults on calls through a gateway are placed, and
// renders the objects that carry them.
func decideGateway(p *planner, d *Decision, g *render.Group) (rendered, error) {
	if !g.Known {
		return rendered{}, unknownHost(p, g)
	}
	times := append([]time.Duration{0}, g.Resolved().Steps(p.experiment.Spec.Duration.Duration)...)
	plan, err := gateway.Decide(gateway.Input{
		Mesh: p.mesh, Runs: p.runs, Group: g, Experiment: p.experiment, Times: times, Undecided: undecided,
		HomeNamespace: p.options.HomeNamespace, Denied: p.options.Denied, BlackholeAddress: p.options.BlackholeAddress,
	})
	if live, is := errors.AsType[*gateway.LiveRunError](err); is {
		run := live.Object.GetLabels()[objects.RunLabel]
		d.Blocker = objects.Key{Run: run, Namespace: live.Object.GetNamespace()}
		return rendered{}, refusal.New(refusal.LiveRun, objects.LiveRunHint(run), "run %s already disturbs the requests for %s through Gateway %s, with %s", run, live.Host, live.Gateway, objects.RefTo(live.Object))
	}
	if err != nil {
		return rendered{}, err
	}
	effective := plan.Bases[0].GetNamespace() + "/" + plan.Bases[0].GetName()
	d.Placement, d.Namespace, d.ExportTo = AtAGateway, plan.Place.Namespace, []string{plan.Place.ExportTo}
	d.Effective, d.Reason = &effective, plan.Reason
	d.Gateway.Hosts, d.Gateway.Requests, d.Gateway.Alone = plan.Hosts(), plan.Requests(), plan.Alone
	d.Before, d.During, d.Signature = plan.Before, plan.During, plan.Signature
	for _, base := range plan.Bases {
		d.Bases = append(d.Bases, Version{Ref: objects.RefTo(base), Generation: base.GetGeneration()})
	}
	made := rendered{objects: slices.Clone(plan.Helpers)}
	all := slices.Clone(plan.Helpers)
	for _, edge := range plan.Edges {
		made.objects = append(made.objects, edge.States[0])
		for i, state := range edge.States[1:] {
			made.steps = append(made.steps, Step{After: experiments.Duration{Duration: times[i+1]}, Object: state})
		}
		all = append(all, edge.States...)
	}
	d.Waits, _ = impact.Of(p.mesh, all, config.PortsOf(p.mesh.Entries(g.Host)))
	return made, nil
}

// AsGateways returns callers of a host with those namespaces replaced whose pods belong to
// a gateway, as far as the Services tell: a gateway reports its calls as any workload
// does. Of a namespace with both, the other workloads stay callers too, and the gateways
// are the ones with a route to the host.
func AsGateways(s config.Snapshot, name string, callers []experiments.Caller) []experiments.Caller {
	var all []experiments.Caller
	for _, caller := range callers {
		found, pods := s.GatewayOf(caller.Namespace, caller.Labels)
		if caller.Gateway != nil || pods != config.OnlyGateway {
			all = append(all, caller)
		}
		if caller.Gateway != nil || pods == config.NoGateway {
			continue
		}
		gateways := gatewaysTo(s, name, caller.Namespace)
		if len(gateways) == 0 && pods == config.OnlyGateway {
			// A refusal explains that it has no route to the host.
			gateways = []experiments.Gateway{{Namespace: caller.Namespace, Labels: router.Selector(found)}}
		}
		for _, gateway := range gateways {
			all = append(all, experiments.Caller{Gateway: &gateway})
		}
	}
	return all
}

// gatewaysTo returns the gateways with pods in a namespace that have a route to a host.
func gatewaysTo(s config.Snapshot, name, namespace string) []experiments.Gateway {
	var found []experiments.Gateway
	for _, object := range s.Gateways {
		gateway := experiments.Gateway{Namespace: namespace, Labels: router.Selector(object)}
		workload := router.Workload{Namespace: namespace, Labels: gateway.Labels}
		if len(gateway.Labels) == 0 || !workload.Exists(s) || slices.ContainsFunc(found, gateway.Equal) {
			continue
		}
		hosts := router.VirtualHosts(s, workload, router.Servers(router.Select(s, workload).Gateways))
		if slices.ContainsFunc(hosts, func(v router.VirtualHost) bool {
			return slices.ContainsFunc(v.Routes, func(r router.Route) bool { return slices.Contains(destinationsOf(r.HTTP), name) })
		}) {
			found = append(found, gateway)
		}
	}
	return found
}

// destinationsOf returns the hosts that an HTTP route with fully qualified hosts leads to.
func destinationsOf(route map[string]any) []string {
	var hosts []string
	for _, weighted := range fields.Maps(route, "route") {
		hosts = append(hosts, fields.String(fields.Map(weighted, "destination"), "host"))
	}
	return hosts
}
