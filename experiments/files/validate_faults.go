package files

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/experiments/strictyaml"
)

func checkFaults(v validator, s experiments.Spec) {
	const path = "spec.faults"
	if len(s.Faults) == 0 && v.in.Node(path) == nil {
		v.report(path, "is missing", "name at least one fault: abort, delay or blackhole")
	}
	v.list(path, len(s.Faults))
	if len(s.Faults) > maxItems {
		return
	}
	injections := s.Injections()
	names := map[string]int{}
	for i, fault := range s.Faults {
		at := fmt.Sprintf("%s[%d]", path, i)
		if first, twice := names[fault.Name]; twice && fault.Name != "" {
			v.report(at+".name", fmt.Sprintf("%q is also the name of fault %d", fault.Name, first+1), "rename one")
		}
		names[fault.Name] = i
		checkFault(v, at, fault)
		checkFaultTimes(v, at, fault, s.Duration)
		if injections[i].Target.Subset != "" && fault.Blackhole == nil {
			v.report(at, "cannot be narrowed to a subset", "Envoy injects aborts and delays before it chooses the subset; use a blackhole, or remove subset from the target")
		}
		for _, other := range injections[:i] {
			checkContradiction(v, at, injections[i], other)
		}
	}
}

func checkFault(v validator, path string, f experiments.Fault) {
	if f.Name != "" {
		v.dnsLabel(path+".name", f.Name, "")
	}
	switch {
	case f.Abort == nil && f.Delay == nil && f.Blackhole == nil:
		v.report(path, "has neither abort nor delay nor blackhole", "abort: {httpStatus: 503}, delay: {fixedDelay: 2s} or blackhole: {mode: drop}")
	case f.Blackhole != nil && (f.Abort != nil || f.Delay != nil):
		v.report(path+".blackhole", "cannot be combined with an abort or a delay", "those act before the router, so some requests would not reach the blackhole; make two faults")
	}
	checkPercentage(v, path+".percentage", f.Percentage)
	if f.Abort != nil {
		checkAbort(v, path+".abort", *f.Abort)
	}
	if f.Delay != nil {
		v.positive(path+".delay.fixedDelay", f.Delay.FixedDelay, "say how long a request is held, such as 2s")
		if f.Delay.FixedDelay.Duration%time.Millisecond != 0 {
			v.report(path+".delay.fixedDelay", fmt.Sprintf("%s is not a whole number of milliseconds", f.Delay.FixedDelay), "")
		}
	}
	if f.Blackhole != nil {
		v.oneOf(path+".blackhole.mode", string(f.Blackhole.Mode), string(experiments.Reject), string(experiments.Drop))
	}
	if f.Target != nil {
		checkTarget(v, path+".target", *f.Target)
	}
	checkCallers(v, path+".callers", f.Callers)
	checkMatches(v, path+".match", f.Match)
}

func checkPercentage(v validator, path string, p *experiments.Percentage) {
	switch {
	case p == nil:
		v.report(path, "is missing", "Istio reads an omitted percentage as 0, a fault that never hits; write 100 for every request")
	case math.IsNaN(float64(*p)): // {value: …} without a value
		v.report(path, "has no value", "write a number, or {value: 50}")
	case *p < experiments.SmallestPercentage || *p > 100:
		v.report(path, fmt.Sprintf("%v is not a percentage of requests", float64(*p)), "from 0.0001, the smallest that Istio has, to 100")
	}
}

func checkAbort(v validator, path string, a experiments.Abort) {
	hasHTTP := a.HTTPStatus != 0 || v.in.Node(path+".httpStatus") != nil
	switch {
	case !hasHTTP && a.GRPCStatus == "":
		v.report(path, "has no status", "httpStatus: 503 or grpcStatus: UNAVAILABLE")
	case hasHTTP && a.GRPCStatus != "":
		v.report(path, "has both httpStatus and grpcStatus", "keep one")
	case hasHTTP && (a.HTTPStatus < 200 || a.HTTPStatus > 599):
		v.report(path+".httpStatus", fmt.Sprintf("%d is not a status that Envoy can answer with", a.HTTPStatus), "200 to 599")
	case a.GRPCStatus != "" && !slices.Contains(experiments.GRPCErrors(), a.GRPCStatus):
		v.report(path+".grpcStatus", fmt.Sprintf("%q is not a gRPC error status", a.GRPCStatus), grpcRemedy(a.GRPCStatus))
	}
}

// grpcRemedy returns what to write in place of a status that does not exist.
func grpcRemedy(written experiments.GRPCStatus) string {
	if named, ok := experiments.NumberedGRPCStatus(string(written)); ok {
		return "write " + string(named)
	}
	var names []string
	for _, status := range experiments.GRPCErrors() {
		names = append(names, string(status))
	}
	return strictyaml.Suggest(string(written), names)
}

// checkFaultTimes reports a fault that would never be active, or whose delay is longer
// than the fault: a rollback does not release requests that are being delayed.
func checkFaultTimes(v validator, path string, f experiments.Fault, duration experiments.Duration) {
	v.notNegative(path+".startAfter", f.StartAfter)
	v.notZero(path+".duration", f.Duration)
	if duration.Duration <= 0 {
		return
	}
	left := duration.Duration - f.StartAfter.Duration
	switch {
	case left <= 0:
		v.report(path+".startAfter", fmt.Sprintf("%s is not before the end of the experiment, %s", f.StartAfter, duration), "the fault would never start")
		return
	case f.Duration.Duration > left:
		v.report(path+".duration", fmt.Sprintf("%s ends after the experiment, which lasts %s", f.Duration, duration), fmt.Sprintf("at most %s is left after startAfter", experiments.Duration{Duration: left}))
		return
	case f.Duration.Duration > 0:
		left = f.Duration.Duration
	}
	if f.Delay != nil && f.Delay.FixedDelay.Duration > left {
		v.report(path+".delay.fixedDelay", fmt.Sprintf("%s is longer than the fault, %s", f.Delay.FixedDelay, experiments.Duration{Duration: left}), "a rollback does not release requests that are being delayed; make the delay shorter")
	}
}

// checkContradiction reports two faults that are for the same requests at the same time and
// cannot both hit them: Istio has one abort and one delay for a request, and a
// blackhole acts after both.
func checkContradiction(v validator, path string, a, b experiments.Injection) {
	same := reflect.DeepEqual(a.Target, b.Target) && reflect.DeepEqual(a.Callers, b.Callers) && reflect.DeepEqual(a.Match, b.Match)
	if !same || !a.Overlaps(b) {
		return
	}
	message := ""
	switch {
	case a.Fault.Abort != nil && b.Fault.Abort != nil:
		message = "aborts"
	case a.Fault.Delay != nil && b.Fault.Delay != nil:
		message = "delays"
	case a.Fault.Blackhole != nil || b.Fault.Blackhole != nil:
		message = "claims"
	default:
		return
	}
	v.report(path, fmt.Sprintf("%s the same requests as fault %d at the same time", message, b.Number+1), "give them different matches, or times that do not overlap")
}
