package sim

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/istio/telemetry"
	"github.com/squall-chaos/squall/mesh/objects"
)

// proxy is a sidecar of a workload. It has the routes that istiod has pushed last.
type proxy struct {
	namespace, app string
	calls          []calls
	// severed is true while istiod does not reach the proxy.
	severed bool
	// routes are what it does with the calls, by the index of calls and class.
	routes  [][]outcome
	version int
	// counted is the time up to which its requests are in counters.
	counted  time.Time
	counters map[string]*counter
}

// calls are the requests of a proxy to one host.
type calls struct {
	host    string
	classes []class
}

// class is a kind of requests.
type class struct {
	path    string
	headers map[string]string
	rate    float64 // per second
}

// outcome is what happens to the requests of a class.
type outcome struct {
	// from is the VirtualService that decides; nil for the default route.
	from *unstructured.Unstructured
	// to are the destinations with their shares. Destinations of a VirtualService
	// without a share are not in it.
	to map[string]float64
	// aborted and delayed are shares.
	aborted, delayed float64
	delay            time.Duration
	status           string
	// diverted are the shares of the hosts of blackholes.
	diverted map[string]float64
}

// disturbed reports whether any request of the class is hit.
func (o outcome) disturbed() bool { return o.aborted+o.delayed+o.lost() > 0 }

// lost returns the share of the requests that a blackhole takes.
func (o outcome) lost() float64 {
	lost := 0.0
	for _, share := range o.diverted {
		lost += share
	}
	return lost
}

// divert moves the hosts of blackholes from the destinations of a route to diverted.
func (o *outcome) divert() {
	for name, share := range o.to {
		if host, _, _ := strings.Cut(name, " "); telemetry.IsDiverted(host) {
			if o.diverted == nil {
				o.diverted = map[string]float64{}
			}
			o.diverted[host] += share
			delete(o.to, name)
		}
	}
	for name := range o.to {
		o.to[name] /= 1 - o.lost()
	}
}

// run returns the run that disturbs the requests; empty if none does.
func (o outcome) run() string {
	if o.from != nil && objects.IsOurs(o.from) {
		return o.from.GetLabels()[objects.RunLabel]
	}
	return ""
}

// counter is a series of istio_requests_total.
type counter struct {
	labels map[string]string
	value  float64
}

// istiod pushes routes to the proxies.
type istiod struct {
	world *world
	// stopped is true while it pushes nothing.
	stopped bool
	// debounce is its pause before a push, and slowest the longest time until a proxy
	// has it.
	debounce, slowest time.Duration
	due               bool
}

// changed follows a write.
func (i *istiod) changed() {
	if i.due || i.stopped {
		return
	}
	i.due = true
	i.world.in(i.debounce, i.push)
}

// push sends the routes of this moment to every proxy.
func (i *istiod) push() {
	i.due = false
	if i.stopped {
		return
	}
	all := i.world.api.List("virtualservices")
	version := i.world.api.Version()
	for _, p := range i.world.proxies {
		if p.severed {
			continue
		}
		routes := p.resolve(all)
		i.world.in(i.world.skewed(5*time.Millisecond, i.slowest), func() {
			if version > p.version && !p.severed {
				i.world.count(p)
				p.version, p.routes = version, routes
			}
		})
	}
}

// resume lets istiod go on.
func (i *istiod) resume() {
	i.stopped = false
	i.changed()
}

// resolve returns what the proxy would do with its calls.
func (p *proxy) resolve(all []*unstructured.Unstructured) [][]outcome {
	routes := make([][]outcome, len(p.calls))
	for i, c := range p.calls {
		vs := effective(all, p.namespace, c.host)
		for _, k := range c.classes {
			routes[i] = append(routes[i], p.outcome(vs, c.host, k))
		}
	}
	return routes
}

