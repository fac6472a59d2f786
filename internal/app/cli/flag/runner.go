package flag

import (
	"github.com/spf13/pflag"

	"github.com/squall-chaos/squall/kube"
	"github.com/squall-chaos/squall/runner"
)

// Runner chooses the servers of a runner, and where it creates objects.
type Runner struct {
	Cluster    Cluster
	Placement  Placement
	Heartbeat  Heartbeat
	Prometheus Prometheus
}

// Add adds the flags. The namespace is the description of -n.
func (r *Runner) Add(flags *pflag.FlagSet, namespace string) {
	r.Cluster.Add(flags, namespace)
	r.Placement.Add(flags)
	r.Heartbeat.Add(flags)
	r.Prometheus.Add(flags)
}

// NoNamespace leaves out -n: experiment files name their namespaces.
const NoNamespace = ""

// Config returns the configuration of a runner, without its version and its owner. It
// sends nothing. The error is one of usage.
func (r *Runner) Config(getenv func(string) string) (runner.Config, error) {
	querier, err := r.Prometheus.Client(getenv)
	if err != nil {
		return runner.Config{}, err
	}
	options, err := r.Placement.Options(getenv)
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
	return runner.Config{
		Cluster: cluster, Querier: querier, Alerts: querier, Prometheus: querier.Address(), Timing: runner.DefaultTiming(), Options: options,
		WithoutHeartbeat: r.Heartbeat.Off(), HeartbeatImage: r.Heartbeat.Image,
	}, nil
}
