package advice

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/fields"
	"github.com/squall-chaos/squall/istio/routing"
	"github.com/squall-chaos/squall/mesh"
)

// NotGRPC returns the numbers of the ports on which an abort with a gRPC status is for
// requests that are not gRPC, by the ports' protocols: Envoy answers those with 200
// (https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/fault_filter).
func NotGRPC(s config.Snapshot, d mesh.Decision) []int64 {
	seen := slices.DeleteFunc(s.Entries(d.Host), func(e config.Entry) bool { return !s.CanSee(e, d.Callers) })
	var numbers []int64
	for _, i := range d.Injections {
		for _, port := range config.PortsOf(seen) {
			reached := i.Target.Port == 0 || int64(i.Target.Port) == port.Number
			if i.AbortsGRPC() && reached && port.IsHTTP1() && !slices.Contains(numbers, port.Number) {
				numbers = append(numbers, port.Number)
			}
		}
	}
	return numbers
}

// AbortsGRPC reports whether a decision has an abort with a gRPC status.
func AbortsGRPC(d mesh.Decision) bool {
	return slices.ContainsFunc(d.Injections, experiments.Injection.AbortsGRPC)
}

// notGRPC warns of aborts with a gRPC status on ports that are not gRPC.
func (w *warnings) notGRPC(d mesh.Decision) {
	for _, number := range NotGRPC(w.s, d) {
		w.add("port %d of %s is not gRPC, and callers that do not speak gRPC get 200 OK for an abort with a grpcStatus: use httpStatus, which gRPC callers see as a status too", number, d.Host)
	}
}

// takenAlong warns of what hit requests lose beside the response of the target:
// Envoy's fault filter is before the one of CORS, and requests are mirrored by the
// router, after it has found an endpoint.
func (w *warnings) takenAlong(object *unstructured.Unstructured, d mesh.Decision) {
	for i, route := range fields.Maps(fields.Map(object.Object, "spec"), "http") {
		aborted := fields.Map(route, "fault")["abort"] != nil
		if aborted && route["corsPolicy"] != nil {
			w.add("%s of %s has a corsPolicy, which does not apply to aborted requests: preflights fail, and browsers report a network error in place of the status", routeInWords(i, route), nameInWords(object))
		}
		if (aborted || rejects(route, d)) && (route["mirror"] != nil || len(fields.Maps(route, "mirrors")) > 0) {
			w.add("%s of %s mirrors requests, but not those that the fault hits", routeInWords(i, route), nameInWords(object))
		}
	}
}

// rejects reports whether a route sends requests to a host without endpoints.
func rejects(route map[string]any, d mesh.Decision) bool {
	return slices.ContainsFunc(fields.Maps(route, "route"), func(weighted map[string]any) bool {
		name := fields.String(fields.Map(weighted, "destination"), "host")
		label, _, _ := strings.Cut(name, ".")
		return slices.Contains(d.Signature.Blackholes, name) && strings.HasSuffix(label, "-"+string(experiments.Reject))
	})
}

// policies warns of blackholes that do not have the settings of their target.
func (w *warnings) policies(d mesh.Decision) {
	if len(d.Signature.Blackholes) == 0 {
		return
	}
	if w.s.WithoutDestinationRules {
		w.add("DestinationRules could not be read, so the blackhole has Istio's default connect timeout and no limits and no outlier detection: the permission to list destinationrules is missing")
	}
	for _, i := range d.Injections {
		for _, caller := range i.Callers {
			for _, rule := range routing.PoliciesFor(w.s, d.Host, routing.Proxies{Namespace: d.Callers, Labels: caller.PodLabels()}).Others {
				w.add("DestinationRule %s/%s applies to some of the callers only (workloadSelector), and not to the blackhole", rule.GetNamespace(), rule.GetName())
			}
		}
	}
	for _, diverted := range d.Signature.Blackholes {
		for _, rule := range routing.PoliciesFor(w.s, diverted, routing.Proxies{Namespace: d.Callers}).Rules {
			if d.Namespace != d.Callers && rule.GetNamespace() == d.Callers {
				w.add("DestinationRule %s/%s (for %s) applies to the blackhole in place of the target's settings, because it is in the callers' namespace", rule.GetNamespace(), rule.GetName(), fmt.Sprint(fields.Map(rule.Object, "spec")["host"]))
			}
		}
	}
}
