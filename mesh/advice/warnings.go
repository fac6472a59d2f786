// Package advice explains a plan to users: what may be wrong with it although it is
// not refused, and how it changes the routes.
package advice

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/fields"
	"github.com/squall-chaos/squall/istio/host"
	"github.com/squall-chaos/squall/istio/routing"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/mesh/refusal"
)

// Warnings returns what may be wrong with a plan that is not refused, one sentence
// each: first about the experiment, then about each namespace of callers and the
// object for it.
func Warnings(s config.Snapshot, e experiments.Experiment, p mesh.Plan) []string {
	w := &warnings{s: s, e: e, p: p}
	w.otherDomain()
	w.blindQueries()
	w.undivertedQueries()
	w.unusualMatches()
	w.shareOfSubset()
	for _, d := range p.Decisions {
		w.s = mesh.SeenBy(s, d)
		w.settingsUnread(d)
		w.otherVersion()
		w.notInjected(d)
		w.gateways(d)
		w.otherSenders(d)
		w.wrongHost(d)
		w.notGRPC(d)
		w.policies(d)
	}
	for _, object := range mesh.Idle(s, e) {
		w.add("%s names the same calls as the object of a run, but is not effective for them: it does not disturb them, and squall status lists it", object)
	}
	for _, object := range slices.Concat(p.Objects, statesOf(p)) {
		if object.GetKind() != objects.KindVirtualService {
			continue
		}
		of := decisionOf(p, object)
		w.s = mesh.SeenBy(s, of)
		w.unexercised(object)
		w.crossOrigin(object)
		w.takenAlong(object, of)
		w.analysis(object)
	}
	return w.found
}

// decisionOf returns the decision that an object carries out.
func decisionOf(p mesh.Plan, object *unstructured.Unstructured) mesh.Decision {
	annotations := object.GetAnnotations()
	i := slices.IndexFunc(p.Decisions, func(d mesh.Decision) bool {
		return d.Host == annotations[objects.HostAnnotation] && d.Callers == annotations[objects.CallersAnnotation]
	})
	if i < 0 {
		return mesh.Decision{}
	}
	return p.Decisions[i]
}

// statesOf returns the later states of a plan's objects.
func statesOf(p mesh.Plan) []*unstructured.Unstructured {
	states := make([]*unstructured.Unstructured, len(p.Steps))
	for i, step := range p.Steps {
		states[i] = step.Object
	}
	return states
}

// warnings collects the warnings about a plan.
type warnings struct {
	s     config.Snapshot
	e     experiments.Experiment
	p     mesh.Plan
	found []string
}

func (w *warnings) add(format string, args ...any) {
	if warning := fmt.Sprintf(format, args...); !slices.Contains(w.found, warning) {
		w.found = append(w.found, warning)
	}
}

// unusualMatches warns of conditions that proxyless gRPC callers do not evaluate as
// Envoy does (google.golang.org/grpc/internal/xds/xdsclient/xdsresource and
// its matchers: routes with query parameters are skipped, pseudo headers and
// the absence of a header never match).
func (w *warnings) unusualMatches() {
	if !slices.ContainsFunc(w.p.Decisions, func(d mesh.Decision) bool { return d.Gateway == nil }) {
		return
	}
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
		w.add("spec.match names %s, which proxyless gRPC callers do not evaluate, so the fault misses their requests: match uri or headers if there are such callers", strings.Join(fields, ", "))
	}
}

// allMatches returns the matches of an experiment and of its faults.
func allMatches(s experiments.Spec) []experiments.Match {
	all := slices.Clone(s.Match)
	for _, f := range s.Faults {
		all = append(all, f.Match...)
	}
	return all
}

// shareOfSubset warns that the percentage of a fault is a share of one subset.
func (w *warnings) shareOfSubset() {
	for _, d := range w.p.Decisions {
		for _, i := range d.Injections {
			if d.Effective == nil || i.Target.Subset == "" {
				continue
			}
			if share := SubsetShare(d.Before, i.Target.Subset); share < 1 {
				w.add("VirtualService %s sends at most %.3g %% of the requests to subset %s, so %g %% of them are at most %.3g %% of all requests: leave out target.subset if all requests were meant",
					*d.Effective, 100*share, i.Target.Subset, i.Percentage, share*i.Percentage)
			}
		}
	}
}

// SubsetShare returns the largest share of its requests, 0 to 1, that any of the HTTP
// routes sends to a subset. Routes are tried in order, so the share of all requests is
// at most this one. Without a route to the subset it is 1: nothing is known.
func SubsetShare(routes []map[string]any, subset string) float64 {
	largest, found := 0.0, false
	for _, route := range routes {
		weighted := fields.Maps(route, "route")
		there, all := 0.0, 0.0
		for _, w := range weighted {
			weight, _ := fields.Int(w["weight"])
			if len(weighted) == 1 {
				weight = 100 // a single destination needs no weight
			}
			all += float64(weight)
			if fields.Map(w, "destination")["subset"] == subset {
				there, found = there+float64(weight), true
			}
		}
		if all > 0 {
			largest = max(largest, there/all)
		}
	}
	if !found {
		return 1
	}
	return largest
}

