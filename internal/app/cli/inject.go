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
	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/internal/promql"
	"github.com/squall-chaos/squall/runner/event"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// injectFlags are the flags of squall inject beside those of squall run.
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
	mode       string
	print      bool
}

// The kinds of faults that inject knows.
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
		Long: `Inject disturbs the calls to a host for some time, with everything that
'squall run' does except a hypothesis: nothing is tested. A guard ends it early.

Exit codes: 0 done and requests were hit, 1 stopped by a guard, otherwise as for
'squall run'.`,
		Example: `  squall inject abort ratings.prod.svc.cluster.local --from shop/app=reviews --for 5m
  squall inject delay details.prod --delay 2s --percentage 10 --from shop --for 1m --header end-user=jason
  squall inject abort ratings.prod --from shop --for 5m --guard 'sum(rate(errors_total[1m])) < 5'
  squall inject abort ratings.prod --from shop --for 5m --print > outage.yaml`,
		Args: func(_ *cobra.Command, arguments []string) error {
			if len(arguments) != 2 {
				return hint.With(fmt.Errorf("%d arguments instead of a fault and a host", len(arguments)), "squall inject abort HOST --from NAMESPACE --for 5m")
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
	flags.runner.add(f, shortHostNamespace)
	flags.record.add(f)
	f.DurationVar(&flags.duration, "for", 0, "how long the fault is in force")
	f.Float64Var(&flags.percentage, "percentage", 100, "share of the requests")
	f.StringArrayVar(&flags.from, "from", nil, "callers: NAMESPACE or NAMESPACE/LABEL=VALUE,...; several are allowed")
	f.StringArrayVar(&flags.headers, "header", nil, "only requests with this header, as NAME=VALUE; several are ANDed")
	f.StringArrayVar(&flags.guards, "guard", nil, "PromQL condition that ends the fault when it holds for no series any more")
	f.IntVar(&flags.port, "port", 0, "only calls to this service port")
	f.IntVar(&flags.status, "status", 0, "abort: HTTP status (default 503)")
	f.StringVar(&flags.grpcStatus, "grpc-status", "", "abort: gRPC status, such as UNAVAILABLE")
	f.DurationVar(&flags.delay, "delay", 0, "delay: how long a request is held")
	f.StringVar(&flags.mode, "mode", "", "blackhole: reject or drop")
	f.BoolVar(&flags.print, "print", false, "print the experiment file and inject nothing")
	return command
}

// experiment gives the experiment that the flags describe. It goes through the
// same checks as a file.
func (f injectFlags) experiment(kind, host string) (experiments.Experiment, error) {
	switch {
	case f.duration <= 0:
		return experiments.Experiment{}, hint.With(errors.New("--for is missing"), "say how long the fault is in force, such as --for 5m")
	case kind == kindDelay && f.delay <= 0:
		return experiments.Experiment{}, hint.With(errors.New("--delay is missing"), "say how long a request is held, such as --delay 2s")
	}
	if err := f.checkKind(kind); err != nil {
		return experiments.Experiment{}, err
	}
	share := experiments.Percentage(f.percentage)
	fault := experiments.Fault{Percentage: &share}
	switch kind {
	case kindAbort:
		fault.Abort = &experiments.Abort{HTTPStatus: f.status, GRPCStatus: f.grpcStatus}
		if f.grpcStatus == "" {
			fault.Abort.HTTPStatus = cmp.Or(f.status, 503)
		}
	case kindDelay:
		fault.Delay = &experiments.Delay{FixedDelay: experiments.Duration{Duration: f.delay}}
	case kindBlackhole:
		fault.Blackhole = &experiments.Blackhole{Mode: experiments.BlackholeMode(cmp.Or(f.mode, string(experiments.Reject)))}
	default:
		return experiments.Experiment{}, hint.With(fmt.Errorf("%q is not a fault", kind), "abort, delay or blackhole")
	}
	host = strings.ToLower(host) // as DNS has it
	namespace := ""
	if !strings.Contains(host, ".") {
		namespace = f.runner.kubernetes.givenNamespace()
	}
	e := experiments.Experiment{
		APIVersion: experiments.APIVersion,
		Kind:       experiments.Kind,
		Metadata:   experiments.Metadata{Name: injectName(kind, host)},
		Spec: experiments.Spec{
			Title:       fmt.Sprintf("Outage simulation: %s of calls to %s", kind, host),
			Target:      experiments.Target{Host: host, Namespace: namespace, Port: f.port},
			Faults:      []experiments.Fault{fault},
			Duration:    experiments.Duration{Duration: f.duration},
			SteadyState: experiments.SteadyState{Probes: []experiments.Probe{}, Interval: experiments.Duration{Duration: min(experiments.DefaultInterval, f.duration)}},
			Effect:      experiments.Effect{MinRequests: experiments.DefaultEffectMinimum},
			Recovery:    experiments.Recovery{Within: experiments.Duration{Duration: experiments.DefaultRecoveryDeadline}},
		},
	}
	for _, from := range f.from {
		caller, err := parseCaller(from)
		if err != nil {
			return e, err
		}
		e.Spec.Callers = append(e.Spec.Callers, caller)
	}
	if len(f.headers) > 0 {
		headers := map[string]experiments.StringMatch{}
		for _, header := range f.headers {
			name, value, ok := strings.Cut(header, "=")
			if !ok {
				return e, hint.With(fmt.Errorf("--header %q has no value", header), "write NAME=VALUE")
			}
			if _, twice := headers[name]; twice {
				return e, hint.With(fmt.Errorf("--header %s is given twice", name), "one request has one value; run squall twice, or write a file")
			}
			headers[name] = experiments.StringMatch{Exact: &value}
		}
		e.Spec.Match = []experiments.Match{{Headers: headers}}
	}
	for i, guard := range f.guards {
		if err := checkGuard(guard); err != nil {
			return e, err
		}
		// A comparison gives no series when it does not hold. The line break
		// ends a comment.
		e.Spec.StopConditions = append(e.Spec.StopConditions, experiments.StopCondition{
			Name: fmt.Sprintf("guard %d", i+1), Min: experiments.Number(1), NoData: experiments.NoDataFail,
			Measure: experiments.Measure{Query: fmt.Sprintf("count(%s\n) or vector(0)", guard)},
		})
	}
	return checked(e)
}

// parseCaller reads NAMESPACE or NAMESPACE/LABEL=VALUE,...
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
			return caller, hint.With(fmt.Errorf("--from %q: %q is not a label", from, pair), "write NAMESPACE/LABEL=VALUE")
		}
		if _, twice := caller.Labels[key]; twice {
			return caller, hint.With(fmt.Errorf("--from %q: label %s is given twice", from, key), "a workload has one value of a label; give --from twice")
		}
		caller.Labels[key] = value
	}
	return caller, nil
}

