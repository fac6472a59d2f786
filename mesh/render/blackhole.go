package render

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"math"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/fields"
	"github.com/squall-chaos/squall/istio/telemetry"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/mesh/refusal"
)

// blackholes are temporary ServiceEntries without a working endpoint, and the splits
// of routes between them and the real destinations.
//
// They act in the router, so the mesh's own retries and timeouts apply. Connect
// timeouts, pool limits and outlier detection are settings of a destination: the
// temporary ones get the settings of the real ones.
type blackholes struct {
	mesh    config.Snapshot
	group   *Group
	place   Place
	address string // of dropped connections
	// known are the target's ports, and ports the numbers of those to which requests
	// may be forwarded.
	known    []config.Port
	ports    map[int64]bool
	policies *policies
	// portOf returns the port of a destination that names none. It is nil where the
	// requests keep their port, as from sidecars.
	portOf func(destination map[string]any) int64
}

func newBlackholes(s config.Snapshot, g *Group, at Place, ports []config.Port, address string) *blackholes {
	b := &blackholes{mesh: s, group: g, place: at, address: cmp.Or(address, DefaultBlackholeAddress), known: ports, ports: map[int64]bool{}, policies: newPolicies(s, g, at, ports)}
	for _, port := range ports {
		b.ports[port.Number] = true
	}
	return b
}

// portsOf returns the ports of the target that an injection is for.
func (b *blackholes) portsOf(s Injection) []config.Port {
	return slices.DeleteFunc(slices.Clone(b.known), func(p config.Port) bool { return s.Target.Port != 0 && p.Number != int64(s.Target.Port) })
}

// onHTTP reports whether an injection is for requests.
func (b *blackholes) onHTTP(s Injection) bool {
	if b.group.Gateway != nil {
		return true
	}
	return slices.ContainsFunc(b.portsOf(s), config.Port.HasHTTPRoutes)
}

// modes returns the modes of the group's blackholes.
func (b *blackholes) modes() []experiments.BlackholeMode {
	var modes []experiments.BlackholeMode
	for _, s := range b.group.Injections {
		if s.Fault.Blackhole != nil && !slices.Contains(modes, s.Fault.Blackhole.Mode) {
			modes = append(modes, s.Fault.Blackhole.Mode)
		}
	}
	return modes
}

// name returns the name of the ServiceEntry of a mode.
func (b *blackholes) name(mode experiments.BlackholeMode) string {
	return b.group.name() + "-" + string(mode)
}

// hostFor returns the host of the ServiceEntry of a mode.
func (b *blackholes) hostFor(mode experiments.BlackholeMode) string {
	return telemetry.Diverted(b.group.Host, b.name(mode))
}

// maxHost is the longest name in DNS (RFC 1035).
const maxHost = 253

// check refuses a target whose name is so long that no name can contain it.
func (b *blackholes) check() error {
	for _, host := range b.hosts() {
		if len(host) > maxHost {
			return refusal.New(refusal.Inexpressible, "use an abort",
				"a blackhole diverts calls to a host whose name contains the target's, and %s would be longer than %d characters", host, maxHost)
		}
	}
	return nil
}

// hosts returns the hosts of all the ServiceEntries.
func (b *blackholes) hosts() []string {
	var hosts []string
	for _, mode := range b.modes() {
		hosts = append(hosts, b.hostFor(mode))
	}
	return hosts
}

// DefaultBlackholeAddress is in a network reserved for documentation, so nothing
// answers there (RFC 5737).
const DefaultBlackholeAddress = "192.0.2.1"

// noEndpoint is a label that no pod has, so a selector of it selects no endpoint.
const noEndpoint = "squall.dev/no-endpoint"

// objects returns the ServiceEntries and their DestinationRules. The entries have TCP ports at their own addresses, so
// that no proxy gets an HTTP route or a virtual host for them; they are
// destinations only.
func (b *blackholes) objects() []*unstructured.Unstructured {
	var made []*unstructured.Unstructured
	numbers := slices.Sorted(maps.Keys(b.ports))
	for _, mode := range b.modes() {
		object := &unstructured.Unstructured{Object: map[string]any{}}
		object.SetAPIVersion(b.mesh.APIVersion)
		object.SetKind(objects.KindServiceEntry)
		object.SetNamespace(b.place.Namespace)
		object.SetName(b.name(mode))
		object.SetAnnotations(map[string]string{objects.HostAnnotation: b.group.Host, objects.CallersAnnotation: b.group.Callers})
		var ports []any
		for _, number := range numbers {
			ports = append(ports, map[string]any{"number": number, "name": fmt.Sprintf("tcp-%d", number), "protocol": "TCP"})
		}
		spec := map[string]any{
			"hosts":      []any{b.hostFor(mode)},
			"exportTo":   []any{b.place.ExportTo},
			"addresses":  []any{virtualAddress(b.hostFor(mode))},
			"location":   "MESH_EXTERNAL",
			"resolution": "STATIC",
			"ports":      ports,
		}
		if mode == experiments.Drop {
			spec["endpoints"] = []any{map[string]any{"address": b.address}}
		} else {
			spec["workloadSelector"] = map[string]any{"labels": map[string]any{noEndpoint: b.name(mode)}}
		}
		object.Object["spec"] = spec
		made = append(made, object)
		if rule := b.policies.rule(b.name(mode), b.hostFor(mode), numbers); rule != nil {
			made = append(made, rule)
		}
	}
	return made
}