// effective returns the VirtualService that istiod selects for the calls from a
// namespace to a host, for the few forms that a simulation has
// (istio.io/istio/pilot/pkg/model, initVirtualServices and
// ServiceIndex.private, exportedToNamespace, public).
func effective(all []*unstructured.Unstructured, namespace, host string) *unstructured.Unstructured {
	var best *unstructured.Unstructured
	level := 3
	for _, vs := range all {
		hosts, _, _ := unstructured.NestedStringSlice(vs.Object, "spec", "hosts")
		if !slices.Contains(hosts, host) {
			continue
		}
		at := visibility(vs, namespace)
		if at < level || at == level && best != nil && older(vs, best) {
			best, level = vs, at
		}
	}
	return best
}

// visibility returns 0 for what is private to a namespace, 1 for what is exported to
// it by name, 2 for what is public, and 4 for what it does not see.
func visibility(vs *unstructured.Unstructured, namespace string) int {
	exports, _, _ := unstructured.NestedStringSlice(vs.Object, "spec", "exportTo")
	switch {
	case len(exports) == 0, slices.Contains(exports, "*"):
		return 2
	case slices.Contains(exports, ".") && vs.GetNamespace() == namespace:
		return 0
	case slices.Contains(exports, namespace):
		return 1
	default:
		return 4
	}
}

func older(a, b *unstructured.Unstructured) bool {
	return cmp.Or(a.GetCreationTimestamp().Compare(b.GetCreationTimestamp().Time), strings.Compare(a.GetName()+"."+a.GetNamespace(), b.GetName()+"."+b.GetNamespace())) < 0
}

// outcome returns what a VirtualService does with the requests of a class.
func (p *proxy) outcome(vs *unstructured.Unstructured, host string, k class) outcome {
	o := outcome{from: vs, to: map[string]float64{host: 1}}
	if vs == nil {
		return o
	}
	routes, _, _ := unstructured.NestedSlice(vs.Object, "spec", "http")
	for _, route := range routes {
		r, _ := route.(map[string]any)
		if !p.matches(r["match"], k) {
			continue
		}
		o.to = destinations(r["route"])
		o.divert()
		fault, _ := r["fault"].(map[string]any)
		o.setFault(fault)
		return o
	}
	o.to = map[string]float64{} // 404
	return o
}

func (o *outcome) setFault(fault map[string]any) {
	if abort, is := fault["abort"].(map[string]any); is {
		o.aborted = share(abort)
		o.status = fmt.Sprint(abort["httpStatus"])
	}
	if delay, is := fault["delay"].(map[string]any); is {
		o.delayed = share(delay)
		text, _ := delay["fixedDelay"].(string)
		o.delay, _ = time.ParseDuration(text)
	}
}

func share(of map[string]any) float64 {
	percentage, has := of["percentage"].(map[string]any)
	if !has {
		return 1
	}
	return number(percentage["value"]) / 100
}

func number(value any) float64 {
	switch n := value.(type) {
	case int64:
		return float64(n)
	case float64:
		return n
	default:
		return 0
	}
}

// destinations returns the shares of the hosts of a route.
func destinations(route any) map[string]float64 {
	list, _ := route.([]any)
	shares, total := map[string]float64{}, 0.0
	for _, one := range list {
		d, _ := one.(map[string]any)
		to, _ := d["destination"].(map[string]any)
		weight, has := d["weight"]
		n := number(weight)
		if !has && len(list) == 1 {
			n = 100
		}
		if n > 0 {
			shares[fmt.Sprint(to["host"], " ", to["subset"])] += n
		}
		total += n
	}
	for name := range shares {
		shares[name] /= total
	}
	return shares
}

// matches reports whether one of the conditions of a route matches a class.
func (p *proxy) matches(conditions any, k class) bool {
	all, _ := conditions.([]any)
	if len(all) == 0 {
		return true
	}
	return slices.ContainsFunc(all, func(one any) bool {
		condition, _ := one.(map[string]any)
		return p.matchesAll(condition, k)
	})
}

