package flag

import (
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"github.com/squall-chaos/squall/internal/app/cli/process"
	"github.com/squall-chaos/squall/internal/app/session"
	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/kube"
	"github.com/squall-chaos/squall/runner"
)

// Runner chooses the servers of a runner, and where it creates objects.
type Runner struct {
	Cluster    Cluster
	Istio      Istio
	Placement  Placement
	Heartbeat  Heartbeat
	Prometheus Prometheus
	// CleanWithin is how long after a rollback calls may still be hit.
	CleanWithin time.Duration
}

// Add adds the flags. The namespace is the description of -n.
func (r *Runner) Add(flags *pflag.FlagSet, namespace string) {
	r.Cluster.Add(flags, namespace)
	r.Istio.Add(flags)
	r.Placement.Add(flags)
	r.Heartbeat.Add(flags)
	r.Prometheus.Add(flags)
	flags.DurationVar(&r.CleanWithin, "clean-within", runner.DefaultTiming().Clean, "how long after a rollback calls may still be hit; a run fails if proxies then still inject")
}

// NoNamespace leaves out -n: experiment files name their namespaces.
const NoNamespace = ""

// Config returns the configuration of a runner. It sends nothing. The error is one of usage.
func (r *Runner) Config(env process.Env) (runner.Config, error) {
	if r.CleanWithin <= 0 {
		return runner.Config{}, hint.With(fmt.Errorf("--clean-within must be positive, got %s", r.CleanWithin), "use --clean-within 30s, for example")
	}
	timing := runner.DefaultTiming()
	timing.Clean = r.CleanWithin
	querier, err := r.Prometheus.Client(env.Getenv)
	if err != nil {
		return runner.Config{}, err
	}
	options, err := r.Placement.Options(env.Getenv)
	if err != nil {
		return runner.Config{}, err
	}
	overrides, err := r.Istio.Overrides()
	if err != nil {
		return runner.Config{}, err
	}
	config, err := r.Cluster.Config()
	if err != nil {
		return runner.Config{}, err
	}
	cluster, err := kube.Connect(config)
	if err != nil {
		return runner.Config{}, err
	}
	cluster.Override(overrides)
	return runner.Config{
		Cluster: cluster, Querier: querier, Alerts: querier, Prometheus: querier.Address(), Timing: timing, Options: options,
		WithoutHeartbeat: r.Heartbeat.Off(), HeartbeatImage: r.Heartbeat.Image,
		Version: process.Version(), Owner: session.Owner(env.Getenv),
	}, nil
}
