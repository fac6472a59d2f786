package cli

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/experiments/files"
	"github.com/squall-chaos/squall/experiments/problem"
	"github.com/squall-chaos/squall/internal/app/cli/flag"
	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/internal/promql"
	"github.com/squall-chaos/squall/runner/event"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// injectFlags are the flags of squall inject.
type injectFlags struct {
	runner     runnerFlags
	record     recordFlags
	duration   time.Duration
	percentage float64
	from       []string
	headers    []string
	guards     []string
	port       int
	status     int
	grpcStatus string
	delay      time.Duration
	mode       experiments.BlackholeMode
	print      bool
}

// The kinds of faults.
const (
	kindAbort     = "abort"
	kindDelay     = "delay"
	kindBlackhole = "blackhole"
)

func newInjectCommand(env Env) *cobra.Command {
	flags := injectFlags{}
	command := &cobra.Command{
		Use:   "inject abort|delay|blackhole HOST",
		Short: "Simulate an outage once, without a file",
		Long: `Inject disturbs the calls to a host for some time. It works like 'squall run' but
tests no hypothesis. A guard ends the fault early.

Exit codes: 0 completed and requests were hit, 1 stopped by a guard, otherwise as
for 'squall run'.`,
		Example: `  squall inject abort ratings.prod.svc.cluster.local --from shop/app=reviews --for 5m
  squall inject delay details.prod --delay 2s --percentage 10 --from shop --for 1m --header end-user=jason
  squall inject abort ratings.prod --from shop --for 5m --guard 'sum(rate(errors_total[1m])) < 5'
  squall inject abort ratings.prod --from shop --for 5m --print > outage.yaml`,
		Args: func(_ *cobra.Command, arguments []string) error {
			if len(arguments) != 2 {
				return hint.With(fmt.Errorf("want a fault and a host, got %s", counted(len(arguments), "argument")), "squall inject abort HOST --from NAMESPACE --for 5m")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, arguments []string) error {
			e, err := flags.experiment(arguments[0], arguments[1])
			if err != nil {
				return err
			}
			if flags.print {
				return experiments.Encode(env.Stdout, e)
			}
			r, err := newRunner(env, flags.runner)
			if err != nil {
				return err
			}
			result, ended := runOne(cmd.Context(), env, flags.record, r, e)
			if doneInject(result) {
				ended = exitHeld
			}
			return exit(ended)
		},
	}
	f := command.Flags()
	flags.runner.add(f, "namespace of HOST if it has no dot")
	flags.record.add(f)
	f.DurationVar(&flags.duration, "for", 0, "duration of the fault")
	f.Float64Var(&flags.percentage, "percentage", 100, "percentage of the requests to hit")
	f.StringArrayVar(&flags.from, "from", nil, "callers, as NAMESPACE or NAMESPACE/LABEL=VALUE,...; may be repeated")
	f.StringArrayVar(&flags.headers, "header", nil, "hit only requests with this header, as NAME=VALUE; may be repeated, and all must match")
	f.StringArrayVar(&flags.guards, "guard", nil, "PromQL comparison; the fault ends when it returns no series; may be repeated")
	f.IntVar(&flags.port, "port", 0, "hit only calls to this service port")
	f.IntVar(&flags.status, "status", 0, "HTTP status of an abort (default 503)")
	f.StringVar(&flags.grpcStatus, "grpc-status", "", "gRPC status of an abort, such as UNAVAILABLE")
	f.DurationVar(&flags.delay, "delay", 0, "delay of each request")
	flag.Choice(f, &flags.mode, "mode", "", "how a blackhole fails: refused connections, or no answer", experiments.Reject, experiments.Drop)
	f.BoolVar(&flags.print, "print", false, "print the experiment file instead of injecting the fault")
	return command
}

// experiment returns the experiment that the flags describe, checked as a file is. The
// error is one of usage.
func (f injectFlags) experiment(kind, host string) (experiments.Experiment, error) {
	fault, err := f.fault(kind)
	if err != nil {
		return experiments.Experiment{}, err
	}
	callers, err := f.callers()
	if err != nil {
		return experiments.Experiment{}, err
	}
	match, err := f.match()
	if err != nil {
		return experiments.Experiment{}, err
	}
	stopConditions, err := f.stopConditions()
	if err != nil {
		return experiments.Experiment{}, err
	}
	host = strings.ToLower(host) // DNS names
	namespace := ""
	if !strings.Contains(host, ".") {
		namespace = f.runner.kubernetes.GivenNamespace()
	}
	return checked(experiments.Experiment{
		APIVersion: experiments.APIVersion,
		Kind:       experiments.Kind,
		Metadata:   experiments.Metadata{Name: injectName(kind, host)},
		Spec: experiments.Spec{
			Title:          fmt.Sprintf("Outage simulation: %s of calls to %s", kind, host),
			Target:         experiments.Target{Host: host, Namespace: namespace, Port: f.port},
			Callers:        callers,
			Match:          match,
			Faults:         []experiments.Fault{fault},
			Duration:       experiments.Duration{Duration: f.duration},
			SteadyState:    experiments.SteadyState{Probes: []experiments.Probe{}, Interval: experiments.Duration{Duration: min(experiments.DefaultInterval, f.duration)}},
			StopConditions: stopConditions,
			Effect:         experiments.Effect{MinRequests: experiments.DefaultEffectMinimum},
			Recovery:       experiments.Recovery{Within: experiments.Duration{Duration: experiments.DefaultRecoveryDeadline}},
		},
	})
}

// fault returns the fault that the flags describe.
func (f injectFlags) fault(kind string) (experiments.Fault, error) {
	switch {
	case f.duration <= 0:
		return experiments.Fault{}, hint.With(errors.New("--for is missing"), "set the duration of the fault, such as --for 5m")
	case kind == kindDelay && f.delay <= 0:
		return experiments.Fault{}, hint.With(errors.New("--delay is missing"), "set the delay of each request, such as --delay 2s")
	}
	if err := f.checkKind(kind); err != nil {
		return experiments.Fault{}, err
	}
	percentage := experiments.Percentage(f.percentage)
	fault := experiments.Fault{Percentage: &percentage}
	switch kind {
	case kindAbort:
		fault.Abort = &experiments.Abort{HTTPStatus: f.status, GRPCStatus: f.grpcStatus}
		if f.grpcStatus == "" {
			fault.Abort.HTTPStatus = cmp.Or(f.status, 503)
		}
	case kindDelay:
		fault.Delay = &experiments.Delay{FixedDelay: experiments.Duration{Duration: f.delay}}
	case kindBlackhole:
		fault.Blackhole = &experiments.Blackhole{Mode: cmp.Or(f.mode, experiments.Reject)}
	default:
		return fault, hint.With(fmt.Errorf("%q is not a fault", kind), "use abort, delay or blackhole")
	}
	return fault, nil
}

// callers returns the callers of --from.
func (f injectFlags) callers() (callers []experiments.Caller, err error) {
	for _, from := range f.from {
		caller, err := parseCaller(from)
		if err != nil {
			return nil, err
		}
		callers = append(callers, caller)
	}
	return callers, nil
}

// match returns the match of --header.
func (f injectFlags) match() ([]experiments.Match, error) {
	if len(f.headers) == 0 {
		return nil, nil
	}
	headers := map[string]experiments.StringMatch{}
	for _, header := range f.headers {
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
func (f injectFlags) stopConditions() (conditions []experiments.StopCondition, err error) {
	for i, guard := range f.guards {
		if err := checkGuard(guard); err != nil {
			return nil, err
		}
		// A comparison that does not hold returns no series. The line break ends a
		// comment of the guard.
		conditions = append(conditions, experiments.StopCondition{
			Name: fmt.Sprintf("guard %d", i+1), Min: experiments.Number(1), NoData: experiments.NoDataFail,
			Measure: experiments.Measure{Query: fmt.Sprintf("count(%s\n) or vector(0)", guard)},
		})
	}
	return conditions, nil
}

// parseCaller parses NAMESPACE or NAMESPACE/LABEL=VALUE,...
func parseCaller(from string) (experiments.Caller, error) {
	namespace, labels, narrowed := strings.Cut(from, "/")
	caller := experiments.Caller{Namespace: namespace}
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
func (f injectFlags) checkKind(kind string) error {
	for _, flag := range []struct {
		name, kind string
		set        bool
	}{
		{"--status", kindAbort, f.status != 0},
		{"--grpc-status", kindAbort, f.grpcStatus != ""},
		{"--delay", kindDelay, f.delay != 0},
		{"--mode", kindBlackhole, f.mode != ""},
	} {
		if flag.set && flag.kind != kind {
			return hint.With(fmt.Errorf("%s is a flag of %s, not of %s", flag.name, flag.kind, kind), "leave it out, or write a file with both faults")
		}
	}
	return nil
}

// maxName is the length of the longest name of an experiment.
const maxName = 63

// injectName returns the name of the experiment: the fault and the first part of the
// host.
func injectName(kind, host string) string {
	label, _, _ := strings.Cut(host, ".")
	name := kind + "-" + label
	return strings.TrimRight(name[:min(len(name), maxName)], "-")
}

// checkGuard rejects a condition that always returns a series: it would never end the
// fault.
func checkGuard(guard string) error {
	expression, err := promql.Parse(guard)
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

// doneInject reports whether a simulation has completed and left no objects. It tests
// no hypothesis, so it needs no verdict.
func doneInject(result event.Result) bool {
	return len(result.Left) == 0 && result.Status == event.StatusCompleted && result.Verdict == steadystate.Inconclusive && result.Untested
}