// baseOf returns the effective VirtualService of a decision, or nil if there is none.
func baseOf(s config.Snapshot, d mesh.Decision) *unstructured.Unstructured {
	if d.Effective == nil {
		return nil
	}
	for _, vs := range s.VirtualServices {
		if vs.GetNamespace()+"/"+vs.GetName() == *d.Effective {
			return vs
		}
	}
	return nil
}

// notInjected warns of callers that may have no proxy to inject the fault. Of a
// namespace without labels only the name is known, because the API server labels
// every namespace.
func (w *warnings) notInjected(d mesh.Decision) {
	if d.Gateway != nil {
		return
	}
	labels, exists := w.s.Namespaces[d.Callers]
	if !exists || len(labels) == 0 || config.Injected(labels) || config.IsAmbient(labels) || d.Cause == refusal.GatewayCallers {
		return
	}
	w.add("namespace %s is not labelled for sidecar injection (istio-injection=enabled or istio.io/rev), and a caller without a proxy is not disturbed: check that its pods are injected one by one", d.Callers)
}

// gateways warns of callers of which some may be a gateway.
func (w *warnings) gateways(d mesh.Decision) {
	if d.Gateway != nil {
		return
	}
	for _, i := range d.Injections {
		for _, caller := range i.Callers {
			if gateway, pods := w.s.GatewayOf(d.Callers, caller.Labels); pods == config.SomeGateway {
				w.add("Gateway %s/%s selects pods in %s, and a gateway does not use the VirtualServices of sidecars: name the labels of the callers that are meant", gateway.GetNamespace(), gateway.GetName(), d.Callers)
			}
		}
	}
}

// unexercised warns of routes with a timeout or retries, which abort and delay do
// not exercise: Envoy's fault filter acts before the router, which has both.
func (w *warnings) unexercised(object *unstructured.Unstructured) {
	var carriers, unused []string
	for i, route := range fields.Maps(fields.Map(object.Object, "spec"), "http") {
		if fault := fields.Map(route, "fault"); fault["abort"] == nil && fault["delay"] == nil {
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
		w.add("%s: abort and delay act before the %s of %s, so the run does not test them; a blackhole does",
			nameInWords(object), strings.Join(slices.Compact(unused), " and "), strings.Join(carriers, ", "))
	}
}

// resilience returns what a route has against a target that fails or is slow.
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
	retries := fields.Map(route, "retries")
	attempts, _ := fields.Int(retries["attempts"])
	return retries != nil && (attempts > 0 || retries["perTryTimeout"] != nil)
}

// crossOrigin warns of routes that proxyless gRPC callers reject together with all
// others of the same configuration, because they do not know the filter of
// corsPolicy.
func (w *warnings) crossOrigin(object *unstructured.Unstructured) {
	if !routing.AppliesToSidecars(object) {
		return
	}
	for i, route := range fields.Maps(fields.Map(object.Object, "spec"), "http") {
		if route["corsPolicy"] != nil {
			w.add("%s of %s has a corsPolicy, because of which proxyless gRPC callers reject the whole route configuration and keep their old one: name only callers with sidecars",
				routeInWords(i, route), nameInWords(object))
			return
		}
	}
}

// analysis warns of findings of istioctl analyze that the run causes. The analyzer
// compares the hosts of the VirtualServices that are visible in the same namespaces
// (istio.io/istio/pkg/config/analysis/analyzers/virtualservice,
// ConflictingMeshGatewayHostsAnalyzer).
func (w *warnings) analysis(object *unstructured.Unstructured) {
	annotations := object.GetAnnotations()
	for _, d := range w.p.Decisions {
		if d.Placement != mesh.Shadow || d.Host != annotations[objects.HostAnnotation] || d.Callers != annotations[objects.CallersAnnotation] {
			continue
		}
		if base := baseOf(w.s, d); base != nil && conflicts(w.s, base, d.Host) {
			w.add("%s takes the place of VirtualService %s on purpose: expect istioctl analyze to report IST0109 (ConflictingMeshGatewayVirtualServiceHosts) for the two while the run lasts, and ignore it until then",
				nameInWords(object), *d.Effective)
		}
	}
}

// conflicts reports whether the analyzer compares a VirtualService with a shadow of
// the host: a public one always, another one only if it has the same host.
func conflicts(s config.Snapshot, base *unstructured.Unstructured, name string) bool {
	exportTo := fields.Strings(base.Object, "spec", "exportTo")
	if len(exportTo) == 0 || slices.Contains(exportTo, "*") {
		return true
	}
	return slices.ContainsFunc(fields.Strings(base.Object, "spec", "hosts"), func(h string) bool {
		return strings.EqualFold(name, host.Qualify(h, base.GetNamespace(), s.ClusterDomain))
	})
}

func nameInWords(object *unstructured.Unstructured) string {
	return fmt.Sprintf("%s %s/%s", object.GetKind(), object.GetNamespace(), object.GetName())
}

// routeInWords returns an HTTP route's number, counted from 1, and its name.
func routeInWords(i int, route map[string]any) string { return numbered("http", i, route) }

// numbered does so for a route of a protocol.
func numbered(protocol string, i int, route map[string]any) string {
	words := fmt.Sprintf("%s route %d", protocol, i+1)
	if name, _ := route["name"].(string); name != "" {
		words += " (" + strconv.Quote(name) + ")"
	}
	return words
}