func (p *proxy) matchesAll(condition map[string]any, k class) bool {
	for name, want := range condition {
		ok := false
		switch name {
		case "name", "gateways":
			ok = true
		case "uri":
			ok = matchesText(want, k.path, true)
		case "headers":
			ok = k.allHeaders(want)
		case "withoutHeaders":
			ok = !k.anyHeader(want)
		case "sourceNamespace":
			ok = want == p.namespace
		case "sourceLabels":
			labels, _ := want.(map[string]any)
			ok = maps.EqualFunc(labels, map[string]any{"app": p.app}, func(a, b any) bool { return a == b })
		default:
			panic("the simulation has no match of " + name)
		}
		if !ok {
			return false
		}
	}
	return true
}

func (k class) allHeaders(want any) bool {
	headers, _ := want.(map[string]any)
	for name, text := range headers {
		value, has := k.headers[name]
		if !matchesText(text, value, has) {
			return false
		}
	}
	return true
}

func (k class) anyHeader(want any) bool {
	headers, _ := want.(map[string]any)
	for name, text := range headers {
		value, has := k.headers[name]
		if matchesText(text, value, has) {
			return true
		}
	}
	return false
}

func matchesText(want any, value string, has bool) bool {
	match, _ := want.(map[string]any)
	if !has {
		return false
	}
	for kind, text := range match {
		text := fmt.Sprint(text)
		switch kind {
		case "exact":
			return value == text
		case "prefix":
			return strings.HasPrefix(value, text)
		case "regex":
			return regexp.MustCompile("^(?:" + text + ")$").MatchString(value)
		default:
			panic("the simulation has no match of a text by " + kind)
		}
	}
	return true
}

// count adds the requests of a proxy since the last call to its counters.
func (w *world) count(p *proxy) {
	now := time.Now()
	elapsed := now.Sub(p.counted).Seconds()
	p.counted = now
	if elapsed <= 0 {
		return
	}
	for i, c := range p.calls {
		for j, k := range c.classes {
			w.countClass(p, c, p.routes[i][j], elapsed*k.rate)
		}
	}
}

func (w *world) countClass(p *proxy, c calls, o outcome, n float64) {
	host := c.host
	if run := o.run(); run != "" {
		w.truth(run).hits += n * (1 - (1-o.aborted)*(1-o.delayed)*(1-o.lost()))
	}
	p.add(host, "-", "200", n*(1-o.aborted)*(1-o.delayed)*(1-o.lost()))
	p.add(host, "FI", o.status, n*o.aborted*(1-o.delayed))
	for _, blackhole := range slices.Sorted(maps.Keys(o.diverted)) {
		diverted := n * (1 - o.aborted) * (1 - o.delayed) * o.diverted[blackhole]
		if strings.Contains(blackhole, "-reject.") {
			p.add(blackhole, "UF", "503", diverted)
		} else {
			w.in(connectTimeout, func() { p.add(blackhole, "UF", "503", diverted) })
		}
	}
	if o.delayed > 0 {
		// A delayed request is counted when it ends.
		w.in(o.delay, func() {
			p.add(host, "DI", "200", n*o.delayed*(1-o.aborted))
			p.add(host, "DI,FI", o.status, n*o.delayed*o.aborted)
		})
	}
}

// connectTimeout is Istio's default for the time after which a connection that nothing
// answers fails. A caller does not wait for a second attempt.
const connectTimeout = 10 * time.Second

func (p *proxy) add(host, flags, status string, n float64) {
	if n <= 0 {
		return
	}
	key := host + " " + flags + " " + status
	c := p.counters[key]
	if c == nil {
		c = &counter{labels: map[string]string{
			"__name__": "istio_requests_total", "reporter": "source", "destination_service": host, "source_workload_namespace": p.namespace,
			"source_workload": p.app, "source_app": p.app, "response_flags": flags, "response_code": status,
		}}
		p.counters[key] = c
	}
	c.value += n
}
