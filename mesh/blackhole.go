package mesh

import (
	"fmt"
	"hash/fnv"
	"math"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/squall-chaos/squall/experiments"
)

// blackholes are the destinations that lead nowhere, as temporary
// ServiceEntries, and the splits of routes to them.
//
// They act in the router, so the mesh's own retries, timeouts and outlier
// detection apply.
type blackholes struct {
	Snapshot
	*group
	place   placement
	address string
	// ports are the ports that requests to the target may be forwarded to.
	ports map[int64]bool
	known []Port
}

func newBlackholes(s Snapshot, g *group, p placement, ports []Port, o Options) *blackholes {
	b := &blackholes{Snapshot: s, group: g, place: p, address: o.BlackholeAddress, ports: map[int64]bool{}, known: ports}
	if b.address == "" {
		b.address = DefaultBlackholeAddress
	}
	for _, port := range ports {
		b.ports[port.Number] = true
	}
	return b
}

// portsOf gives the ports of the target that an injection is for.
func (b *blackholes) portsOf(s injection) []Port {
	return slices.DeleteFunc(slices.Clone(b.known), func(p Port) bool { return s.Target.Port != 0 && p.Number != int64(s.Target.Port) })
}

// onHTTP reports whether an injection is for requests.
func (b *blackholes) onHTTP(s injection) bool {
	return slices.ContainsFunc(b.portsOf(s), Port.hasHTTPRoutes)
}

// modes gives the modes that the group's faults need.
func (b *blackholes) modes() []experiments.BlackholeMode {
	var modes []experiments.BlackholeMode
	for _, s := range b.injections {
		if s.Fault.Blackhole != nil && !slices.Contains(modes, s.Fault.Blackhole.Mode) {
			modes = append(modes, s.Fault.Blackhole.Mode)
		}
	}
	return modes
}

// name gives the name of the ServiceEntry of a mode.
func (b *blackholes) name(mode experiments.BlackholeMode) string {
	return ObjectName(b.host, b.callers) + "-" + string(mode)
}

// hostFor gives the host that leads nowhere. The name is reserved for private
// use, so no resolver knows it (RFC 8375 and ICANN, .internal).
func (b *blackholes) hostFor(mode experiments.BlackholeMode) string {
	return b.name(mode) + ".squall.internal"
}

// hosts gives all hosts that lead nowhere.
func (b *blackholes) hosts() []string {
	var hosts []string
	for _, mode := range b.modes() {
		hosts = append(hosts, b.hostFor(mode))
	}
	return hosts
}

// noEndpoint is a label that no pod carries, so that what selects it has no
// endpoint.
const noEndpoint = "squall.dev/no-endpoint"

// objects gives the ServiceEntries. Their ports speak TCP at an address of
// their own, so that no proxy gets a route or a virtual host for them; they
// exist only as destinations.
func (b *blackholes) objects() []*unstructured.Unstructured {
	var objects []*unstructured.Unstructured
	for _, mode := range b.modes() {
		object := &unstructured.Unstructured{Object: map[string]any{}}
		object.SetAPIVersion(b.APIVersion)
		object.SetKind("ServiceEntry")
		object.SetNamespace(b.place.namespace)
		object.SetName(b.name(mode))
		object.SetAnnotations(map[string]string{HostAnnotation: b.host, CallersAnnotation: b.callers})
		var numbers []int64
		for number := range b.ports {
			numbers = append(numbers, number)
		}
		slices.Sort(numbers)
		var ports []any
		for _, number := range numbers {
			ports = append(ports, map[string]any{"number": number, "name": fmt.Sprintf("tcp-%d", number), "protocol": "TCP"})
		}
		spec := map[string]any{
			"hosts":      []any{b.hostFor(mode)},
			"exportTo":   []any{b.place.exportTo},
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
		objects = append(objects, object)
	}
	return objects
}

// virtualAddress gives an address that nobody calls, of the class that is
// reserved (RFC 1112), and outside of the block that istiod allocates from.
func virtualAddress(host string) string {
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(host)) // never fails
	hash := sum.Sum32()
	return fmt.Sprintf("240.251.%d.%d", hash>>8&0xff, hash&0xff)
}

// million is the whole of a share; Istio keeps no smaller one.
const million = 1_000_000

// divert sends a share of a route's requests or connections nowhere, for each
// injection that is a blackhole.
func (b *blackholes) divert(route map[string]any, injections []injection, isTarget func(injection, map[string]any) bool) error {
	for _, s := range injections {
		if s.Fault.Blackhole == nil {
			continue
		}
		split, err := b.split(mapsAt(route, "route"), s, isTarget)
		if err != nil {
			return err
		}
		route["route"] = split
	}
	return nil
}

// split gives the destinations of a route with a share of those that the injection
// means replaced. Weights are whole numbers, so all are scaled.
func (b *blackholes) split(destinations []map[string]any, s injection, isTarget func(injection, map[string]any) bool) ([]any, error) {
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
		weight, _ := asInt(weighted["weight"])
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

// nowhere gives the destination that takes the place of another.
func (b *blackholes) nowhere(weighted map[string]any, mode experiments.BlackholeMode) map[string]any {
	destination := map[string]any{"host": b.hostFor(mode)}
	if port := mapAt(mapAt(weighted, "destination"), "port"); port != nil {
		destination["port"] = runtime.DeepCopyJSON(port)
		if number, ok := asInt(port["number"]); ok {
			b.ports[number] = true
		}
	}
	return map[string]any{"destination": destination}
}

// isOurs reports whether a destination leads nowhere already.
func (b *blackholes) isOurs(weighted map[string]any) bool {
	host, _ := mapAt(weighted, "destination")["host"].(string)
	return slices.Contains(b.hosts(), host)
}

func sameDestination(a, b map[string]any) bool {
	one, other := mapAt(a, "destination"), mapAt(b, "destination")
	port, _ := asInt(mapAt(one, "port")["number"])
	otherPort, _ := asInt(mapAt(other, "port")["number"])
	return one["host"] == other["host"] && port == otherPort
}

// reweigh writes weights in their lowest terms. A single destination has none.
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
		return nil, refuse(UnroundWeights, "choose a rounder percentage", "the weights of the destinations and the percentage have no common terms that Istio could hold")
	}
	return out, nil
}

func greatestCommonDivisor(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
