package files

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/experiments/problem"
	"github.com/squall-chaos/squall/experiments/strictyaml"
)

// validator validates one document. It reports nothing about a field that could not
// be decoded, or that is around or inside one that could not.
type validator struct {
	in *loader
	// decoding are the problems of decoding the document.
	decoding problem.List
}

// experiment reports what is wrong with the values of a document.
func (v validator) experiment(e experiments.Experiment) {
	if e.APIVersion != experiments.APIVersion {
		v.report("apiVersion", fmt.Sprintf("must be %s", experiments.APIVersion), "")
	}
	if e.Kind == "" {
		v.report("kind", fmt.Sprintf("must be %s", experiments.Kind), "")
	}
	v.dnsLabel("metadata.name", e.Metadata.Name, "add a name: lower-case letters, digits and dashes")
	v.uniqueName(e.Metadata.Name)
	v.labels("metadata.labels", e.Metadata.Labels)
	checkTarget(v, "spec.target", e.Spec.Target)
	checkCallers(v, "spec.callers", e.Spec.Callers)
	checkMatches(v, "spec.match", e.Spec.Match)
	v.positive("spec.duration", e.Spec.Duration, "say how long the fault is active, such as 2m")
	checkFaults(v, e.Spec)
	checkSteadyState(v, e.Spec)
	checkStopConditions(v, e.Spec)
	if e.Spec.Effect.MinRequests < 0 {
		v.report("spec.effect.minRequests", "must not be negative", "0 requires no proof that the fault hit")
	}
	if share := e.Spec.Effect.MinShare; share != nil && (*share < 0 || *share > 1) {
		v.report("spec.effect.minShare", strconv.FormatFloat(float64(*share)*100, 'g', 10, 64)+"% cannot be", "0% to 100% of the wanted share; 0% does not check it")
	}
	v.positive("spec.recovery.within", e.Spec.Recovery.Within, "")
	if e.Spec.Schedule != nil {
		checkSchedule(v, *e.Spec.Schedule)
	}
}

// report reports a problem at a path, unless the path could not be decoded.
func (v validator) report(path, message, remedy string) {
	if !v.undecoded(path) {
		v.in.Report(path, message, remedy)
	}
}

// undecoded reports whether a path could not be decoded, or is around or inside one
// that could not.
func (v validator) undecoded(path string) bool {
	return slices.ContainsFunc(v.decoding, func(p problem.Problem) bool { return within(p.Path, path) || within(path, p.Path) })
}

// within reports whether path is outer or inside it.
func within(path, outer string) bool {
	rest, ok := strings.CutPrefix(path, outer)
	return ok && (rest == "" || outer == "" || rest[0] == '.' || rest[0] == '[')
}

func (v validator) dnsLabel(path, value, remedy string) {
	if value == "" {
		v.report(path, "is missing", remedy)
		return
	}
	for _, message := range validation.IsDNS1123Label(value) {
		v.report(path, fmt.Sprintf("%q is not a name: %s", value, rule(message)), "")
	}
}

// uniqueName reports two experiments of the same name in a file: reports, locks and
// schedules identify an experiment by its name.
func (v validator) uniqueName(name string) {
	node := v.in.Node("metadata.name")
	if node == nil || name == "" {
		return
	}
	if first, twice := v.in.names[name]; twice {
		v.report("metadata.name", fmt.Sprintf("another experiment is named %q, on line %d", name, first), "rename one")
		return
	}
	v.in.names[name] = node.Line
}

func (v validator) labels(path string, labels map[string]string) {
	for key, value := range labels {
		for _, message := range validation.IsQualifiedName(key) {
			v.report(strictyaml.Child(path, key), "is not a label key: "+rule(message), "")
		}
		for _, message := range validation.IsValidLabelValue(value) {
			v.report(strictyaml.Child(path, key), fmt.Sprintf("%q is not a label value: %s", value, rule(message)), "")
		}
	}
}

