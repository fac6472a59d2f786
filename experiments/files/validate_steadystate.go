package files

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/promql/parser"
	"gopkg.in/yaml.v3"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/experiments/problem"
	"github.com/squall-chaos/squall/experiments/strictyaml"
	"github.com/squall-chaos/squall/internal/promql"
)

// shortestInterval protects Prometheus from a typing error, such as 5ms for 5s.
const shortestInterval = 100 * time.Millisecond

func checkSteadyState(v validator, s experiments.Spec) {
	const path = "spec.steadyState"
	state := s.SteadyState
	if state.Interval.Duration < shortestInterval {
		v.report(path+".interval", fmt.Sprintf("%s is too short", state.Interval), fmt.Sprintf("at least %s", shortestInterval))
	}
	if state.Probes == nil {
		v.report(path+".probes", "is missing", "without a probe the run has no verdict; write probes: [] to test nothing on purpose")
	}
	if s.Duration.Duration > 0 && state.Interval.Duration > s.Duration.Duration {
		v.report(path+".interval", fmt.Sprintf("%s is longer than the experiment, %s", state.Interval, s.Duration), "nothing would be measured while the fault is active")
	}
	judgedLater := func(p experiments.Probe) bool {
		return !slices.Equal(p.Phases, []experiments.Phase{experiments.Before})
	}
	if len(state.Probes) > 0 && !slices.ContainsFunc(state.Probes, judgedLater) {
		v.report(path+".probes", "are judged before the fault only", "no probe would detect the effect of the fault; add the phase during or after to a probe")
	}
	if len(state.Probes) > maxItems {
		v.report(path+".probes", fmt.Sprintf("has %d items; Squall takes at most %d", len(state.Probes), maxItems), "")
		return
	}
	names := map[string]int{}
	for i, probe := range state.Probes {
		at := fmt.Sprintf("%s.probes[%d]", path, i)
		checkUniqueProbe(v, at, probe.Name, i, names)
		checkProbe(v, at, probe)
		checkSettle(v, at+".settle", probe, s)
	}
}

func checkUniqueProbe(v validator, path, name string, number int, names map[string]int) {
	if strings.TrimSpace(name) == "" {
		v.report(path+".name", "is missing", "say what must stay true, such as: product page answers")
		return
	}
	if first, twice := names[name]; twice {
		v.report(path+".name", fmt.Sprintf("%q is also the name of number %d", name, first+1), "rename one")
		return
	}
	names[name] = number
}

func checkProbe(v validator, path string, p experiments.Probe) {
	checkMeasure(v, path, p.Measure, "query, successRate, latency or requestRate")
	checkBounds(v, path, p.Measure, p.Min, p.Max)
	if p.Min == nil && p.Max == nil && p.MaxDrop == nil && p.MaxRise == nil {
		v.report(path, "has none of min, max, maxDrop and maxRise", "say which values are healthy")
	}
	checkRelative(v, path, p)
	for i, phase := range p.Phases {
		v.oneOf(fmt.Sprintf("%s.phases[%d]", path, i), string(phase), string(experiments.Before), string(experiments.During), string(experiments.After))
	}
	if len(p.Phases) == 0 {
		v.report(path+".phases", "is empty", "leave it out for all three")
	}
	v.notNegative(path+".settle", p.Settle)
	if p.FailureLimit < 0 {
		v.report(path+".failureLimit", "must not be negative", "")
	}
	v.oneOf(path+".noData", string(p.NoData), string(experiments.NoDataInconclusive), string(experiments.NoDataFail), string(experiments.NoDataPass))
}

// checkRelative reports relative tolerances without a baseline.
func checkRelative(v validator, path string, p experiments.Probe) {
	for field, share := range map[string]*experiments.Share{"maxDrop": p.MaxDrop, "maxRise": p.MaxRise} {
		switch {
		case share == nil:
			continue
		case *share < 0 || field == "maxDrop" && *share > 1:
			v.report(strictyaml.Child(path, field), strconv.FormatFloat(float64(*share)*100, 'g', 10, 64)+"% cannot be", "0% to 100%; a rise may be more")
		}
		if len(p.Phases) > 0 && !p.In(experiments.Before) {
			v.report(strictyaml.Child(path, field), "is relative to the baseline, and the probe is not measured before the fault", "add before to phases")
		}
	}
}

