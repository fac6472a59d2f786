// Package outage describes an outage to simulate without a file, as an experiment that
// tests no hypothesis.
package outage

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/experiments/files"
	"github.com/squall-chaos/squall/experiments/problem"
	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/internal/oneline"
	"github.com/squall-chaos/squall/internal/promql"
	"github.com/squall-chaos/squall/runner/event"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// Kind is a kind of fault.
type Kind string

// The kinds of faults.
const (
	Abort     Kind = "abort"
	Delay     Kind = "delay"
	Blackhole Kind = "blackhole"
)

// Outage is what the arguments and flags of squall inject say.
type Outage struct {
	Kind Kind
	Host string
	// Namespace is the namespace of a host without a dot.
	Namespace  string
	For        time.Duration
	Percentage float64
	// From are callers, as NAMESPACE or NAMESPACE/LABEL=VALUE,...
	From []string
	// Headers are NAME=VALUE; all must match.
	Headers []string
	// Guards are PromQL comparisons. The fault ends when one returns no series.
	Guards     []string
	Port       int
	Status     int
	GRPCStatus string
	Delay      time.Duration
	Mode       experiments.BlackholeMode
}

// Experiment returns the experiment of an outage, checked as a file is. The error names
// the flag.
func (o Outage) Experiment() (experiments.Experiment, error) {
	fault, err := o.fault()
	if err != nil {
		return experiments.Experiment{}, err
	}
	callers, err := o.callers()
	if err != nil {
		return experiments.Experiment{}, err
	}
	match, err := o.match()
	if err != nil {
		return experiments.Experiment{}, err
	}
	stopConditions, err := o.stopConditions()
	if err != nil {
		return experiments.Experiment{}, err
	}
	host := strings.ToLower(o.Host) // DNS names
	namespace := ""
	if !strings.Contains(host, ".") {
		namespace = o.Namespace
	}
	return checked(experiments.Experiment{
		APIVersion: experiments.APIVersion,
		Kind:       experiments.Kind,
		Metadata:   experiments.Metadata{Name: nameOf(o.Kind, host)},
		Spec: experiments.Spec{
			Title:          fmt.Sprintf("Outage simulation: %s of calls to %s", o.Kind, host),
			Target:         experiments.Target{Host: host, Namespace: namespace, Port: o.Port},
			Callers:        callers,
			Match:          match,
			Faults:         []experiments.Fault{fault},
			Duration:       experiments.Duration{Duration: o.For},
			SteadyState:    experiments.SteadyState{Probes: []experiments.Probe{}, Interval: experiments.Duration{Duration: min(experiments.DefaultInterval, o.For)}},
			StopConditions: stopConditions,
			Effect:         experiments.Effect{MinRequests: experiments.DefaultEffectMinimum, MinShare: new(experiments.DefaultEffectShare)},
			Recovery:       experiments.Recovery{Within: experiments.Duration{Duration: experiments.DefaultRecoveryDeadline}},
		},
	})
}

// fault returns the fault of an outage.
func (o Outage) fault() (experiments.Fault, error) {
	switch {
	case o.For == 0:
		return experiments.Fault{}, hint.With(errors.New("--for is missing"), "set the duration of the fault, such as --for 5m")
	case o.For < 0:
		return experiments.Fault{}, hint.With(fmt.Errorf("--for must be positive, got %s", o.For), "set the duration of the fault, such as --for 5m")
	case math.IsNaN(o.Percentage):
		return experiments.Fault{}, hint.With(errors.New("--percentage NaN is not a percentage of requests"), "use a number from 0.0001 to 100")
	case o.Kind == Delay && o.Delay == 0:
		return experiments.Fault{}, hint.With(errors.New("--delay is missing"), "set the delay of each request, such as --delay 2s")
	case o.Kind == Delay && o.Delay < 0:
		return experiments.Fault{}, hint.With(fmt.Errorf("--delay must be positive, got %s", o.Delay), "set the delay of each request, such as --delay 2s")
	}
	if err := o.checkKind(); err != nil {
		return experiments.Fault{}, err
	}
	percentage := experiments.Percentage(o.Percentage)
	fault := experiments.Fault{Percentage: &percentage}
	switch o.Kind {
	case Abort:
		fault.Abort = &experiments.Abort{HTTPStatus: o.Status, GRPCStatus: experiments.GRPCStatus(o.GRPCStatus)}
		if o.GRPCStatus == "" {
			fault.Abort.HTTPStatus = cmp.Or(o.Status, 503)
		}
	case Delay:
		fault.Delay = &experiments.Delay{FixedDelay: experiments.Duration{Duration: o.Delay}}
	case Blackhole:
		fault.Blackhole = &experiments.Blackhole{Mode: cmp.Or(o.Mode, experiments.Reject)}
	default:
		return fault, hint.With(fmt.Errorf("%q is not a fault", o.Kind), "use abort, delay or blackhole")
	}
	return fault, nil
}

// callers returns the callers of --from.
func (o Outage) callers() (callers []experiments.Caller, err error) {
	for _, from := range o.From {
		caller, err := parseCaller(from)
		if err != nil {
			return nil, err
		}
		callers = append(callers, caller)
	}
	return callers, nil
}

// match returns the match of --header.
func (o Outage) match() ([]experiments.Match, error) {
	if len(o.Headers) == 0 {
		return nil, nil
	}
	headers := map[string]experiments.StringMatch{}
	for _, header := range o.Headers {
		name, value, ok := strings.Cut(header, "=")
		if !ok {
			return nil, hint.With(fmt.Errorf("--header %q has no value", header), "use NAME=VALUE")
		}
		if _, twice := headers[name]; twice {
			return nil, hint.With(fmt.Errorf("--header %s is given twice", name), "a request has one value of a header; run squall twice, or write a file")
		}
		headers[name] = experiments.StringMatch{Exact: &value}
	}
	return []experiments.Match{{Headers: headers}}, nil
}