// rule returns the rule in a message of Kubernetes' validation, without its examples.
func rule(message string) string {
	message, _, _ = strings.Cut(message, " (e.g.")
	return message
}

func (v validator) positive(path string, d experiments.Duration, remedy string) {
	switch {
	case d.Duration == 0 && v.in.Node(path) == nil:
		v.report(path, "is missing", remedy)
	case d.Duration <= 0:
		v.report(path, fmt.Sprintf("must be positive, got %s", d), "")
	}
}

// notZero reports a duration that is written and is not positive. An omitted one has
// a default.
func (v validator) notZero(path string, d experiments.Duration) {
	if d.Duration < 0 || d.Duration == 0 && v.in.Node(path) != nil {
		v.report(path, fmt.Sprintf("must be positive, got %s", d), "")
	}
}

func (v validator) notNegative(path string, d experiments.Duration) {
	if d.Duration < 0 {
		v.report(path, fmt.Sprintf("must not be negative, got %s", d), "")
	}
}

func (v validator) oneOf(path, value string, known ...string) {
	if !slices.Contains(known, value) {
		message := fmt.Sprintf("%q is not known", value)
		if value == "" {
			message = "is missing"
		}
		v.report(path, message, "write "+strings.Join(known[:len(known)-1], ", ")+" or "+known[len(known)-1])
	}
}

// sortedKeys returns the keys of a map in order, so that problems are always reported
// in the same order.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// zeros reports zeros that are written where an omission means a default. After the
// defaults are filled in the two cannot be told apart.
func (v validator) zeros(e experiments.Experiment) {
	v.notZero("spec.steadyState.before", e.Spec.SteadyState.Before)
	for i, p := range e.Spec.SteadyState.Probes {
		v.zerosOf(fmt.Sprintf("spec.steadyState.probes[%d]", i), p.Measure)
	}
	for i, c := range e.Spec.StopConditions {
		v.zerosOf(fmt.Sprintf("spec.stopConditions[%d]", i), c.Measure)
	}
	if c := e.Spec.Schedule; c != nil {
		v.notZero("spec.schedule.startingDeadline", c.StartingDeadline)
	}
}

func (v validator) zerosOf(path string, m experiments.Measure) {
	if m.SuccessRate != nil {
		v.notZero(path+".successRate.window", m.SuccessRate.Window)
	}
	if m.RequestRate != nil {
		v.notZero(path+".requestRate.window", m.RequestRate.Window)
	}
	if m.Latency == nil {
		return
	}
	v.notZero(path+".latency.window", m.Latency.Window)
	if m.Latency.Quantile == 0 && v.in.Node(path+".latency.quantile") != nil {
		v.report(path+".latency.quantile", "0 is not a quantile", "between 0 and 1, such as 0.99")
	}
}

// istioFields says what to write in place of fields that Istio or Kubernetes has and
// an experiment does not.
var istioFields = map[reflect.Type]map[string]string{ //nolint:gochecknoglobals // a constant table
	reflect.TypeFor[experiments.Match](): {
		"sourceLabels":    "name the callers' labels in spec.callers",
		"sourceNamespace": "name the callers' namespace in spec.callers",
		"port":            "write it in spec.target",
		"gateways":        "name the pods of a gateway in spec.callers: {gateway: {namespace: istio-ingress, labels: {istio: ingressgateway}}}",
	},
	reflect.TypeFor[experiments.Metadata](): {
		"namespace":   "an experiment does not have it; write spec.target.namespace",
		"annotations": "an experiment does not have it; write spec.description",
	},
	reflect.TypeFor[experiments.Delay](): {
		"percent":          "write percentage next to delay; it belongs to the fault",
		"exponentialDelay": "Istio does not support it; write fixedDelay",
		"percentage":       "write it next to delay; it belongs to the fault",
	},
	reflect.TypeFor[experiments.Abort](): {
		"percentage": "write it next to abort; it belongs to the fault",
		"http2Error": "Istio does not support it; write httpStatus or grpcStatus",
	},
}
