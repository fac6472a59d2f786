package experiments

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
)

// grpcStatusNames are the status names that an abort may carry: those that
// Istio translates (istio.io/istio/pkg/util/grpc, SupportedGRPCStatus),
// without OK, which would abort a call by letting it succeed.
var grpcStatusNames = []string{ //nolint:gochecknoglobals // a constant list
	"CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "UNAUTHENTICATED",
	"RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS",
}

// smallestPercentage is the finest share that Istio keeps: it multiplies by
// 10,000 and cuts off the rest (pilot/pkg/networking/core/route, TranslateFault).
const smallestPercentage = 0.0001

// maxRegexLength is how long a regex may be in Istio's validation.
const maxRegexLength = 1024

// validate reports what a document's values contradict. A field that could not
// be decoded, or that lies around or inside one that could not, is not judged
// again.
func (l *loader) validate(e *Experiment, decoding Problems) {
	v := validator{loader: l, decoding: decoding}
	switch {
	case e.APIVersion != APIVersion:
		v.report("apiVersion", fmt.Sprintf("must be %s", APIVersion), "")
	case e.Kind != Kind:
		v.report("kind", fmt.Sprintf("must be %s", Kind), "")
	}
	v.dnsLabel("metadata.name", e.Metadata.Name, "give the experiment a name: lower-case letters, digits and dashes")
	v.uniqueName(e.Metadata.Name)
	v.labels("metadata.labels", e.Metadata.Labels)
	v.target(e.Spec.Target)
	v.callers(e.Spec.Callers)
	v.match(e.Spec.Match)
	v.faults(e.Spec.Faults)
	v.positive("spec.duration", e.Spec.Duration, "say how long the fault stays in force, such as 2m")
	v.steadyState(e.Spec.SteadyState)
	v.times(e.Spec)
	if e.Spec.Effect.MinRequests < 0 {
		v.report("spec.effect.minRequests", "must not be negative", "0 asks for no proof that the fault hit")
	}
	v.positive("spec.recovery.within", e.Spec.Recovery.Within, "")
}

type validator struct {
	*loader
	decoding Problems
}

func (v validator) report(path, message, remedy string) {
	for _, p := range v.decoding {
		if within(p.Path, path) || within(path, p.Path) {
			return
		}
	}
	v.problem(path, message, remedy)
}

// within reports whether path is outer or lies inside it.
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

// uniqueName refuses two experiments of one name in a file: a report, a lock
// and a schedule all know an experiment by it.
func (v validator) uniqueName(name string) {
	node, ok := v.positions["metadata.name"]
	if !ok || name == "" {
		return
	}
	if first, twice := v.names[name]; twice {
		v.report("metadata.name", fmt.Sprintf("another experiment is named %q, on line %d", name, first), "rename one")
		return
	}
	v.names[name] = node.Line
}

func (v validator) labels(path string, labels map[string]string) {
	for key, value := range labels {
		for _, message := range validation.IsQualifiedName(key) {
			v.report(child(path, key), "is not a label key: "+rule(message), "")
		}
		for _, message := range validation.IsValidLabelValue(value) {
			v.report(child(path, key), fmt.Sprintf("%q is not a label value: %s", value, rule(message)), "")
		}
	}
}

// rule shortens a message of Kubernetes' validation to the rule that it
// states.
func rule(message string) string {
	message, _, _ = strings.Cut(message, " (e.g.")
	return message
}

func (v validator) positive(path string, d Duration, remedy string) {
	switch {
	case d.Duration == 0:
		v.report(path, "is missing", remedy)
	case d.Duration < 0:
		v.report(path, fmt.Sprintf("%s is not a length of time", d), "")
	}
}

func (v validator) target(t Target) {
	const path = "spec.target.host"
	switch _, err := netip.ParseAddr(t.Host); {
	case t.Host == "":
		v.report(path, "is missing", "name the host whose calls are disturbed, such as ratings.prod.svc.cluster.local")
	case strings.HasPrefix(t.Host, "*"):
		v.report(path, fmt.Sprintf("%q is a wildcard", t.Host), "name one host; a shadow is made for exactly one")
	case err == nil:
		// An IP address is a host name to Istio.
	default:
		for _, message := range validation.IsDNS1123Subdomain(t.Host) {
			v.report(path, fmt.Sprintf("%q is not a host name: %s", t.Host, rule(message)), "")
		}
	}
	if t.Namespace != "" {
		v.dnsLabel("spec.target.namespace", t.Namespace, "")
	} else if t.Host != "" && !strings.Contains(t.Host, ".") {
		v.report(path, fmt.Sprintf("%q is a short name, and there is no namespace", t.Host), fmt.Sprintf("add namespace beside it, or write %s.NAMESPACE.svc.cluster.local", t.Host))
	}
	if t.Port < 0 || t.Port > 65535 {
		v.report("spec.target.port", fmt.Sprintf("%d is not a port", t.Port), "1 to 65535, or leave it out for all ports")
	}
}

