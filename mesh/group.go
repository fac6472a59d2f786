package mesh

import (
	"slices"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/mesh/match"
	"github.com/squall-chaos/squall/mesh/render"
)

// groupsOf groups the faults of an experiment by the calls that they disturb, in
// the order of the file. After an error the groups are incomplete.
func groupsOf(s config.Snapshot, spec experiments.Spec) ([]*render.Group, error) {
	var groups []*render.Group
	for _, one := range spec.Injections() {
		name, known := s.Resolve(one.Host())
		var err error
		if groups, err = addGateways(groups, one, name, known); err != nil {
			return groups, err
		}
		namespaces := callerNamespaces(one.Callers)
		if len(one.Callers) == 0 {
			namespaces = []string{""}
		}
		for _, namespace := range namespaces {
			i := slices.IndexFunc(groups, func(g *render.Group) bool { return g.Host == name && g.Callers == namespace && g.Gateway == nil })
			if i < 0 {
				i, groups = len(groups), append(groups, &render.Group{Host: name, Known: known, Callers: namespace})
			}
			conditions, err := match.Conditions(one.Callers, one.Match, one.Target.Port, namespace)
			if err != nil {
				return groups, err
			}
			narrowed, _ := one.For(namespace)
			groups[i].Injections = append(groups[i].Injections, render.Injection{Injection: narrowed, Conditions: conditions})
		}
	}
	return groups, nil
}

// callerNamespaces returns the namespaces of callers with sidecars.
func callerNamespaces(callers []experiments.Caller) []string {
	var namespaces []string
	for _, c := range callers {
		if c.Gateway == nil && !slices.Contains(namespaces, c.Namespace) {
			namespaces = append(namespaces, c.Namespace)
		}
	}
	return namespaces
}
