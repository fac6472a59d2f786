package cli

import (
	"cmp"
	"os"

	"github.com/spf13/pflag"

	"github.com/squall-chaos/squall/internal/app/cli/flag"
	"github.com/squall-chaos/squall/kube"
	"github.com/squall-chaos/squall/runner"
)

// runnerFlags choose the servers of a runner, and where it creates objects.
type runnerFlags struct {
	kubernetes flag.Cluster
	placement  flag.Placement
	heartbeat  flag.Heartbeat
	prometheus flag.Prometheus
}

// add adds the flags. The namespace is the description of -n.
func (f *runnerFlags) add(flags *pflag.FlagSet, namespace string) {
	f.kubernetes.Add(flags, namespace)
	f.placement.Add(flags)
	f.heartbeat.Add(flags)
	f.prometheus.Add(flags)
}

// newRunner returns a runner for the cluster and the Prometheus that the flags name.
// It sends nothing. The error is one of usage.
func newRunner(env Env, flags runnerFlags) (*runner.Runner, error) {
	config, err := runnerConfig(env, flags)
	if err != nil {
		return nil, err
	}
	return runner.New(config)
}

// runnerConfig returns the configuration of a runner. It sends nothing. The error is
// one of usage.
func runnerConfig(env Env, flags runnerFlags) (runner.Config, error) {
	querier, err := flags.prometheus.Client(env.Getenv)
	if err != nil {
		return runner.Config{}, err
	}
	options, err := flags.placement.Options(env.Getenv)
	if err != nil {
		return runner.Config{}, err
	}
	config, err := flags.kubernetes.Config()
	if err != nil {
		return runner.Config{}, err
	}
	target, err := kube.Connect(config)
	if err != nil {
		return runner.Config{}, err
	}
	return runner.Config{
		Cluster: target, Querier: querier, Alerts: querier, Prometheus: querier.Address(), Version: version(), Owner: owner(env), Timing: runner.DefaultTiming(), Options: options,
		WithoutHeartbeat: flags.heartbeat.Off(), HeartbeatImage: flags.heartbeat.Image,
	}, nil
}

// owner returns the user and the machine, which the objects of a run name.
func owner(env Env) string {
	user := cmp.Or(env.Getenv("USER"), env.Getenv("LOGNAME"), "unknown")
	host, err := os.Hostname()
	if err != nil {
		return user
	}
	return user + "@" + host
}

// unusedNamespace describes -n of commands that take files.
const unusedNamespace = "not used: experiment files name their namespaces"
