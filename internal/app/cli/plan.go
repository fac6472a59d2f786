package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/squall-chaos/squall/experiments/problem"
	"github.com/squall-chaos/squall/internal/app/cli/args"
	"github.com/squall-chaos/squall/internal/app/cli/exit"
	"github.com/squall-chaos/squall/internal/app/cli/flag"
	"github.com/squall-chaos/squall/internal/app/cli/output"
	"github.com/squall-chaos/squall/internal/app/preview"
	"github.com/squall-chaos/squall/internal/app/selection"
	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/kube"
	"github.com/squall-chaos/squall/manifests"
	"github.com/squall-chaos/squall/runner"
)

// planFlags are the flags of squall plan.
type planFlags struct {
	kubernetes flag.Cluster
	istio      flag.Istio
	placement  flag.Placement
	prometheus flag.Prometheus
	selector   string
	output     flag.Format
	mesh       []string
	meshStrict bool
	diff       bool
}

func newPlanCommand(env Env) *cobra.Command {
	flags := planFlags{}
	command := &cobra.Command{
		Use:   "plan FILE...",
		Short: "Show what a run would create and which requests it would hit",
		Long: `Plan decides as a run would, and creates nothing. For each namespace of callers
it prints the effective VirtualService, the placement of the fault or the reason
for its refusal, the number of requests per second that it would hit (from
Prometheus), and then the exact objects. A run adds its id, its owner and its
expiry to them. With -o yaml everything but the objects is in comments.

With --mesh the mesh is read from manifest files, as kubectl prints them or as a
repository has them, and no cluster is needed. Files that are not manifests are
skipped; --mesh-strict refuses them.

Exit codes: 0 a run could start, 2 bad usage or file, 3 refused, or the cluster
does not answer.`,
		Example: `  squall plan ratings-outage.yaml --prometheus http://localhost:9090
  squall plan --diff ratings-outage.yaml
  squall plan -o yaml ratings-outage.yaml | kubectl apply --dry-run=server -f -
  squall plan -o json experiments/ | jq '.decisions[] | select(.placement == "refused")'

  kubectl get virtualservices,serviceentries,destinationrules,sidecars,gateways.networking.istio.io,services,namespaces -A -o yaml > mesh/all.yaml
  squall plan --mesh mesh/ ratings-outage.yaml`,
		Args: args.Files("squall plan"),
		RunE: func(cmd *cobra.Command, files []string) error { return planFiles(cmd.Context(), env, flags, files) },
	}
	f := command.Flags()
	flags.kubernetes.Add(f, flag.NoNamespace)
	flags.istio.Add(f)
	flags.placement.Add(f)
	flags.prometheus.Add(f)
	flag.Selector(f, &flags.selector)
	flag.Output(f, &flags.output, flag.Text, flag.YAML, flag.JSON)
	f.StringArrayVar(&flags.mesh, "mesh", nil, "file or directory of manifests to read the mesh from instead of a cluster; may be repeated, and a later one wins")
	f.BoolVar(&flags.meshStrict, "mesh-strict", false, "refuse files below --mesh that are not manifests, instead of skipping them")
	f.BoolVar(&flags.diff, "diff", false, "show the changes of the routes")
	for _, name := range []string{"kubeconfig", "context", "cluster", "server"} {
		command.MarkFlagsMutuallyExclusive("mesh", name)
	}
	return command
}

// check rejects flags that exclude each other.
func (f planFlags) check() error {
	if f.diff && f.output != flag.Text {
		return hint.With(fmt.Errorf("--diff needs -o text, not -o %s", f.output), "leave out one of the two flags")
	}
	return nil
}

// planFiles loads everything before it plans anything.
func planFiles(ctx context.Context, env Env, flags planFlags, files []string) error {
	if err := flags.check(); err != nil {
		return err
	}
	options, err := flags.placement.Options(env.Getenv)
	if err != nil {
		return err
	}
	chosen, err := sourceOf(env).Select(ctx, files, flags.selector)
	if err == nil && len(chosen) == 0 {
		err = selection.NoMatch(flags.selector)
	}
	if err != nil {
		return unloadable(ctx, env, err)
	}
	traffic, err := flags.traffic(env)
	if err != nil {
		return err
	}
	overrides, err := flags.istio.Overrides()
	if err != nil {
		return err
	}
	live, err := flags.liveMesh(overrides)
	if err != nil {
		return err
	}
	snapshot, err := flags.readMesh(ctx, env, live, overrides)
	if _, bad := errors.AsType[problem.List](err); bad {
		return invalid(env, err)
	}
	if err != nil {
		return exit.Failed(ctx, err)
	}
	still := preview.Mesh{State: snapshot}
	if live != nil {
		still.Cluster = live
	}
	planner, err := runner.NewPlanner(runner.PlannerConfig{Mesh: still, Querier: traffic, Options: options})
	if err != nil {
		return err
	}
	return planAll(ctx, env, flags, planner, traffic, chosen)
}