// checkKind refuses flags that belong to another kind of fault.
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
			return hint.With(fmt.Errorf("%s goes with %s, not with %s", flag.name, flag.kind, kind), "remove it, or write a file with both faults")
		}
	}
	return nil
}

// maxName is how long the name of an experiment may be.
const maxName = 63

// injectName names the experiment by its fault and the first part of the host.
func injectName(kind, host string) string {
	label, _, _ := strings.Cut(host, ".")
	name := kind + "-" + label
	return strings.TrimRight(name[:min(len(name), maxName)], "-")
}

// checkGuard refuses a condition that always gives a series, and so would
// never end the fault.
func checkGuard(guard string) error {
	expression, err := promql.Parse(guard)
	if err != nil {
		return hint.With(fmt.Errorf("--guard: %w", err), "a PromQL condition, such as 'sum(rate(errors_total[1m])) < 5'")
	}
	if !promql.MayBeEmpty(expression) {
		return hint.With(fmt.Errorf("--guard %q always gives a series, so it would never end the fault", guard), "compare with something, without bool, such as 'sum(rate(errors_total[1m])) < 5'")
	}
	return nil
}

// checked gives the experiment as Load reads it from a file.
func checked(e experiments.Experiment) (experiments.Experiment, error) {
	var file strings.Builder
	if err := experiments.Encode(&file, e); err != nil {
		return e, err
	}
	loaded, err := files.Load("inject", strings.NewReader(file.String()))
	if problems, ok := errors.AsType[problem.List](err); ok {
		// The lines are of a file that nobody has written.
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

// doneInject reports whether a simulation completed and left nothing behind. A
// simulation tests nothing, so it counts as done without a verdict.
func doneInject(result event.Result) bool {
	return len(result.Left) == 0 && result.Status == event.StatusCompleted && result.Verdict == steadystate.Inconclusive && result.Untested
}