// stopConditions returns the stop conditions of --guard.
func (o Outage) stopConditions() (conditions []experiments.StopCondition, err error) {
	for _, guard := range o.Guards {
		if err := checkGuard(guard); err != nil {
			return nil, err
		}
		name := "guard: number of series with " + oneline.Cell(guard)
		if slices.ContainsFunc(conditions, func(c experiments.StopCondition) bool { return c.Name == name }) {
			continue
		}
		conditions = append(conditions, experiments.StopCondition{
			Name: name, Min: experiments.Number(1), NoData: experiments.NoDataFail,
			Measure: experiments.Measure{Query: guardQuery(guard)},
		})
	}
	return conditions, nil
}

// parseCaller parses NAMESPACE or NAMESPACE/LABEL=VALUE,...
func parseCaller(from string) (experiments.Caller, error) {
	namespace, labels, narrowed := strings.Cut(from, "/")
	caller := experiments.Caller{Namespace: namespace}
	if namespace == "" {
		return caller, hint.With(fmt.Errorf("--from %q has no namespace", from), "use NAMESPACE or NAMESPACE/LABEL=VALUE; leave out --from for all callers that Prometheus knows")
	}
	if !narrowed {
		return caller, nil
	}
	caller.Labels = map[string]string{}
	for pair := range strings.SplitSeq(labels, ",") {
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			return caller, hint.With(fmt.Errorf("--from %q: %q is not a label", from, pair), "use NAMESPACE/LABEL=VALUE")
		}
		if _, twice := caller.Labels[key]; twice {
			return caller, hint.With(fmt.Errorf("--from %q: label %s is given twice", from, key), "a workload has one value of a label; use --from twice")
		}
		caller.Labels[key] = value
	}
	return caller, nil
}

// checkKind rejects the flags of other kinds of faults.
func (o Outage) checkKind() error {
	for _, flag := range []struct {
		name string
		kind Kind
		set  bool
	}{
		{"--status", Abort, o.Status != 0},
		{"--grpc-status", Abort, o.GRPCStatus != ""},
		{"--delay", Delay, o.Delay != 0},
		{"--mode", Blackhole, o.Mode != ""},
	} {
		if flag.set && flag.kind != o.Kind {
			return hint.With(fmt.Errorf("%s is a flag of %s, not of %s", flag.name, flag.kind, o.Kind), "leave it out, or write a file with both faults")
		}
	}
	return nil
}

// maxName is the length of the longest name of an experiment.
const maxName = 63

// nameOf returns the name of the experiment: the fault and the first part of the
// host.
func nameOf(kind Kind, host string) string {
	label, _, _ := strings.Cut(host, ".")
	name := string(kind) + "-" + label
	return strings.TrimRight(name[:min(len(name), maxName)], "-")
}

// guardQuery returns a query for the number of series for which a guard, which checkGuard
// accepts, holds. A comparison that does not hold returns no series; if the vector that
// it compares has series, the number is 0, and otherwise there is no number.
func guardQuery(guard string) string {
	const format = "count(%s\n) or %s" // the line break ends a comment
	expression, err := promql.Parse(guard)
	comparison, is := unparenthesized(expression).(*parser.BinaryExpr)
	if err != nil || !is || !comparison.Op.IsComparisonOperator() {
		return fmt.Sprintf(format, guard, "vector(0)")
	}
	for _, side := range []parser.Expr{comparison.LHS, comparison.RHS} {
		if side.Type() == parser.ValueTypeVector {
			return fmt.Sprintf(format, guard, fmt.Sprintf("0 * count(%s)", side))
		}
	}
	return fmt.Sprintf(format, guard, "vector(0)")
}

// unparenthesized returns an expression without the parentheses around it.
func unparenthesized(e parser.Expr) parser.Expr {
	for {
		inner, is := e.(*parser.ParenExpr)
		if !is {
			return e
		}
		e = inner.Expr
	}
}

// checkGuard rejects a condition that always returns a series: it would never end the
// fault.
func checkGuard(guard string) error {
	expression, err := promql.Parse(guard)
	if bound, ok := errors.AsType[*promql.BoundError](err); ok {
		return hint.With(fmt.Errorf("--guard %w", bound), "make it a recording rule")
	}
	if err != nil {
		return hint.With(fmt.Errorf("--guard: %w", err), "use a PromQL comparison, such as 'sum(rate(errors_total[1m])) < 5'")
	}
	if !promql.MayBeEmpty(expression) {
		return hint.With(fmt.Errorf("--guard %q always returns a series, so it would never end the fault", guard), "use a comparison without bool, such as 'sum(rate(errors_total[1m])) < 5'")
	}
	return nil
}

// checked returns the experiment as experiments.Load reads it from a file.
func checked(e experiments.Experiment) (experiments.Experiment, error) {
	var file strings.Builder
	if err := experiments.Encode(&file, e); err != nil {
		return e, err
	}
	loaded, err := files.Load("inject", strings.NewReader(file.String()))
	if problems, ok := errors.AsType[problem.List](err); ok {
		// There is no file whose lines could be named.
		for i := range problems {
			problems[i].Line = 0
		}
		return e, hint.With(problems, "squall inject --help")
	}
	if err != nil {
		return e, err
	}
	return loaded[0], nil
}

// Done reports whether a simulation has completed and left no objects. It tests
// no hypothesis, so it needs no verdict.
func Done(result event.Result) bool {
	return len(result.Left) == 0 && !result.StillHit && result.Status == event.StatusCompleted && result.Verdict == steadystate.Inconclusive && result.Untested
}