// liveMesh returns the cluster that the flags name, or nil with --mesh. It sends
// nothing.
func (f planFlags) liveMesh(overrides config.Overrides) (runner.Mesh, error) {
	if len(f.mesh) > 0 {
		return nil, nil //nolint:nilnil // the mesh is read from files
	}
	given, err := f.kubernetes.Config()
	if err != nil {
		return nil, err
	}
	cluster, err := kube.Connect(given)
	if err != nil {
		return nil, err
	}
	cluster.Override(overrides)
	return cluster, nil
}

// readMesh reads the mesh configuration from the cluster or from the files.
func (f planFlags) readMesh(ctx context.Context, env Env, live runner.Mesh, overrides config.Overrides) (config.Snapshot, error) {
	if live == nil {
		mesh, err := manifests.Read(f.mesh, manifests.Options{Strict: f.meshStrict, Overrides: overrides})
		reportFiles(env.Stderr, mesh)
		return mesh.Snapshot, err
	}
	snapshot, err := live.Snapshot(ctx)
	if err != nil {
		err = hint.With(fmt.Errorf("the mesh configuration cannot be read: %w", err), "check --kubeconfig, --context and the permissions, or read manifest files with --mesh")
	}
	return snapshot, err
}

// reportFiles reports what was not read as it is in the files.
func reportFiles(stderr io.Writer, mesh manifests.Mesh) {
	const most = 5
	var files []string
	for _, skipped := range mesh.Skipped {
		if !slices.Contains(files, skipped.File) {
			files = append(files, skipped.File)
		}
	}
	if count := len(files); count > 0 {
		names := strings.Join(files[:min(count, most)], ", ")
		if count > most {
			names += fmt.Sprintf(" and %d more", count-most)
		}
		output.Line(stderr, "squall: skipped what is not a manifest in %s (--mesh-strict refuses it)", names)
	}
	for _, replaced := range mesh.Replaced {
		output.Line(stderr, "squall: replaced %s", replaced)
	}
}

// planAll plans and prints experiments one after another.
func planAll(ctx context.Context, env Env, flags planFlags, planner preview.Planner, traffic *preview.Traffic, chosen []selection.Experiment) error {
	code := exit.Held
	for i, l := range chosen {
		p, err := preview.New(ctx, planner, traffic, l.Experiment)
		if err := cmp.Or(err, ctx.Err()); err != nil {
			return exit.Failed(ctx, fmt.Errorf("%s: %w", l.Metadata.Name, err))
		}
		if i > 0 && flags.output == flag.Text {
			fmt.Fprintln(env.Stdout)
		}
		if err := flags.write(env.Stdout, p); err != nil {
			return exit.Failed(ctx, err)
		}
		if p.Refused() {
			code = exit.Inconclusive
		}
	}
	return exit.With(code)
}

// write prints a plan in the format of -o.
func (f planFlags) write(out io.Writer, p preview.Preview) error {
	switch {
	case f.output == flag.YAML:
		return preview.WriteYAML(out, p)
	case f.output == flag.JSON:
		return output.JSON(out, p)
	case f.diff:
		return preview.WriteDiff(out, p)
	default:
		return preview.WriteText(out, p)
	}
}

// traffic returns the source of the rates of requests. It sends nothing.
func (f planFlags) traffic(env Env) (*preview.Traffic, error) {
	report := func(err error) {
		output.Line(env.Stderr, "squall: the number of requests that would be hit is unknown: %v", err)
	}
	client, err := f.prometheus.Client(env.Getenv)
	switch {
	case errors.Is(err, flag.ErrNoPrometheus):
		return preview.NewTraffic(nil, report), nil
	case err != nil:
		return nil, err
	}
	return preview.NewTraffic(client, report), nil
}
