package mesh

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	promlabels "github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/promql"
	"github.com/squall-chaos/squall/istio/host"
)

// Warnings says what a plan that is not refused may still get wrong, one
// sentence each: first about the experiment, then about each namespace of
// callers and the object that is made for it.
func Warnings(s Snapshot, e experiments.Experiment, p Plan) []string {
	w := &warnings{s: s, e: e, p: p}
	w.blindQueries()
	w.unusualMatches()
	w.shareOfSubset()
	for _, d := range p.Decisions {
		w.notInjected(d)
	}
	for _, object := range slices.Concat(p.Objects, statesOf(p)) {
		if object.GetKind() != virtualServiceKind {
			continue
		}
		w.unexercised(object)
		w.crossOrigin(object)
		w.analysis(object)
	}
	return w.found
}

// statesOf gives the later states of a plan's objects.
func statesOf(p Plan) []*unstructured.Unstructured {
	states := make([]*unstructured.Unstructured, len(p.Steps))
	for i, step := range p.Steps {
		states[i] = step.Object
	}
	return states
}

const virtualServiceKind = "VirtualService"

// warnings collects.
type warnings struct {
	s     Snapshot
	e     experiments.Experiment
	p     Plan
	found []string
}

func (w *warnings) add(format string, args ...any) {
	if warning := fmt.Sprintf(format, args...); !slices.Contains(w.found, warning) {
		w.found = append(w.found, warning)
	}
}

// blindQueries names what is measured at the target's own proxies, where a
// request that the callers' proxies have answered or lost never arrives.
func (w *warnings) blindQueries() {
	check := func(what string, probe experiments.Probe) {
		for _, d := range w.p.Decisions {
			lost := lostRequests(d.Injections)
			if lost != "" && probe.In(experiments.During) && seesDestinationOnly(probe.PromQL(), w.s.destinationLabels(d.Host)) {
				w.add(`%s %q counts what the destination reports, where %s requests never arrive: select reporter=~"source|waypoint" instead`, what, probe.Name, lost)
			}
		}
	}
	for _, probe := range w.e.Spec.SteadyState.Probes {
		check("probe", probe)
	}
	for _, condition := range w.e.Spec.StopConditions {
		check("stop condition", condition.Probe())
	}
}

// lostRequests names the requests that never reach the target.
func lostRequests(injections experiments.Injections) string {
	var lost []string
	if slices.ContainsFunc(injections, func(i experiments.Injection) bool { return i.Fault.Abort != nil }) {
		lost = append(lost, "aborted")
	}
	if slices.ContainsFunc(injections, func(i experiments.Injection) bool { return i.Fault.Blackhole != nil }) {
		lost = append(lost, "blackholed")
	}
	return strings.Join(lost, " and ")
}

// destinationLabels gives the labels by which Istio's metrics name a host.
func (s Snapshot) destinationLabels(host string) map[string]string {
	named := map[string]string{"destination_service": host, "destination_service_name": host}
	for _, service := range s.Services {
		if strings.EqualFold(host, s.serviceHost(service)) {
			named["destination_service_name"] = service.Name
			named["destination_service_namespace"] = service.Namespace
		}
	}
	return named
}

// seesDestinationOnly reports whether a part of a query selects metrics of
// Istio about the host, from no reporter but the destination.
func seesDestinationOnly(query string, host map[string]string) bool {
	expression, err := promql.Parse(query)
	if err != nil {
		return false // Load has refused it, or nobody has asked it
	}
	for _, matchers := range parser.ExtractSelectors(expression) {
		about := slices.ContainsFunc(matchers, func(m *promlabels.Matcher) bool {
			return m.Name == model.MetricNameLabel && m.Type == promlabels.MatchEqual && strings.HasPrefix(m.Value, "istio_")
		})
		for label, value := range host {
			about = about && accepts(matchers, label, value)
		}
		if about && accepts(matchers, reporterLabel, "destination") && !accepts(matchers, reporterLabel, "source") && !accepts(matchers, reporterLabel, "waypoint") {
			return true
		}
	}
	return false
}