// virtualAddress returns an address in the reserved class E (RFC 1112), which
// has no hosts, outside the block that istiod allocates from.
func virtualAddress(host string) string {
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(host)) // never fails
	hash := sum.Sum32()
	return fmt.Sprintf("240.251.%d.%d", hash>>8&0xff, hash&0xff)
}

// million is the denominator of a share; Istio has no finer one.
const million = 1_000_000

// divert diverts a share of a route's requests or connections, for each injection
// that is a blackhole.
func (b *blackholes) divert(route map[string]any, injections []Injection, isTarget func(Injection, map[string]any) bool) error {
	for _, s := range injections {
		if s.Fault.Blackhole == nil {
			continue
		}
		split, err := b.split(fields.Maps(route, "route"), s, isTarget)
		if err != nil {
			return err
		}
		route["route"] = split
	}
	return nil
}

// split returns the destinations of a route with a share of the injection's targets
// replaced. Weights are whole numbers, so all of them are scaled.
func (b *blackholes) split(destinations []map[string]any, s Injection, isTarget func(Injection, map[string]any) bool) ([]any, error) {
	share := int64(math.Round(s.Percentage * million / 100))
	var out []map[string]any
	var weights []int64
	add := func(weighted map[string]any, weight int64) {
		if i := slices.IndexFunc(out, func(have map[string]any) bool { return b.isOurs(have) && sameDestination(have, weighted) }); i >= 0 {
			weights[i] += weight
			return
		}
		out, weights = append(out, weighted), append(weights, weight)
	}
	for _, weighted := range destinations {
		weight, _ := fields.Int(weighted["weight"])
		if weight == 0 && len(destinations) > 1 {
			continue // istiod skips it
		}
		weight = max(weight, 1)
		if b.isOurs(weighted) || !isTarget(s, weighted) {
			add(weighted, weight*million)
			continue
		}
		if share < million {
			add(weighted, weight*(million-share))
		}
		add(b.nowhere(weighted, s.Fault.Blackhole.Mode), weight*share)
	}
	return reweigh(out, weights)
}

// nowhere returns the destination that replaces another one.
func (b *blackholes) nowhere(weighted map[string]any, mode experiments.BlackholeMode) map[string]any {
	destination := map[string]any{"host": b.hostFor(mode)}
	if subset := b.policies.subsetFor(fields.Map(weighted, "destination")); subset != "" {
		destination["subset"] = subset
	}
	if port := fields.Map(fields.Map(weighted, "destination"), "port"); port != nil {
		destination["port"] = runtime.DeepCopyJSON(port)
		if number, ok := fields.Int(port["number"]); ok {
			b.ports[number] = true
		}
	} else if b.portOf != nil {
		number := b.portOf(fields.Map(weighted, "destination"))
		destination["port"], b.ports[number] = map[string]any{"number": number}, true
	}
	return map[string]any{"destination": destination}
}

// isOurs reports whether a destination is already replaced.
func (b *blackholes) isOurs(weighted map[string]any) bool {
	host, _ := fields.Map(weighted, "destination")["host"].(string)
	return slices.Contains(b.hosts(), host)
}

func sameDestination(a, b map[string]any) bool {
	one, other := fields.Map(a, "destination"), fields.Map(b, "destination")
	port, _ := fields.Int(fields.Map(one, "port")["number"])
	otherPort, _ := fields.Int(fields.Map(other, "port")["number"])
	return one["host"] == other["host"] && one["subset"] == other["subset"] && port == otherPort
}

// reweigh returns destinations with weights in their lowest terms. A single
// destination has no weight.
func reweigh(destinations []map[string]any, weights []int64) ([]any, error) {
	divisor, sum := int64(0), int64(0)
	for _, w := range weights {
		divisor = greatestCommonDivisor(divisor, w)
	}
	out := make([]any, len(destinations))
	for i, destination := range destinations {
		copied := runtime.DeepCopyJSON(destination)
		delete(copied, "weight")
		if len(destinations) > 1 {
			copied["weight"] = weights[i] / divisor
			sum += weights[i] / divisor
		}
		out[i] = copied
	}
	if sum > math.MaxInt32 {
		return nil, refusal.New(refusal.UnroundWeights, "choose a rounder percentage", "the weights of the destinations and the percentage have no common denominator that Istio can hold")
	}
	return out, nil
}

func greatestCommonDivisor(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
