package cli

import (
	"cmp"
	"os"

	"github.com/spf13/pflag"

	"github.com/squall-chaos/squall/kube"
	"github.com/squall-chaos/squall/runner"
)

// runnerFlags choose what a runner is connected to, and where it puts objects.
type runnerFlags struct {
	kubernetes kubeconfig
	placement  placementFlags
	heartbeat  heartbeatFlags
	prometheus prometheusFlags
}

// add adds the flags. The namespace of -n has a different meaning in each command.
func (f *runnerFlags) add(flags *pflag.FlagSet, namespace string) {
	f.kubernetes.addWithNamespace(flags, namespace)
	f.placement.add(flags)
	f.heartbeat.add(flags)
	f.prometheus.add(flags)
}

// newRunner wires a runner to the cluster and the Prometheus that the flags
// name. Nothing is sent yet.
func newRunner(env Env, flags runnerFlags) (*runner.Runner, error) {
	config, err := runnerConfig(env, flags)
	if err != nil {
		return nil, err
	}
	return runner.New(config)
}

// runnerConfig returns the config of a runner. It sends nothing yet.
func runnerConfig(env Env, flags runnerFlags) (runner.Config, error) {
	querier, err := flags.prometheus.client(env)
	if err != nil {
		return runner.Config{}, err
	}
	options, err := flags.placement.options(env)
	if err != nil {
		return runner.Config{}, err
	}
	config, err := flags.kubernetes.config()
	if err != nil {
		return runner.Config{}, err
	}
	target, err := kube.Connect(config)
	if err != nil {
		return runner.Config{}, err
	}
	return runner.Config{
		Cluster: target, Querier: querier, Alerts: querier, Prometheus: querier.Address(), Version: version(), Owner: owner(env), Timing: runner.DefaultTiming(), Options: options,
		WithoutHeartbeat: flags.heartbeat.mode == heartbeatOff, HeartbeatImage: flags.heartbeat.image,
	}, nil
}

// owner says who runs the experiment, for whoever finds its objects.
func owner(env Env) string {
	user := cmp.Or(env.Getenv("USER"), env.Getenv("LOGNAME"), "unknown")
	host, err := os.Hostname()
	if err != nil {
		return user
	}
	return user + "@" + host
}