// reporterLabel tells at whose proxy a request was counted.
const reporterLabel = "reporter"

// accepts reports whether a series with that label may be selected.
func accepts(matchers []*promlabels.Matcher, label, value string) bool {
	return !slices.ContainsFunc(matchers, func(m *promlabels.Matcher) bool { return m.Name == label && !m.Matches(value) })
}

// unusualMatches names conditions that proxyless gRPC callers do not evaluate
// as Envoy does (google.golang.org/grpc/internal/xds/xdsclient/xdsresource and
// its matchers: routes with query parameters are skipped, pseudo headers and
// the absence of a header never match).
func (w *warnings) unusualMatches() {
	var fields []string
	note := func(field string, set bool) {
		if set && !slices.Contains(fields, field) {
			fields = append(fields, field)
		}
	}
	for _, m := range allMatches(w.e.Spec) {
		note("queryParams", len(m.QueryParams) > 0)
		note("method", m.Method != nil)
		note("scheme", m.Scheme != nil)
		note("authority", m.Authority != nil)
		note("withoutHeaders", len(m.WithoutHeaders) > 0)
	}
	if len(fields) > 0 {
		w.add("spec.match names %s, which proxyless gRPC callers do not honour, so the fault misses their requests: match uri or headers if there are such callers", strings.Join(fields, ", "))
	}
}

// allMatches gives the matches of an experiment and of its faults.
func allMatches(s experiments.Spec) []experiments.Match {
	all := slices.Clone(s.Match)
	for _, f := range s.Faults {
		all = append(all, f.Match...)
	}
	return all
}

// shareOfSubset explains the percentage of a fault on one subset.
func (w *warnings) shareOfSubset() {
	for _, d := range w.p.Decisions {
		base := w.s.objectInForce(d)
		for _, i := range d.Injections {
			if base != nil && i.Target.Subset != "" && i.Percentage < 100 && splits(base, i.Target.Subset) {
				w.add("VirtualService %s splits requests by weight, so %g %% of subset %s is less than %g %% of all requests: raise the percentage, or leave out target.subset, if all requests were meant",
					*d.InForce, i.Percentage, i.Target.Subset, i.Percentage)
			}
		}
	}
}

// objectInForce finds the VirtualService in force for the callers of a decision.
func (s Snapshot) objectInForce(d Decision) *unstructured.Unstructured {
	if d.InForce == nil {
		return nil
	}
	for _, vs := range s.VirtualServices {
		if vs.GetNamespace()+"/"+vs.GetName() == *d.InForce {
			return vs
		}
	}
	return nil
}

// splits reports whether a route sends only a part of its requests to a subset.
func splits(vs *unstructured.Unstructured, subset string) bool {
	for _, route := range mapsAt(mapAt(vs.Object, "spec"), "http") {
		weighted := mapsAt(route, "route")
		if len(weighted) > 1 && slices.ContainsFunc(weighted, func(w map[string]any) bool { return mapAt(w, "destination")["subset"] == subset }) {
			return true
		}
	}
	return false
}

// notInjected names callers that may have no proxy to inject the fault. A
// namespace without any label is known by name only, because the API server
// labels each.
func (w *warnings) notInjected(d Decision) {
	labels, exists := w.s.Namespaces[d.Callers]
	if !exists || len(labels) == 0 || Injected(labels) {
		return
	}
	w.add("namespace %s is not labelled for sidecar injection (istio-injection=enabled or istio.io/rev), and a caller without a proxy is not disturbed: check that its pods are injected one by one", d.Callers)
}

