package advice

import (
	"fmt"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	promlabels "github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/promql"
	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/host"
	"github.com/squall-chaos/squall/istio/telemetry"
)

// forQueries calls a function with each probe and stop condition that is measured
// while the faults are active, and what it is in words.
func forQueries(spec experiments.Spec, check func(what, query string)) {
	for _, probe := range spec.SteadyState.Probes {
		if probe.In(experiments.During) {
			check(fmt.Sprintf("probe %q", probe.Name), probe.PromQL())
		}
	}
	for _, condition := range spec.StopConditions {
		check(fmt.Sprintf("stop condition %q", condition.Name), condition.Probe().PromQL())
	}
}

// blindQueries warns of measures at the target's proxies, where requests that the
// callers' proxies abort or divert never arrive.
func (w *warnings) blindQueries() {
	forQueries(w.e.Spec, func(what, query string) {
		for _, d := range w.p.Decisions {
			if lost := lostRequests(d.Injections); lost != "" && seesDestinationOnly(query, destinationLabels(w.s, d.Host)) {
				w.add(`%s counts what the destination reports, where %s requests never arrive: select reporter=~"source|waypoint" instead`, what, lost)
			}
		}
	})
}

// undivertedQueries warns of measures that select calls to the target by a name that
// diverted calls do not have in Istio's metrics.
func (w *warnings) undivertedQueries() {
	for _, d := range w.p.Decisions {
		for _, diverted := range d.Signature.Blackholes {
			as := map[string]string{telemetry.LabelDestination: diverted, telemetry.LabelDestinationName: diverted, telemetry.LabelDestinationNamespace: d.Namespace}
			w.undiverted(d.Host, destinationLabels(w.s, d.Host), as)
		}
	}
}

// Undiverted returns the warnings of Warnings about queries that miss diverted calls,
// as far as they follow from the file: of a target that is not known as a Service
// only the full name counts.
func Undiverted(e experiments.Experiment) []string {
	w := &warnings{e: e}
	for _, i := range e.Spec.Injections() {
		if i.Fault.Blackhole == nil {
			continue
		}
		name := i.Host().Complete(host.DefaultDomain)
		own := map[string]string{telemetry.LabelDestination: name, telemetry.LabelDestinationName: name}
		if service, namespace, ok := i.Host().AsService(); ok {
			own[telemetry.LabelDestinationName], own[telemetry.LabelDestinationNamespace] = service, namespace
		}
		diverted := telemetry.Diverted(name, "squall-any")
		w.undiverted(name, own, map[string]string{telemetry.LabelDestination: diverted, telemetry.LabelDestinationName: diverted})
	}
	return w.found
}

// undiverted warns of measures of calls to a host which select the labels of these
// calls, but not the ones that they have when they are diverted.
func (w *warnings) undiverted(host string, own, diverted map[string]string) {
	forQueries(w.e.Spec, func(what, query string) {
		if missesDiverted(query, own, diverted) {
			w.add("%s does not count the calls that the blackhole takes, because Istio's metrics report them under another host: select the target by %s instead", what, telemetry.To(host))
		}
	})
}

// lostRequests returns in words which requests never reach the target.
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

// destinationLabels returns the labels by which Istio's metrics name a host.
func destinationLabels(s config.Snapshot, host string) map[string]string {
	named := map[string]string{telemetry.LabelDestination: host, telemetry.LabelDestinationName: host}
	for _, service := range s.Services {
		if strings.EqualFold(host, s.HostOf(service)) {
			named[telemetry.LabelDestinationName] = service.Name
			named[telemetry.LabelDestinationNamespace] = service.Namespace
		}
	}
	return named
}

// aboutHost returns the selectors in a query of Istio's metrics that select calls with
// certain labels.
func aboutHost(query string, names map[string]string) [][]*promlabels.Matcher {
	expression, err := promql.Parse(query)
	if err != nil {
		return nil // files.Load has refused it
	}
	return slices.DeleteFunc(parser.ExtractSelectors(expression), func(matchers []*promlabels.Matcher) bool {
		about := slices.ContainsFunc(matchers, func(m *promlabels.Matcher) bool {
			return m.Name == model.MetricNameLabel && m.Type == promlabels.MatchEqual && strings.HasPrefix(m.Value, telemetry.Prefix)
		})
		for label, value := range names {
			about = about && accepts(matchers, label, value)
		}
		return !about
	})
}

// seesDestinationOnly reports whether a part of a query selects Istio's metrics
// about the host from no reporter other than the destination.
func seesDestinationOnly(query string, names map[string]string) bool {
	return slices.ContainsFunc(aboutHost(query, names), func(matchers []*promlabels.Matcher) bool {
		return accepts(matchers, telemetry.LabelReporter, telemetry.ReporterDestination) && !seesCallers(matchers)
	})
}

// missesDiverted reports whether a part of a query selects what callers report about
// a host, but not with the labels that diverted calls have.
func missesDiverted(query string, names, diverted map[string]string) bool {
	return slices.ContainsFunc(aboutHost(query, names), func(matchers []*promlabels.Matcher) bool {
		return seesCallers(matchers) && slices.ContainsFunc(matchers, func(m *promlabels.Matcher) bool {
			value, known := diverted[m.Name]
			return known && !m.Matches(value)
		})
	})
}

// seesCallers reports whether matchers accept what the callers' side reports.
func seesCallers(matchers []*promlabels.Matcher) bool {
	return accepts(matchers, telemetry.LabelReporter, telemetry.ReporterSource) || accepts(matchers, telemetry.LabelReporter, telemetry.ReporterWaypoint)
}

// accepts reports whether the matchers accept a value of a label.
func accepts(matchers []*promlabels.Matcher, label, value string) bool {
	return !slices.ContainsFunc(matchers, func(m *promlabels.Matcher) bool { return m.Name == label && !m.Matches(value) })
}