// checkSettle reports a probe that would never be judged, or whose failure limit could
// never be exceeded.
func checkSettle(v validator, path string, p experiments.Probe, s experiments.Spec) {
	interval := s.SteadyState.Interval.Duration
	if s.Duration.Duration <= 0 || interval < shortestInterval {
		return
	}
	measurements := s.Duration.Duration / interval
	// The first measurement is one interval after the start, and those before settle
	// are not judged.
	judged := measurements - max(0, (p.Settle.Duration-1)/interval)
	switch {
	case p.In(experiments.During) && measurements > 0 && p.Settle.Duration > measurements*interval:
		v.report(path, fmt.Sprintf("%s is later than the last measurement while the fault is active, at %s", p.Settle, experiments.Duration{Duration: measurements * interval}), "the probe would never be judged then")
	case p.In(experiments.During) && measurements > 0 && p.FailureLimit > 0 && int64(p.FailureLimit) >= int64(judged):
		v.report(strings.TrimSuffix(path, "settle")+"failureLimit", fmt.Sprintf("%d is not below the number of measurements that are judged while the fault is active, %d", p.FailureLimit, int64(judged)), "no number of misses would decide")
	case p.In(experiments.After) && p.Settle.Duration >= s.Recovery.Within.Duration && s.Recovery.Within.Duration > 0:
		v.report(path, fmt.Sprintf("%s is not shorter than recovery.within, %s", p.Settle, s.Recovery.Within), "the probe would never be judged after the fault")
	}
}

func checkStopConditions(v validator, s experiments.Spec) {
	v.list("spec.stopConditions", len(s.StopConditions))
	if len(s.StopConditions) > maxItems {
		return
	}
	names := map[string]int{}
	for i, probe := range s.SteadyState.Probes {
		names[probe.Name] = i
	}
	for i, c := range s.StopConditions {
		path := fmt.Sprintf("spec.stopConditions[%d]", i)
		checkUniqueProbe(v, path, c.Name, i, names)
		v.oneOf(path+".noData", string(c.NoData), string(experiments.NoDataInconclusive), string(experiments.NoDataFail), string(experiments.NoDataPass))
		if c.Alerts == nil {
			checkMeasure(v, path, c.Measure, "query, successRate, latency, requestRate or alerts")
			checkBounds(v, path, c.Measure, c.Min, c.Max)
			if c.Min == nil && c.Max == nil {
				v.report(path, "has neither min nor max", "say which values are healthy")
			}
			continue
		}
		if c.Measure != (experiments.Measure{}) || c.Min != nil || c.Max != nil {
			v.report(path+".alerts", "cannot be combined with a query or a tolerance", "alerts are healthy if none fires; make two stop conditions")
		}
		if len(c.Alerts) == 0 {
			v.report(path+".alerts", "has no label", "name the labels of the alerts, such as severity: critical")
		}
		for _, label := range sortedKeys(c.Alerts) {
			if label == "alertstate" {
				v.report(strictyaml.Child(path+".alerts", label), "is chosen by Squall: firing", "remove it")
			}
			if len(validation.IsCIdentifier(label)) > 0 {
				v.report(strictyaml.Child(path+".alerts", label), "is not the name of a Prometheus label", "letters, digits and underscores")
			}
		}
	}
}

// checkMeasure reports a measure that is not exactly one of the known ones, or a query that
// does not return one number.
func checkMeasure(v validator, path string, m experiments.Measure, known string) {
	set := 0
	for _, is := range []bool{v.in.Node(path+".query") != nil, m.SuccessRate != nil, m.Latency != nil, m.RequestRate != nil} {
		if is {
			set++
		}
	}
	switch {
	case set == 0:
		v.report(path, "measures nothing", "name one of "+known)
		return
	case set > 1:
		v.report(path, "measures several things", "keep one of "+known)
		return
	}
	switch {
	case m.SuccessRate != nil:
		checkBuiltIn(v, path+".successRate", m.SuccessRate.Destination, m.SuccessRate.Window)
	case m.Latency != nil:
		checkBuiltIn(v, path+".latency", m.Latency.Destination, m.Latency.Window)
		if q := m.Latency.Quantile; q <= 0 || q >= 1 {
			v.report(path+".latency.quantile", fmt.Sprintf("%v is not a quantile", q), "between 0 and 1, such as 0.99")
		}
	case m.RequestRate != nil:
		checkBuiltIn(v, path+".requestRate", m.RequestRate.Destination, m.RequestRate.Window)
	default:
		checkPromQL(v, path+".query", m.Query)
	}
}

func checkBuiltIn(v validator, path, destination string, window experiments.Duration) {
	switch {
	case destination == "":
		v.report(path+".destination", "is missing", "name the service, such as productpage.shop")
	case !strings.Contains(destination, "."):
		v.report(path+".destination", fmt.Sprintf("%q has no namespace", destination), fmt.Sprintf("write %s.NAMESPACE", destination))
	default:
		for _, message := range validation.IsDNS1123Subdomain(destination) {
			v.report(path+".destination", fmt.Sprintf("%q is not a host name: %s", destination, rule(message)), "")
		}
	}
	if window.Duration < time.Second {
		v.report(path+".window", fmt.Sprintf("%s is too short", window), "at least two scrape intervals of Prometheus")
	}
}