func (v validator) callers(callers []Caller) {
	for i, caller := range callers {
		path := fmt.Sprintf("spec.callers[%d]", i)
		v.dnsLabel(path+".namespace", caller.Namespace, "name the namespace of the callers")
		v.labels(path+".labels", caller.Labels)
	}
}

// headerName is an HTTP token as a header name must be, in lower case because
// Istio compares with HTTP/2's lower-case names.
var headerName = regexp.MustCompile("^[a-z0-9!#$%&'*+.^_`|~-]+$")

func (v validator) match(matches []Match) {
	for i, match := range matches {
		path := fmt.Sprintf("spec.match[%d]", i)
		if len(match.Headers) == 0 {
			v.report(path, "has no condition", "an empty match takes every request; remove it, or name a header")
		}
		for name, value := range match.Headers {
			at := path + ".headers." + name
			if !headerName.MatchString(name) {
				v.report(at, "is not a header name in lower case", fmt.Sprintf("write %s", strings.ToLower(name)))
			}
			v.stringMatch(at, value)
		}
	}
}

func (v validator) stringMatch(path string, m StringMatch) {
	set := 0
	for _, value := range []*string{m.Exact, m.Prefix, m.Regex} {
		if value != nil {
			set++
		}
	}
	switch {
	case set != 1:
		v.report(path, "must have exactly one of exact, prefix and regex", "")
	case m.Prefix != nil && *m.Prefix == "":
		v.report(path+".prefix", "is empty", "to ask only for the header's presence, use regex: \".*\"")
	case m.Regex != nil:
		v.regex(path+".regex", *m.Regex)
	}
}

func (v validator) regex(path, expression string) {
	switch _, err := regexp.Compile(expression); {
	case expression == "":
		v.report(path, "is empty", "")
	case len(expression) > maxRegexLength:
		v.report(path, fmt.Sprintf("is %d bytes long; Istio takes at most %d", len(expression), maxRegexLength), "")
	case err != nil:
		v.report(path, "is not an RE2 regex: "+strings.TrimPrefix(err.Error(), "error parsing regexp: "), "")
	}
}

func (v validator) faults(faults []Fault) {
	const path = "spec.faults"
	switch {
	case len(faults) == 0:
		v.report(path, "is missing", "name at least one fault: abort or delay")
	case len(faults) > 1:
		v.report(path+"[1]", "this version of Squall takes one fault an experiment", "put abort and delay side by side in one fault, or write a second experiment")
	}
	for i, fault := range faults {
		v.fault(fmt.Sprintf("%s[%d]", path, i), fault)
	}
}

func (v validator) fault(path string, f Fault) {
	if f.Name != "" {
		v.dnsLabel(path+".name", f.Name, "")
	}
	if f.Abort == nil && f.Delay == nil {
		v.report(path, "has neither abort nor delay", "abort: {httpStatus: 503} or delay: {fixedDelay: 2s}")
	}
	switch {
	case f.Percentage == nil:
		v.report(path+".percentage", "is missing", "Istio reads an omitted percentage as 0, a fault that never strikes; write 100 for every request")
	case *f.Percentage < smallestPercentage || *f.Percentage > 100:
		v.report(path+".percentage", fmt.Sprintf("%v is not a share of requests", float64(*f.Percentage)), "from 0.0001, the smallest that Istio keeps, to 100")
	}
	if f.Abort != nil {
		v.abort(path+".abort", *f.Abort)
	}
	if f.Delay != nil {
		v.positive(path+".delay.fixedDelay", f.Delay.FixedDelay, "say how long a request is held, such as 2s")
		if f.Delay.FixedDelay.Duration%time.Millisecond != 0 {
			v.report(path+".delay.fixedDelay", fmt.Sprintf("%s is not whole milliseconds", f.Delay.FixedDelay), "")
		}
	}
}

