package cli

import (
	"cmp"
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/app/cli/args"
	"github.com/squall-chaos/squall/internal/app/cli/exit"
	"github.com/squall-chaos/squall/internal/app/cli/flag"
	"github.com/squall-chaos/squall/internal/app/outage"
	"github.com/squall-chaos/squall/internal/app/session"
	"github.com/squall-chaos/squall/reports/words"
	"github.com/squall-chaos/squall/runner/event"
)

// injectFlags are the flags of squall inject.
type injectFlags struct {
	runner  flag.Runner
	session session.Session
	outage  outage.Outage
	print   bool
	// asked is whether the share is confirmed, by --yes or by --percentage.
	asked bool
}

func newInjectCommand(env Env) *cobra.Command {
	flags := injectFlags{}
	command := &cobra.Command{
		Use:   "inject abort|delay|blackhole HOST",
		Short: "Simulate an outage once, without a file",
		Long: `Inject disturbs the calls to a host for some time. It works like 'squall run' but
tests no hypothesis. A guard ends the fault early.

Without --percentage all requests are hit. On a terminal Squall then asks first,
unless --yes is given.

Exit codes: 0 completed and requests were hit, 1 stopped by a guard, otherwise as
for 'squall run'.`,
		Example: `  squall inject abort ratings.prod.svc.cluster.local --from shop/app=reviews --for 5m
  squall inject delay details.prod --delay 2s --percentage 10 --from shop --for 1m --header end-user=jason
  squall inject abort ratings.prod --from shop --for 5m --guard 'sum(rate(errors_total[1m])) < 5'
  squall inject abort ratings.prod --from shop --for 5m --print > outage.yaml`,
		Args: args.Exactly(2, "a fault and a host", "squall inject abort HOST --from NAMESPACE --for 5m"),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			flags.outage.Kind, flags.outage.Host = outage.Kind(arguments[0]), arguments[1]
			flags.asked = flags.asked || cmd.Flags().Changed("percentage")
			return inject(cmd.Context(), env, flags)
		},
	}
	flags.runner.Prometheus.Purpose = "the requests hit cannot be counted"
	f := command.Flags()
	flags.runner.Add(f, "namespace of HOST if it has no dot")
	flag.Session(f, &flags.session)
	f.DurationVar(&flags.outage.For, "for", 0, "duration of the fault")
	flags.outage.Percentage = 100
	flag.Number(f, &flags.outage.Percentage, "percentage", "percentage of the requests to hit")
	f.StringArrayVar(&flags.outage.From, "from", nil, "callers, as NAMESPACE or NAMESPACE/LABEL=VALUE,...; may be repeated (default all callers that Prometheus knows)")
	f.StringArrayVar(&flags.outage.Headers, "header", nil, "hit only requests with this header, as NAME=VALUE; may be repeated, and all must match")
	f.StringArrayVar(&flags.outage.Guards, "guard", nil, "PromQL comparison; the fault ends when it returns no series; may be repeated")
	f.IntVar(&flags.outage.Port, "port", 0, "hit only calls to this service port")
	f.IntVar(&flags.outage.Status, "status", 0, "HTTP status of an abort (default 503)")
	f.StringVar(&flags.outage.GRPCStatus, "grpc-status", "", "gRPC status of an abort, such as UNAVAILABLE")
	f.DurationVar(&flags.outage.Delay, "delay", 0, "delay of each request")
	flag.Choice(f, &flags.outage.Mode, "mode", "", "how a blackhole fails: refused connections, or no answer", experiments.Reject, experiments.Drop)
	f.BoolVar(&flags.print, "print", false, "print the experiment file instead of injecting the fault")
	f.BoolVarP(&flags.asked, "yes", "y", false, "do not ask before all requests are hit")
	return command
}

// inject injects one fault.
func inject(ctx context.Context, env Env, flags injectFlags) error {
	flags.outage.Namespace = flags.runner.Cluster.GivenNamespace()
	e, err := flags.outage.Experiment()
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
	flags.session.Cluster = flags.runner.Cluster.InWords()
	if flags.outage.Percentage >= 100 && !flags.asked && env.OnTerminal() {
		callers := cmp.Or(words.Callers(e.Spec.Callers), "all callers")
		question := fmt.Sprintf("%s of all requests from %s to %s for %s, in %s", flags.outage.Kind, callers, e.Spec.Target.Host, e.Spec.Duration, flags.session.Cluster)
		if err := confirm(ctx, env, question); err != nil {
			return err
		}
	}
	_, code := runOne(ctx, env, flags.session, r, e, codeOfOutage)
	return exit.With(code)
}

// codeOfOutage returns the exit code of a simulation.
func codeOfOutage(result event.Result) int {
	if outage.Done(result) {
		return exit.Held
	}
	return exit.Of(result)
}
