package advice

import (
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	promlabels "github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/squall-chaos/squall/internal/promql"
	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/fields"
	"github.com/squall-chaos/squall/istio/host"
	"github.com/squall-chaos/squall/istio/routing"
	"github.com/squall-chaos/squall/istio/telemetry"
	"github.com/squall-chaos/squall/mesh"
)

// otherSenders warns of VirtualServices of other hosts that send their calls to the
// target: a proxy selects its routes by the host that the caller calls, so an object
// for the target does not hit these calls.
func (w *warnings) otherSenders(d mesh.Decision) {
	if d.Gateway != nil {
		return // all routes that lead to the target have the fault
	}
	for _, vs := range w.s.VirtualServices {
		hosts := fields.Strings(vs.Object, "spec", "hosts")
		switch {
		case len(hosts) == 0, !routing.AppliesToSidecars(vs), w.s.VisibilityOf(vs, d.Callers) == config.Hidden,
			routing.PatternFor(w.s, vs, d.Host) != "", !routing.Forwards(w.s, vs, d.Host):
			continue
		}
		for i, name := range hosts {
			hosts[i] = host.Qualify(name, vs.GetNamespace(), w.s.ClusterDomain)
		}
		called := strings.Join(hosts, ", ")
		w.add("%s sends calls for %s to %s, and the fault does not hit them: to disturb these calls, name %s as the target", nameInWords(vs), called, d.Host, called)
	}
}

// wrongHost warns of queries about the target that have no series, because the routes
// of the callers send every call to other hosts: the metrics of the callers' proxies
// name the host that was chosen (istio.io/istio/pilot/pkg/networking/core,
// addTelemetryMetadata).
func (w *warnings) wrongHost(d mesh.Decision) {
	chosen := destinationsOf(d.Before)
	if d.Effective == nil || d.Gateway != nil || len(chosen) == 0 || slices.ContainsFunc(chosen, func(name string) bool { return strings.EqualFold(name, d.Host) }) {
		return
	}
	forQueries(w.e.Spec, func(what, query string) {
		if asksOnlyFor(w.s, query, d.Host, chosen) {
			w.add("%s asks for %s, but its calls are counted under the hosts that %s sends them to: select destination_service=~%q instead",
				what, d.Host, *d.Effective, strings.Join(chosen, "|"))
		}
	})
}

// destinationsOf returns the hosts that HTTP routes forward to.
func destinationsOf(routes []map[string]any) []string {
	var hosts []string
	for _, route := range routes {
		for _, weighted := range fields.Maps(route, "route") {
			if name := fields.String(fields.Map(weighted, "destination"), "host"); name != "" && !slices.Contains(hosts, name) {
				hosts = append(hosts, name)
			}
		}
	}
	return hosts
}

// asksOnlyFor reports whether a part of a query selects Istio's metrics about a host,
// from the callers' proxies, and not about any of the other hosts.
func asksOnlyFor(s config.Snapshot, query, name string, others []string) bool {
	expression, err := promql.Parse(query)
	if err != nil {
		return false // files.Load has refused it
	}
	return slices.ContainsFunc(parser.ExtractSelectors(expression), func(matchers []*promlabels.Matcher) bool {
		ofIstio := slices.ContainsFunc(matchers, func(m *promlabels.Matcher) bool {
			return m.Name == model.MetricNameLabel && m.Type == promlabels.MatchEqual && strings.HasPrefix(m.Value, telemetry.Prefix)
		})
		return ofIstio && accepts(matchers, telemetry.LabelReporter, telemetry.ReporterSource) && acceptsHost(s, matchers, name) &&
			!slices.ContainsFunc(others, func(other string) bool { return acceptsHost(s, matchers, other) })
	})
}

// acceptsHost reports whether the matchers accept the series about a host.
func acceptsHost(s config.Snapshot, matchers []*promlabels.Matcher, name string) bool {
	for label, value := range destinationLabels(s, name) {
		if !accepts(matchers, label, value) {
			return false
		}
	}
	return true
}
