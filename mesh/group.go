package mesh

import (
	"reflect"
	"slices"
	"time"

	"github.com/squall-chaos/squall/experiments"
)

// group is all that an experiment does to the calls from one namespace to one
// host. One object carries it.
type group struct {
	host       string
	known      bool
	callers    string
	injections []injection
}

// injection is one fault on the calls of a group.
type injection struct {
	experiments.Injection
	// conditions are the requests that it disturbs; none means every one.
	conditions []condition
}

// groupsOf groups the faults of an experiment by the calls that they disturb, in
// the order of the file.
func (s Snapshot) groupsOf(spec experiments.Spec) ([]*group, error) {
	var groups []*group
	for _, one := range spec.Injections() {
		host, known := s.resolve(one.Host())
		namespaces := callerNamespaces(one.Callers)
		if len(namespaces) == 0 {
			namespaces = []string{""}
		}
		for _, namespace := range namespaces {
			i := slices.IndexFunc(groups, func(g *group) bool { return g.host == host && g.callers == namespace })
			if i < 0 {
				i, groups = len(groups), append(groups, &group{host: host, known: known, callers: namespace})
			}
			conditions, err := conditionsFor(one.Callers, one.Match, one.Target.Port, namespace)
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

// guard gives the conditions that istiod evaluates, for all injections together:
// the proxies and ports that the experiment means. None means every one.
func (g *group) guard() []condition {
	var guard []condition
	for _, one := range g.injections {
		for _, c := range one.conditions {
			only := condition{}
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
	return simplify(guard)
}

// proxies gives the callers that the group's faults are for.
func (g *group) proxies(ports []Port) []proxies {
	var numbers []int64
	for _, port := range ports {
		numbers = append(numbers, port.Number)
	}
	guard := g.guard()
	if len(guard) == 0 {
		return []proxies{{namespace: g.callers, ports: numbers}}
	}
	var found []proxies
	for _, c := range guard {
		p := proxies{namespace: g.callers, labels: map[string]string{}, ports: numbers}
		for key, value := range mapAt(c, "sourceLabels") {
			p.labels[key], _ = value.(string)
		}
		if port, set := asInt(c["port"]); set {
			p.ports = []int64{port}
		}
		found = append(found, p)
	}
	return found
}

// simplify leaves out conditions that another one implies: what takes
// everything that it takes.
func simplify(conditions []condition) []condition {
	var kept []condition
	for i, c := range conditions {
		implied := slices.ContainsFunc(conditions[:i], func(other condition) bool { return includes(c, other) })
		for _, other := range conditions[i+1:] {
			implied = implied || includes(c, other) && !includes(other, c)
		}
		if !implied {
			kept = append(kept, c)
		}
	}
	return kept
}

// includes reports whether a condition holds everything that another one asks
// for, so that it takes no request that the other does not.
func includes(c, other condition) bool {
	for field, value := range other {
		switch own := c[field]; field {
		case "sourceLabels", "headers", "withoutHeaders", "queryParams":
			wanted, _ := value.(map[string]any)
			has, _ := own.(map[string]any)
			for key, entry := range wanted {
				if !reflect.DeepEqual(has[key], entry) {
					return false
				}
			}
		default:
			if !reflect.DeepEqual(own, value) {
				return false
			}
		}
	}
	// What a uri means depends on it.
	return c["uri"] == nil || other["uri"] == nil || c["ignoreUriCase"] == other["ignoreUriCase"]
}

// resolved returns the group's injections as the experiment has them.
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
