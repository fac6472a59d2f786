package cli

import (
	"context"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/app/cli/exit"
	"github.com/squall-chaos/squall/internal/app/cli/flag"
	"github.com/squall-chaos/squall/internal/app/cli/output"
	"github.com/squall-chaos/squall/internal/app/session"
	"github.com/squall-chaos/squall/runner"
	"github.com/squall-chaos/squall/runner/event"
)

// newRunner returns a runner for the cluster and the Prometheus that the flags name.
// It sends nothing. The error is one of usage.
func newRunner(env Env, flags flag.Runner) (*runner.Runner, error) {
	config, err := flags.Config(env)
	if err != nil {
		return nil, err
	}
	return runner.New(config)
}

// runOne runs one experiment, prints its summary, and returns the exit code for its
// result. The code is not 0 if the summary, a report or the end of the journal could
// not be written: a pipeline must not miss it.
func runOne(ctx context.Context, env Env, s session.Session, r session.Runner, e experiments.Experiment, codeOf func(event.Result) int) (event.Result, int) {
	s.Stdout, s.Stderr, s.Getenv = env.Stdout, env.Stderr, env.Getenv
	result, err := s.Run(ctx, r, e)
	if err != nil {
		output.Error(env.Stderr, err)
		return result, exit.Worst(codeOf(result), exit.Inconclusive)
	}
	return result, codeOf(result)
}
