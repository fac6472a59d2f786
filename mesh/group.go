package mesh

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/squall-chaos/squall/experiments"
)

// group is all that an experiment does to the calls from one namespace to one
// host. One object carries it.
type group struct {
	host    string
	known   bool
	callers string
	strikes []strike
}

// strike is one fault on the calls of a group.
type strike struct {
	experiments.Fault
	number int // its place in the file
	target experiments.Target
	// conditions are the requests that it disturbs; none means every one.
	conditions []condition
}

// groupsOf sorts the faults of an experiment by the calls that they disturb, in
// the order of the file.
func (s Snapshot) groupsOf(spec experiments.Spec) ([]*group, error) {
	var groups []*group
	for number, fault := range spec.Faults {
		target := spec.TargetOf(fault)
		host, known := s.resolveHost(target.Host, target.Namespace)
		namespaces := callerNamespaces(spec.CallersOf(fault))
		if len(namespaces) == 0 {
			namespaces = []string{""}
		}
		for _, namespace := range namespaces {
			i := slices.IndexFunc(groups, func(g *group) bool { return g.host == host && g.callers == namespace })
			if i < 0 {
				i, groups = len(groups), append(groups, &group{host: host, known: known, callers: namespace})
			}
			conditions, err := conditionsFor(spec.CallersOf(fault), spec.MatchOf(fault), target.Port, namespace)
			if err != nil {
				return groups, err
			}
			groups[i].strikes = append(groups[i].strikes, strike{fault, number, target, conditions})
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

// guard gives the conditions that istiod evaluates, for all strikes together:
// the proxies and ports that the experiment means. None means every one.
func (g *group) guard() []condition {
	var guard []condition
	for _, strike := range g.strikes {
		for _, c := range strike.conditions {
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
		if len(strike.conditions) == 0 {
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

// ends gives when a strike ends, from the start of the experiment.
func (s strike) ends(duration time.Duration) time.Duration {
	if own := s.Duration.Duration; own > 0 {
		return s.StartAfter.Duration + own
	}
	return duration
}

// moments gives the times at which the set of active strikes changes, without
// the start and the end of the experiment.
func (g *group) moments(duration time.Duration) []time.Duration {
	moments := map[time.Duration]bool{}
	for _, strike := range g.strikes {
		moments[strike.StartAfter.Duration] = true
		moments[strike.ends(duration)] = true
	}
	maps.DeleteFunc(moments, func(at time.Duration, _ bool) bool { return at <= 0 || at >= duration })
	return slices.SortedFunc(maps.Keys(moments), cmp.Compare[time.Duration])
}

// active gives the strikes that are in force at a time.
func (g *group) active(at, duration time.Duration) []strike {
	return slices.DeleteFunc(slices.Clone(g.strikes), func(s strike) bool {
		return at < s.StartAfter.Duration || at >= s.ends(duration)
	})
}
