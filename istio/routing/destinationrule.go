package routing

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/fields"
	"github.com/squall-chaos/squall/istio/host"
)

// Policies are the settings of DestinationRules that apply to the calls of some
// proxies to a host.
type Policies struct {
	// Rules are the DestinationRules that istiod merges, the first one first; none if
	// no DestinationRule applies.
	Rules []*unstructured.Unstructured
	// Others are DestinationRules with a workloadSelector that apply to some of the
	// proxies in place of Rules, as far as the labels of these are known.
	Others []*unstructured.Unstructured
}

// PoliciesFor returns the DestinationRules that apply to the calls of some proxies to
// a host, which has an entry in some namespaces. istiod takes them from the proxies'
// namespace, else from the namespace of the host's entry, else from the root
// namespace, and of each only those for the most specific host
// (istio.io/istio/pilot/pkg/model, PushContext.destinationRule and
// SidecarScope.DestinationRule).
func PoliciesFor(s config.Snapshot, name string, p Proxies) Policies {
	var local []*unstructured.Unstructured
	for _, rule := range inNamespace(s, p.Namespace) {
		if p.Namespace == s.RootNamespace && !isPrivate(s, rule) || !localTo(rule) {
			continue
		}
		local = append(local, rule)
	}
	if found := mostSpecific(s, local, name); len(found) > 0 {
		return selectRules(found, p)
	}
	namespaces := []string{}
	for _, entry := range s.Entries(name) {
		if s.CanSee(entry, p.Namespace) {
			namespaces = append(namespaces, entry.Namespace)
		}
	}
	for _, namespace := range append(namespaces, s.RootNamespace) {
		exported := slices.DeleteFunc(inNamespace(s, namespace), func(rule *unstructured.Unstructured) bool { return isPrivate(s, rule) })
		found := slices.DeleteFunc(mostSpecific(s, exported, name), func(rule *unstructured.Unstructured) bool {
			to := fields.Strings(rule.Object, "spec", "exportTo")
			return len(to) > 0 && !slices.Contains(to, "*") && !slices.Contains(to, p.Namespace)
		})
		if len(found) > 0 {
			return selectRules(found, Proxies{}) // a selector is for the rule's own namespace
		}
	}
	return Policies{}
}

// inNamespace returns the DestinationRules of a namespace, the oldest first.
func inNamespace(s config.Snapshot, namespace string) []*unstructured.Unstructured {
	var found []*unstructured.Unstructured
	for _, rule := range s.DestinationRules {
		if rule.GetNamespace() == namespace && s.Watches(namespace) {
			found = append(found, rule)
		}
	}
	slices.SortFunc(found, config.CompareAge)
	return found
}

// workloadSelector returns the labels of the proxies that a DestinationRule is for;
// ok is false if it is for all.
func workloadSelector(rule *unstructured.Unstructured) (selected labels.Set, ok bool) {
	selector := fields.Map(fields.Map(rule.Object, "spec"), "workloadSelector")
	if selector == nil {
		return nil, false
	}
	selected = labels.Set{}
	for key, value := range fields.Map(selector, "matchLabels") {
		selected[key], _ = value.(string)
	}
	return selected, true
}

// localTo reports whether proxies of its namespace may use a DestinationRule.
func localTo(rule *unstructured.Unstructured) bool {
	to := fields.Strings(rule.Object, "spec", "exportTo")
	_, selects := workloadSelector(rule)
	return selects || len(to) == 0 || slices.Contains(to, "*") || slices.Contains(to, ".") || slices.Contains(to, rule.GetNamespace())
}

// isPrivate reports whether only proxies of its namespace may use a
// DestinationRule.
func isPrivate(s config.Snapshot, rule *unstructured.Unstructured) bool {
	if _, selects := workloadSelector(rule); selects {
		return true
	}
	to := fields.Strings(rule.Object, "spec", "exportTo")
	if len(to) == 0 {
		return slices.Contains(s.DefaultRuleExportTo, ".")
	}
	return len(to) == 1 && (to[0] == "." || to[0] == rule.GetNamespace())
}

