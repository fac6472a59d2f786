package render

import (
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/fields"
	"github.com/squall-chaos/squall/istio/host"
	"github.com/squall-chaos/squall/istio/routing"
	"github.com/squall-chaos/squall/mesh/objects"
)

// policies are the settings of the DestinationRules for the destinations that a
// blackhole replaces. The temporary hosts get them too, so that a blackhole is what
// an outage of these destinations is to the mesh.
type policies struct {
	mesh  config.Snapshot
	group *Group
	place Place
	ports []config.Port
	// of has the settings by host.
	of map[string]routing.Policies
	// subsets are the subsets of the temporary hosts, by name.
	subsets map[string]policyKey
}

// policyKey is a destination with separate settings.
type policyKey struct{ host, subset string }

func newPolicies(s config.Snapshot, g *Group, at Place, ports []config.Port) *policies {
	return &policies{mesh: s, group: g, place: at, ports: ports, of: map[string]routing.Policies{}, subsets: map[string]policyKey{}}
}

// find returns the settings for a host.
func (p *policies) find(name string) routing.Policies {
	if found, known := p.of[name]; known {
		return found
	}
	proxies := p.group.Proxies(p.ports)
	found := routing.PoliciesFor(p.mesh, name, proxies[0])
	for _, other := range proxies[1:] {
		if rules := routing.PoliciesFor(p.mesh, name, other); !slices.Equal(rules.Rules, found.Rules) {
			found.Others = append(found.Others, rules.Rules...)
		}
	}
	p.of[name] = found
	return found
}

// subsetFor returns the subset of a temporary host that has the settings of a
// destination; empty if the host as a whole has them.
func (p *policies) subsetFor(destination map[string]any) string {
	key := policyKey{host: host.Qualify(fields.String(destination, "host"), p.place.Namespace, p.mesh.ClusterDomain), subset: fields.String(destination, "subset")}
	found := p.find(key.host)
	name := key.subset
	switch own := strings.EqualFold(key.host, p.group.Host); {
	case own && kept(found.Subset(key.subset)) == nil:
		return ""
	case !own && len(found.Rules) == 0 && kept(p.find(p.group.Host).TrafficPolicy()) == nil:
		return ""
	case !own:
		sum := fnv.New32a()
		_, _ = sum.Write([]byte(key.host + "/" + key.subset)) // never fails
		name = fmt.Sprintf("to-%08x", sum.Sum32())
	}
	p.subsets[name] = key
	return name
}

// rule returns the DestinationRule for a temporary host, or nil if it needs none.
// numbers are the ports of the host.
func (p *policies) rule(name, of string, numbers []int64) *unstructured.Unstructured {
	spec := map[string]any{"host": of, "exportTo": []any{p.place.ExportTo}}
	if whole := kept(p.find(p.group.Host).TrafficPolicy()); whole != nil {
		spec["trafficPolicy"] = whole
	}
	var subsets []any
	for _, subset := range slices.Sorted(maps.Keys(p.subsets)) {
		key := p.subsets[subset]
		policy := kept(p.find(key.host).Subset(key.subset))
		if !strings.EqualFold(key.host, p.group.Host) {
			policy = p.byPort(key, numbers)
		}
		subsets = append(subsets, map[string]any{"name": subset, "trafficPolicy": policy})
	}
	if len(subsets) > 0 {
		spec["subsets"] = subsets
	}
	if spec["trafficPolicy"] == nil && spec["subsets"] == nil {
		return nil
	}
	object := &unstructured.Unstructured{Object: map[string]any{}}
	object.SetAPIVersion(p.mesh.APIVersion)
	object.SetKind(objects.KindDestinationRule)
	object.SetNamespace(p.place.Namespace)
	object.SetName(name)
	object.SetAnnotations(map[string]string{objects.HostAnnotation: p.group.Host, objects.CallersAnnotation: p.group.Callers})
	object.Object["spec"] = spec
	return object
}

// byPort returns the settings of a destination for each port. Settings for a port
// inherit nothing, so the settings of the target do not apply to another host.
func (p *policies) byPort(key policyKey, numbers []int64) map[string]any {
	var settings []any
	for _, number := range numbers {
		one := map[string]any{"port": map[string]any{"number": number}}
		maps.Copy(one, keptFields(p.find(key.host).Effective(key.subset, number)))
		delete(one, "retryBudget") // there is none for a port
		settings = append(settings, withField(one))
	}
	return map[string]any{"portLevelSettings": settings}
}

// keptFields returns a copy of the settings that make sense for a host without
// endpoints. Certificates and load balancing do not.
func keptFields(policy map[string]any) map[string]any {
	found := map[string]any{}
	for _, field := range []string{"connectionPool", "outlierDetection", "retryBudget"} {
		if policy[field] != nil {
			found[field] = runtime.DeepCopyJSONValue(policy[field])
		}
	}
	return found
}

// kept returns a copy of a trafficPolicy with the settings that make sense for a host
// without endpoints; nil if there are none. Settings for a port stay, also when none
// of their fields does, because they replace the others.
func kept(policy map[string]any) map[string]any {
	found := keptFields(policy)
	var byPort []any
	for _, settings := range fields.Maps(policy, "portLevelSettings") {
		one := keptFields(settings)
		delete(one, "retryBudget") // there is none for a port
		one["port"] = runtime.DeepCopyJSONValue(settings["port"])
		byPort = append(byPort, withField(one))
	}
	if len(byPort) > 0 {
		found["portLevelSettings"] = byPort
	}
	if len(found) == 0 {
		return nil
	}
	return found
}

// withField returns settings for a port with a field beside the port, which Istio
// requires (istio.io/istio/pkg/config/validation, validatePortTrafficPolicies). The
// temporary hosts speak plain text in any case.
func withField(settings map[string]any) map[string]any {
	if len(settings) == 1 {
		settings["tls"] = map[string]any{"mode": "DISABLE"}
	}
	return settings
}