// checkBounds reports an empty tolerance, and a duration for a measure that is not a
// time.
func checkBounds(v validator, path string, m experiments.Measure, low, high *experiments.Bound) {
	if low != nil && high != nil && low.Value() > high.Value() {
		v.report(path+".min", fmt.Sprintf("%v is above max, %v", low.Value(), high.Value()), "no value is inside")
	}
	for field, bound := range map[string]*experiments.Bound{"min": low, "max": high} {
		if bound != nil && bound.Duration() != 0 && m.Latency == nil {
			v.report(strictyaml.Child(path, field), fmt.Sprintf("%s is a duration, and only a latency is a time", bound.Duration()), "write the number in the query's own unit")
		}
	}
	if m.SuccessRate == nil {
		return
	}
	for field, bound := range map[string]*experiments.Bound{"min": low, "max": high} {
		if bound != nil && (bound.Value() < 0 || bound.Value() > 1) {
			v.report(strictyaml.Child(path, field), fmt.Sprintf("%v is not a share; successRate goes from 0 to 1", bound.Value()), "write "+strconv.FormatFloat(math.Abs(bound.Value())/100, 'g', 10, 64))
		}
	}
}

// maxQueries bounds the sum of the queries of one file in bytes, wherever they come
// from: with YAML aliases a small file has large ones.
const maxQueries = 256 << 10

// checkPromQL parses a query with Prometheus's parser and reports problems at their
// positions inside the query.
func checkPromQL(v validator, path, query string) {
	if strings.TrimSpace(query) == "" {
		v.report(path, "is empty", "a PromQL expression that returns one number")
		return
	}
	if v.in.queries += len(query); v.in.queries > maxQueries {
		v.report(path, fmt.Sprintf("makes the queries of the file longer than %d bytes together", maxQueries), "split the file")
		return
	}
	expression, err := promql.Parse(query)
	if bound, ok := errors.AsType[*promql.BoundError](err); ok {
		v.report(path, bound.Error(), "make it a recording rule")
		return
	}
	if failures, ok := errors.AsType[parser.ParseErrors](err); ok && len(failures) > 0 {
		for _, failure := range failures {
			checkInQuery(v, path, query, int(failure.PositionRange.Start), "is not PromQL: "+failure.Err.Error(), "")
		}
		return
	}
	if err != nil {
		v.report(path, "is not PromQL: "+err.Error(), "")
		return
	}
	switch kind := expression.Type(); kind {
	case parser.ValueTypeScalar, parser.ValueTypeVector:
	case parser.ValueTypeMatrix:
		v.report(path, "returns a range of values, not a number", "put it in rate(…), increase(…) or another function over time")
	default:
		v.report(path, fmt.Sprintf("returns a %s, not a number", kind), "")
	}
}

// checkInQuery reports a problem at a byte of a query, or at the query if its position in
// the file cannot be found.
func checkInQuery(v validator, path, query string, offset int, message, remedy string) {
	if v.undecoded(path) {
		return
	}
	node := v.in.Node(path)
	if node == nil {
		v.in.Report(path, message, remedy)
		return
	}
	offset = min(max(offset, 0), len(query))
	before := query[:offset]
	line, column := strings.Count(before, "\n"), len(before)-strings.LastIndexByte(before, '\n')-1
	at, ok := checkPlace(v, node, query, line)
	if !ok {
		v.in.Report(path, message, remedy)
		return
	}
	v.in.Add(problem.Problem{File: v.in.file, Line: at.Line, Column: at.Column + column, Path: path, Message: message, Remedy: remedy})
}

// checkPlace returns the position in the file of a line of a text. It checks what it finds,
// because YAML may fold and escape text in ways that cannot be undone.
func checkPlace(v validator, node *yaml.Node, text string, line int) (at yaml.Node, ok bool) {
	wanted := strings.Split(text, "\n")[line]
	number := node.Line + line
	switch node.Style {
	case yaml.LiteralStyle:
		number++
	case yaml.FoldedStyle:
		if strings.Contains(strings.TrimRight(text, "\n"), "\n") {
			return at, false
		}
		number++
	default: // plain or quoted: it begins at the node
	}
	if number < 1 || number > len(v.in.lines) {
		return at, false
	}
	have := strings.TrimSuffix(v.in.lines[number-1], "\r")
	from := 0
	if number == node.Line {
		from = min(node.Column-1, len(have))
	}
	column := strings.Index(have[from:], wanted)
	return yaml.Node{Line: number, Column: from + column + 1}, column >= 0
}
