package cli

import (
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"

	"github.com/squall-chaos/squall/internal/app/cli/args"
	"github.com/squall-chaos/squall/internal/app/cli/exit"
	"github.com/squall-chaos/squall/internal/app/cli/flag"
	"github.com/squall-chaos/squall/internal/app/cli/output"
	"github.com/squall-chaos/squall/internal/app/doctor"
	"github.com/squall-chaos/squall/internal/app/session"
	"github.com/squall-chaos/squall/kube"
)

// doctorFlags are the flags of squall doctor.
type doctorFlags struct {
	kubernetes  flag.Cluster
	istio       flag.Istio
	namespaces  []string
	prometheus  flag.Prometheus
	noHeartbeat bool
	image       string
	output      flag.Format
}

func newDoctorCommand(env Env) *cobra.Command {
	flags := doctorFlags{}
	command := &cobra.Command{
		Use:   "doctor",
		Short: "Check a cluster, the permissions in it, and Prometheus",
		Long: `Doctor checks whether a cluster and a Prometheus are fit for Squall: what is
installed, what you may do, whether Kubernetes removes the fault of a run that
has died, and whether Prometheus would show a fault. It prints a line for each
check.

The check of the heartbeat creates a Job with a deadline of two seconds and a
VirtualService for a host that does not exist, and waits until Kubernetes has
removed both. From this, from the scrapes of the proxies and from the pushes of
istiod follows what Squall guarantees in this cluster.

Exit codes: 0 no check fails, 2 bad usage, 3 a check fails.`,
		Example: `  squall doctor --prometheus http://localhost:9090
  squall doctor -n shop -n backoffice --no-heartbeat
  squall doctor -o json | jq -r '.checks[] | select(.status == "failure") | .hint'`,
		Args: args.None,
		RunE: func(cmd *cobra.Command, _ []string) error { return examine(cmd.Context(), env, flags) },
	}
	f := command.Flags()
	flags.kubernetes.Add(f, "")
	f.StringSliceVarP(&flags.namespaces, "namespace", "n", nil, "namespace of callers, or the one of --home-namespace; may be repeated (default the namespace of the context)")
	flags.istio.Add(f)
	flags.prometheus.Add(f)
	f.BoolVar(&flags.noHeartbeat, "no-heartbeat", false, "skip the check of the heartbeat, which creates objects")
	flag.HeartbeatImage(f, &flags.image)
	flag.Output(f, &flags.output, flag.Text, flag.JSON)
	return command
}

// examination is what squall doctor -o json prints.
type examination struct {
	Healthy bool           `json:"healthy"`
	Checks  []doctor.Check `json:"checks"`
}

// examine runs the checks and prints them.
func examine(ctx context.Context, env Env, flags doctorFlags) error {
	d, err := newDoctor(env, flags)
	if err != nil {
		return err
	}
	result := examination{Healthy: true}
	err = d.Examine(ctx, func(check doctor.Check) {
		result.Checks = append(result.Checks, check)
		result.Healthy = result.Healthy && check.Status != doctor.Failure
		if flags.output == flag.Text {
			printCheck(env.Stdout, check)
		}
	})
	if err == nil && flags.output == flag.JSON {
		err = output.JSON(env.Stdout, result)
	}
	switch {
	case err != nil:
		return exit.Failed(ctx, err)
	case !result.Healthy:
		return exit.With(exit.Inconclusive)
	default:
		return nil
	}
}

// newDoctor returns a doctor for the cluster and the Prometheus that the flags name.
// It sends nothing.
func newDoctor(env Env, flags doctorFlags) (doctor.Doctor, error) {
	d := doctor.Doctor{Namespaces: flags.namespaces, HeartbeatImage: flags.image, Owner: session.Owner(env.Getenv)}
	overrides, err := flags.istio.Overrides()
	if err != nil {
		return d, err
	}
	d.Overrides = overrides
	config, err := flags.kubernetes.Config()
	if err != nil {
		return d, err
	}
	namespace, err := flags.kubernetes.Namespace()
	if err != nil {
		return d, err
	}
	if len(d.Namespaces) == 0 {
		d.Namespaces = []string{namespace}
	}
	cluster, err := kube.Connect(config)
	if err != nil {
		return d, err
	}
	cluster.Override(overrides)
	d.APIServer, d.Contents = cluster, cluster
	if !flags.noHeartbeat {
		d.Objects, d.Admission = cluster, cluster
	}
	client, err := flags.prometheus.Client(env.Getenv)
	if errors.Is(err, flag.ErrNoPrometheus) { // a check reports it
		return d, nil
	}
	if err == nil {
		d.Prometheus = client
	}
	return d, err
}

func printCheck(out io.Writer, check doctor.Check) {
	output.Line(out, "%-8s %-12s %s", check.Status, check.Name, check.Detail)
	if check.Hint != "" {
		output.Line(out, "%-8s %-12s hint: %s", "", "", check.Hint)
	}
}
