package mesh

import (
	"slices"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/fields"
	"github.com/squall-chaos/squall/istio/routing"
	"github.com/squall-chaos/squall/mesh/match"
)

// group is everything that an experiment does to the calls from one namespace to
// one host. One VirtualService carries it.
type group struct {
	host       string
	known      bool // the registry has an entry for the host
	callers    string
	injections []injection
}

// injection is one fault on the calls of a group.
type injection struct {
	experiments.Injection
	// conditions are the requests that it disturbs; none means every request.
	conditions []match.Condition
}

// groupsOf groups the faults of an experiment by the calls that they disturb, in
// the order of the file. After an error the groups are incomplete.
func groupsOf(s config.Snapshot, spec experiments.Spec) ([]*group, error) {
	var groups []*group
	for _, one := range spec.Injections() {
		name, known := s.Resolve(one.Host())
		namespaces := callerNamespaces(one.Callers)
		if len(namespaces) == 0 {
			namespaces = []string{""}
		}
		for _, namespace := range namespaces {
			i := slices.IndexFunc(groups, func(g *group) bool { return g.host == name && g.callers == namespace })
			if i < 0 {
				i, groups = len(groups), append(groups, &group{host: name, known: known, callers: namespace})
			}
			conditions, err := match.Conditions(one.Callers, one.Match, one.Target.Port, namespace)
			if err != nil {
				return groups, err
			}
			narrowed, _ := one.For(namespace)
			groups[i].injections = append(groups[i].injections, injection{Injection: narrowed, conditions: conditions})
		}
	}
	return groups, nil
}

func callerNamespaces(callers []experiments.Caller) []string {
	var namespaces []string
	for _, c := range callers {
		if !slices.Contains(namespaces, c.Namespace) {
			namespaces = append(namespaces, c.Namespace)
		}
	}
	return namespaces
}

// guard returns the conditions that istiod evaluates, for all injections together:
// the proxies and ports that the experiment is for. None means all of them.
func (g *group) guard() []match.Condition {
	var guard []match.Condition
	for _, one := range g.injections {
		for _, c := range one.conditions {
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
		if len(one.conditions) == 0 {
			return nil
		}
	}
	return match.Simplify(guard)
}

// proxies returns the proxies that the group's faults are for. The ports are those
// of the host.
func (g *group) proxies(ports []config.Port) []routing.Proxies {
	var numbers []int64
	for _, port := range ports {
		numbers = append(numbers, port.Number)
	}
	guard := g.guard()
	if len(guard) == 0 {
		return []routing.Proxies{{Namespace: g.callers, Ports: numbers}}
	}
	var found []routing.Proxies
	for _, c := range guard {
		p := routing.Proxies{Namespace: g.callers, Labels: map[string]string{}, Ports: numbers}
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

// resolved returns the group's injections without their conditions.
func (g *group) resolved() experiments.Injections {
	all := make(experiments.Injections, len(g.injections))
	for i, one := range g.injections {
		all[i] = one.Injection
	}
	return all
}

// active returns the injections that are active at a time.
func (g *group) active(at time.Duration) []injection {
	return slices.DeleteFunc(slices.Clone(g.injections), func(i injection) bool { return !i.ActiveAt(at) })
}
