package render

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/fields"
	"github.com/squall-chaos/squall/istio/routing"
	"github.com/squall-chaos/squall/mesh/match"
	"github.com/squall-chaos/squall/mesh/objects"
)

// Group is everything that an experiment does to the calls from one namespace to
// one host. One VirtualService carries it, or, through a gateway, one for each host by
// which clients reach the gateway.
type Group struct {
	Host string
	// Known reports whether the registry has an entry for the host.
	Known   bool
	Callers string
	// Gateway are the labels of the gateway's pods through which the calls go; nil for
	// the calls of sidecars.
	Gateway    map[string]string
	Injections []Injection
}

// name returns the name of the group's objects.
func (g *Group) name() string {
	if g.Gateway == nil {
		return objects.Name(g.Host, g.Callers)
	}
	return objects.Name(g.Host, g.Callers+" "+labels.FormatLabels(g.Gateway))
}

// Injection is one fault on the calls of a group.
type Injection struct {
	experiments.Injection
	// Conditions are the requests that it disturbs; none means every request.
	Conditions []match.Condition
}

// guard returns the conditions that istiod evaluates, for all injections together:
// the proxies and ports that the experiment is for. None means all of them.
func (g *Group) guard() []match.Condition {
	var guard []match.Condition
	for _, one := range g.Injections {
		for _, c := range one.Conditions {
			only := match.Condition{}
			for _, field := range []string{"sourceLabels", "port"} {
				if c[field] != nil {
					only[field] = c[field]
				}
			}
			if len(only) == 0 {
				return nil
			}
			guard = append(guard, only)
		}
		if len(one.Conditions) == 0 {
			return nil
		}
	}
	return match.Simplify(guard)
}

// Proxies returns the proxies that the group's faults are for, given the ports of
// the host.
func (g *Group) Proxies(ports []config.Port) []routing.Proxies {
	var numbers []int64
	for _, port := range ports {
		numbers = append(numbers, port.Number)
	}
	guard := g.guard()
	if len(guard) == 0 {
		return []routing.Proxies{{Namespace: g.Callers, Labels: g.Gateway, Ports: numbers}}
	}
	var found []routing.Proxies
	for _, c := range guard {
		p := routing.Proxies{Namespace: g.Callers, Labels: map[string]string{}, Ports: numbers}
		for key, value := range fields.Map(c, "sourceLabels") {
			p.Labels[key], _ = value.(string)
		}
		if port, set := fields.Int(c["port"]); set {
			p.Ports = []int64{port}
		}
		found = append(found, p)
	}
	return found
}

// Resolved returns the group's injections without their conditions.
func (g *Group) Resolved() experiments.Injections {
	all := make(experiments.Injections, len(g.Injections))
	for i, one := range g.Injections {
		all[i] = one.Injection
	}
	return all
}

// Active returns the injections that are active at a time.
func (g *Group) Active(at time.Duration) []Injection {
	return slices.DeleteFunc(slices.Clone(g.Injections), func(i Injection) bool { return !i.ActiveAt(at) })
}