// mostSpecific returns the rules for the most specific host that covers a name: the
// name itself, else the longest wildcard (istio.io/istio/pilot/pkg/model,
// MostSpecificHostMatch).
func mostSpecific(s config.Snapshot, rules []*unstructured.Unstructured, name string) []*unstructured.Unstructured {
	var found []*unstructured.Unstructured
	best := ""
	for _, rule := range rules {
		of := host.Qualify(fields.String(fields.Map(rule.Object, "spec"), "host"), rule.GetNamespace(), s.ClusterDomain)
		if !config.HostWithin(name, of) {
			continue
		}
		exact, bestExact := !strings.HasPrefix(of, "*"), best != "" && !strings.HasPrefix(best, "*")
		switch better := cmp.Or(CompareBool(exact, bestExact), cmp.Compare(len(of), len(best))); {
		case of == best:
			found = append(found, rule)
		case best == "" || better > 0:
			best, found = of, []*unstructured.Unstructured{rule}
		}
	}
	return found
}

// selectRules chooses among rules for one host: those with a workloadSelector that
// the proxies certainly match, else the ones without.
func selectRules(rules []*unstructured.Unstructured, p Proxies) Policies {
	var all Policies
	for _, rule := range rules {
		selector, selects := workloadSelector(rule)
		switch {
		case !selects:
			all.Rules = append(all.Rules, rule)
		case labels.SelectorFromSet(selector).Matches(labels.Set(p.Labels)):
			return Policies{Rules: []*unstructured.Unstructured{rule}}
		case p.Namespace != "" && !labels.Conflicts(selector, p.Labels):
			all.Others = append(all.Others, rule)
		}
	}
	all.Rules = merged(all.Rules)
	return all
}

// merged returns the rules for one host that istiod merges into the one
// that it uses: it keeps rules with different exportTo apart, and uses the last
// (istio.io/istio/pilot/pkg/model, mergeDestinationRule).
func merged(rules []*unstructured.Unstructured) []*unstructured.Unstructured {
	type group struct {
		exportTo map[string]bool
		rules    []*unstructured.Unstructured
	}
	var groups []*group
	for _, rule := range rules {
		exportTo := map[string]bool{}
		for _, to := range fields.Strings(rule.Object, "spec", "exportTo") {
			exportTo[to] = true
		}
		separate := true
		for _, g := range groups {
			separate = !maps.Equal(exportTo, g.exportTo) && (len(g.exportTo) == 0 || !containsAll(exportTo, g.exportTo))
			if !separate {
				g.rules = append(g.rules, rule)
			}
		}
		if separate {
			groups = append(groups, &group{exportTo: exportTo, rules: []*unstructured.Unstructured{rule}})
		}
	}
	if len(groups) == 0 {
		return nil
	}
	return groups[len(groups)-1].rules
}

func containsAll(set, part map[string]bool) bool {
	for key := range part {
		if !set[key] {
			return false
		}
	}
	return true
}

// TrafficPolicy returns the settings for the host as a whole; nil if there are none.
func (p Policies) TrafficPolicy() map[string]any {
	for _, rule := range p.Rules {
		if policy := fields.Map(fields.Map(rule.Object, "spec"), "trafficPolicy"); policy != nil {
			return policy
		}
	}
	return nil
}

// Subset returns the settings of a subset; nil if there are none.
func (p Policies) Subset(name string) map[string]any {
	for _, rule := range p.Rules {
		for _, subset := range fields.Maps(fields.Map(rule.Object, "spec"), "subsets") {
			if name != "" && subset["name"] == name {
				return fields.Map(subset, "trafficPolicy")
			}
		}
	}
	return nil
}

// Effective returns the settings for calls to a port of a subset, or of the host as
// a whole if subset is empty. Settings for a port replace all others of the same
// policy, and fields of a subset the ones of the host
// (istio.io/istio/pilot/pkg/networking/util, MergeSubsetTrafficPolicy).
func (p Policies) Effective(subset string, port int64) map[string]any {
	whole, _ := onPort(p.TrafficPolicy(), port)
	part, isForPort := onPort(p.Subset(subset), port)
	policy := map[string]any{}
	if part == nil || !isForPort {
		maps.Copy(policy, whole)
	}
	maps.Copy(policy, part)
	delete(policy, "portLevelSettings")
	delete(policy, "port")
	return policy
}

// onPort returns the part of a trafficPolicy that applies to a port, and whether it
// is for that port only.
func onPort(policy map[string]any, port int64) (settings map[string]any, isForPort bool) {
	for _, settings := range fields.Maps(policy, "portLevelSettings") {
		if number, _ := fields.Int(fields.Map(settings, "port")["number"]); number == port {
			return settings, true
		}
	}
	return policy, false
}
