package effect

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/istio/telemetry"
	"github.com/squall-chaos/squall/mesh"
)

// Callers returns the namespaces that have called each host in the last hour, by
// what their own proxies report. It returns an error when a host has none.
func Callers(ctx context.Context, query Query, hosts []string) (map[string][]experiments.Caller, error) {
	callers := map[string][]experiments.Caller{}
	for _, host := range hosts {
		selector := telemetry.Selector(telemetry.Requests, telemetry.BySource, telemetry.To(host))
		samples, err := query(ctx, fmt.Sprintf("group by (%s) (last_over_time(%s[1h]))", telemetry.LabelSourceNamespace, selector))
		if err != nil {
			return nil, err
		}
		var found []experiments.Caller
		for _, sample := range samples {
			if namespace := sample.Labels[telemetry.LabelSourceNamespace]; namespace != "" && namespace != telemetry.Unknown {
				found = append(found, experiments.Caller{Namespace: namespace})
			}
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("%s has no calls to %s from any namespace in the last hour; name spec.callers", telemetry.Requests, host)
		}
		slices.SortFunc(found, func(a, b experiments.Caller) int { return strings.Compare(a.Namespace, b.Namespace) })
		callers[host] = found
	}
	return callers, nil
}

// Silent returns a sentence for each set of callers of a plan that is named by labels of
// pods and has not called the target in the last hour, although other pods of the
// namespace have: the labels may be misspelt. It says nothing about labels that Istio's
// metrics do not have.
func Silent(ctx context.Context, query Query, decisions []mesh.Decision) ([]string, error) {
	var found []string
	for _, d := range decisions {
		var pods []map[string]string
		for i, wanted := range labelSets(d) {
			if i == 0 {
				var err error
				if pods, err = callingPods(ctx, query, newEdge(d)); err != nil {
					return found, err
				}
			}
			calls := func(pod map[string]string) bool { return labels.SelectorFromSet(wanted).Matches(labels.Set(pod)) }
			if len(pods) > 0 && !slices.ContainsFunc(pods, calls) {
				found = append(found, fmt.Sprintf("no caller in %s with %s has called %s in the last hour; callers with %s have",
					d.Callers, labels.FormatLabels(wanted), d.Host, listOf(pods, wanted)))
			}
		}
	}
	return found, nil
}

// labelSets returns the different sets of labels, as far as Istio's metrics have them, by
// which the injections of a plan that is not refused name callers.
func labelSets(d mesh.Decision) (sets []map[string]string) {
	if d.Placement == mesh.Refused {
		return nil
	}
	for _, i := range d.Injections {
		for _, caller := range i.Callers {
			measured := maps.Clone(caller.Labels)
			maps.DeleteFunc(measured, func(name, _ string) bool { _, ok := telemetry.PodLabel(name); return !ok })
			if len(measured) > 0 && !slices.ContainsFunc(sets, func(have map[string]string) bool { return maps.Equal(have, measured) }) {
				sets = append(sets, measured)
			}
		}
	}
	return sets
}

// podLabels are the labels of pods that Istio's metrics have.
func podLabels() []string { return []string{"app", "version"} }

// callingPods returns the labels of the pods that have made the calls of an edge in the
// last hour, as far as Istio's metrics have them.
func callingPods(ctx context.Context, query Query, e edge) (pods []map[string]string, err error) {
	var by []string
	for _, name := range podLabels() {
		label, _ := telemetry.PodLabel(name)
		by = append(by, label)
	}
	selector := telemetry.Selector(telemetry.Requests, telemetry.BySource, telemetry.ToAny(e.hosts), telemetry.From(e.callers))
	samples, err := query(ctx, fmt.Sprintf("group by (%s) (last_over_time(%s[1h]))", strings.Join(by, ", "), selector))
	if err != nil {
		return nil, err
	}
	for _, sample := range samples {
		pod := map[string]string{}
		for i, name := range podLabels() {
			if value := sample.Labels[by[i]]; value != "" && value != telemetry.Unknown {
				pod[name] = value
			}
		}
		if len(pod) > 0 { // metrics may be configured without these labels
			pods = append(pods, pod)
		}
	}
	return pods, nil
}

// maxListed is the largest number of pods that a sentence lists.
const maxListed = 10

// listOf lists the values that pods have of the wanted labels.
func listOf(pods []map[string]string, wanted map[string]string) string {
	var texts []string
	for _, pod := range pods {
		have := maps.Clone(pod)
		maps.DeleteFunc(have, func(name, _ string) bool { _, ok := wanted[name]; return !ok })
		if text := labels.FormatLabels(have); !slices.Contains(texts, text) {
			texts = append(texts, text)
		}
	}
	slices.Sort(texts)
	if more := len(texts) - maxListed; more > 0 {
		texts = append(texts[:maxListed], fmt.Sprintf("%d more", more))
	}
	return strings.Join(texts, " or ")
}