// unexercised names routes whose timeout or retries the fault comes before:
// Envoy's fault filter acts ahead of the router, which has both.
func (w *warnings) unexercised(object *unstructured.Unstructured) {
	var carriers, unused []string
	for i, route := range mapsAt(mapAt(object.Object, "spec"), "http") {
		if fault := mapAt(route, "fault"); fault["abort"] == nil && fault["delay"] == nil {
			continue
		}
		own := resilience(route)
		if len(own) > 0 {
			carriers = append(carriers, routeInWords(i, route))
			unused = append(unused, own...)
		}
	}
	if len(carriers) > 0 {
		slices.Sort(unused)
		w.add("%s: abort and delay act before the %s of %s, so the run does not exercise them: use a blackhole to do that",
			nameInWords(object), strings.Join(slices.Compact(unused), " and "), strings.Join(carriers, ", "))
	}
}

// resilience names what a route has against a target that fails or is slow.
func resilience(route map[string]any) []string {
	var names []string
	if hasTimeout(route) {
		names = append(names, "timeout")
	}
	if hasRetries(route) {
		names = append(names, "retries")
	}
	return names
}

func hasTimeout(route map[string]any) bool {
	text, _ := route["timeout"].(string)
	timeout, err := time.ParseDuration(text)
	return text != "" && (err != nil || timeout > 0)
}

func hasRetries(route map[string]any) bool {
	retries := mapAt(route, "retries")
	attempts, _ := asInt(retries["attempts"])
	return retries != nil && (attempts > 0 || retries["perTryTimeout"] != nil)
}

// crossOrigin names routes that proxyless gRPC callers do not take, with all
// others of the same configuration: the filter that corsPolicy configures is
// unknown to them.
func (w *warnings) crossOrigin(object *unstructured.Unstructured) {
	for i, route := range mapsAt(mapAt(object.Object, "spec"), "http") {
		if route["corsPolicy"] != nil {
			w.add("%s of %s has a corsPolicy, because of which proxyless gRPC callers reject the whole route configuration and keep their old one: name only callers with sidecars",
				routeInWords(i, route), nameInWords(object))
			return
		}
	}
}

// analysis tells which findings of istioctl analyze belong to the run. The
// analyzer compares the hosts of what is visible in the same namespaces
// (istio.io/istio/pkg/config/analysis/analyzers/virtualservice,
// ConflictingMeshGatewayHostsAnalyzer).
func (w *warnings) analysis(object *unstructured.Unstructured) {
	annotations := object.GetAnnotations()
	for _, d := range w.p.Decisions {
		if d.Placement != Shadow || d.Host != annotations[HostAnnotation] || d.Callers != annotations[CallersAnnotation] {
			continue
		}
		if base := w.s.objectInForce(d); base != nil && w.s.conflicts(base, d.Host) {
			w.add("%s takes the place of VirtualService %s on purpose: expect istioctl analyze to report IST0109 (ConflictingMeshGatewayVirtualServiceHosts) for the two while the run lasts, and ignore it until then",
				nameInWords(object), *d.InForce)
		}
	}
}

// conflicts reports whether the analyzer compares a VirtualService with a
// shadow of the host: a public one in any case, another only by the same name.
func (s Snapshot) conflicts(base *unstructured.Unstructured, name string) bool {
	exportTo := stringsAt(base.Object, "spec", "exportTo")
	if len(exportTo) == 0 || slices.Contains(exportTo, "*") {
		return true
	}
	return slices.ContainsFunc(stringsAt(base.Object, "spec", "hosts"), func(h string) bool {
		return strings.EqualFold(name, host.Qualify(h, base.GetNamespace(), s.ClusterDomain))
	})
}

func nameInWords(object *unstructured.Unstructured) string {
	return fmt.Sprintf("%s %s/%s", object.GetKind(), object.GetNamespace(), object.GetName())
}

// routeInWords names a route by its number, counted from 1, and its name.
func routeInWords(i int, route map[string]any) string {
	words := fmt.Sprintf("http route %d", i+1)
	if name, _ := route["name"].(string); name != "" {
		words += " (" + strconv.Quote(name) + ")"
	}
	return words
}