func (v validator) abort(path string, a Abort) {
	switch {
	case a.HTTPStatus == 0 && a.GRPCStatus == "":
		v.report(path, "has no status", "httpStatus: 503 or grpcStatus: UNAVAILABLE")
	case a.HTTPStatus != 0 && a.GRPCStatus != "":
		v.report(path, "has both httpStatus and grpcStatus", "keep one")
	case a.HTTPStatus != 0 && (a.HTTPStatus < 200 || a.HTTPStatus > 599):
		v.report(path+".httpStatus", fmt.Sprintf("%d is not a status that Envoy can answer with", a.HTTPStatus), "200 to 599")
	case a.GRPCStatus != "" && !slices.Contains(grpcStatusNames, a.GRPCStatus):
		v.report(path+".grpcStatus", fmt.Sprintf("%q is not a gRPC error status", a.GRPCStatus), suggestion(a.GRPCStatus, grpcStatusNames))
	}
}

// shortestInterval keeps a typing error (5ms for 5s) from flooding Prometheus.
const shortestInterval = 100 * time.Millisecond

func (v validator) steadyState(s SteadyState) {
	const path = "spec.steadyState"
	if s.Interval.Duration < shortestInterval {
		v.report(path+".interval", fmt.Sprintf("%s is too short", s.Interval), fmt.Sprintf("at least %s", shortestInterval))
	}
	if s.Before.Duration < 0 {
		v.report(path+".before", fmt.Sprintf("%s is not a length of time", s.Before), "")
	}
	if len(s.Probes) == 0 {
		v.report(path+".probes", "is missing", "without a probe nothing says whether the system coped; name at least one")
	}
	names := map[string]int{}
	for i, probe := range s.Probes {
		at := fmt.Sprintf("%s.probes[%d]", path, i)
		if first, twice := names[probe.Name]; twice && probe.Name != "" {
			v.report(at+".name", fmt.Sprintf("%q is also the name of probe %d", probe.Name, first+1), "rename one")
		}
		names[probe.Name] = i
		v.probe(at, probe)
	}
}

// times refuses a hypothesis that would never be judged.
func (v validator) times(s Spec) {
	if s.Duration.Duration <= 0 {
		return
	}
	if s.SteadyState.Interval.Duration > s.Duration.Duration {
		v.report("spec.steadyState.interval", fmt.Sprintf("%s is longer than the experiment, %s", s.SteadyState.Interval, s.Duration), "nothing would be measured while the fault is in force")
	}
	for i, p := range s.SteadyState.Probes {
		path := fmt.Sprintf("spec.steadyState.probes[%d].settle", i)
		switch {
		case p.In(During) && p.Settle.Duration >= s.Duration.Duration:
			v.report(path, fmt.Sprintf("%s is not shorter than the experiment, %s", p.Settle, s.Duration), "the probe would never be judged while the fault is in force")
		case p.In(After) && p.Settle.Duration >= s.Recovery.Within.Duration:
			v.report(path, fmt.Sprintf("%s is not shorter than recovery.within, %s", p.Settle, s.Recovery.Within), "the probe would never be judged after the fault")
		}
	}
}

func (v validator) probe(path string, p Probe) {
	if strings.TrimSpace(p.Name) == "" {
		v.report(path+".name", "is missing", "say what must stay true, such as: product page answers")
	}
	if strings.TrimSpace(p.Query) == "" {
		v.report(path+".query", "is missing", "a PromQL expression that gives one number")
	}
	switch {
	case p.Min == nil && p.Max == nil:
		v.report(path, "has neither min nor max", "say which values are healthy")
	case p.Min != nil && p.Max != nil && *p.Min > *p.Max:
		v.report(path+".min", fmt.Sprintf("%v is above max %v", *p.Min, *p.Max), "no value can be inside")
	}
	for i, phase := range p.Phases {
		if phase != Before && phase != During && phase != After {
			v.report(fmt.Sprintf("%s.phases[%d]", path, i), fmt.Sprintf("%q is not a phase", phase), "before, during or after")
		}
	}
	if len(p.Phases) == 0 {
		v.report(path+".phases", "is empty", "leave it out for all three")
	}
	if p.Settle.Duration < 0 {
		v.report(path+".settle", fmt.Sprintf("%s is not a length of time", p.Settle), "")
	}
	if p.FailureLimit < 0 {
		v.report(path+".failureLimit", "must not be negative", "")
	}
	if p.NoData != NoDataInconclusive && p.NoData != NoDataFail && p.NoData != NoDataPass {
		v.report(path+".noData", fmt.Sprintf("%q is not known", p.NoData), "inconclusive, fail or pass")
	}
}
