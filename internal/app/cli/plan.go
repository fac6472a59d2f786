package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/kube"
	"github.com/squall-chaos/squall/manifests"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/runner"
	"github.com/squall-chaos/squall/runner/effect"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// planFlags are the flags of squall plan.
type planFlags struct {
	kubernetes kubeconfig
	placement  placementFlags
	prometheus prometheusFlags
	selector   string
	output     outputFormat
	mesh       string
	diff       bool
}

func newPlanCommand(env Env) *cobra.Command {
	flags := planFlags{}
	command := &cobra.Command{
		Use:   "plan FILE...",
		Short: "Show what a run would create, whom it would hit, and why; touch nothing",
		Long: `Plan decides as a run would, and prints for each namespace of callers which
VirtualService is in force, where the fault goes or why it is refused, how many
requests a second it would hit (from Prometheus), and then the exact objects. A
run adds its id, its owner and its expiry to them. Nothing is created.

With --mesh it needs no cluster: it takes the mesh from manifest files, as
kubectl prints them.

Exit codes: 0 a run could start, 2 bad usage or file, 3 refused, or the cluster
does not answer.`,
		Example: `  squall plan ratings-outage.yaml --prometheus http://localhost:9090
  squall plan --diff ratings-outage.yaml
  squall plan -o yaml ratings-outage.yaml | kubectl apply --dry-run=server -f -
  squall plan -o json experiments/ | jq '.decisions[] | select(.placement == "refused")'

  kubectl get virtualservices,serviceentries,sidecars,services,namespaces -A -o yaml > mesh/all.yaml
  squall plan --mesh mesh/ ratings-outage.yaml`,
		Args: needFiles("squall plan"),
		RunE: func(cmd *cobra.Command, files []string) error { return planFiles(cmd.Context(), env, flags, files) },
	}
	f := command.Flags()
	flags.kubernetes.addWithNamespace(f, shortHostNamespace)
	flags.placement.add(f)
	flags.prometheus.add(f)
	f.StringVarP(&flags.selector, "selector", "l", "", "plan only experiments with such labels, as for kubectl: team=reviews,tier!=demo")
	addOutput(f, &flags.output, outputText, outputYAML, outputJSON)
	f.StringVar(&flags.mesh, "mesh", "", "directory of manifests to take the mesh from, in place of a cluster")
	f.BoolVar(&flags.diff, "diff", false, "show how the routes of the host change")
	for _, name := range []string{"kubeconfig", "context", "cluster", "server"} {
		command.MarkFlagsMutuallyExclusive("mesh", name)
	}
	return command
}

// check rejects flags that exclude each other.
func (f planFlags) check() error {
	if f.diff && f.output != outputText {
		return hint.With(fmt.Errorf("--diff needs -o text, not -o %s", f.output), "leave out one of the two flags")
	}
	return nil
}

// planFiles loads everything before it plans anything.
func planFiles(ctx context.Context, env Env, flags planFlags, files []string) error {
	if err := flags.check(); err != nil {
		return err
	}
	options, err := flags.placement.options(env)
	if err != nil {
		return err
	}
	chosen, err := loadSelected(env, files, flags.selector)
	if problems, ok := errors.AsType[experiments.Problems](err); ok {
		fmt.Fprintln(env.Stderr, problems.Error())
		return exit(exitUsage)
	}
	if err == nil && len(chosen) == 0 {
		err = errNoneSelected(flags.selector)
	}
	if err != nil {
		return err
	}
	traffic, err := newTrafficSource(env, flags.prometheus)
	if err != nil {
		return err
	}
	live, err := flags.liveMesh()
	if err != nil {
		return err
	}
	snapshot, err := flags.readMesh(ctx, live)
	if problems, ok := errors.AsType[experiments.Problems](err); ok {
		fmt.Fprintln(env.Stderr, problems.Error())
		return exit(exitUsage)
	}
	if err != nil {
		return failed(ctx, err)
	}
	planner := runner.Runner{Mesh: stillMesh{live, snapshot}, Querier: traffic, Options: options}
	return planAll(ctx, env, flags, planner, traffic, chosen)
}

// liveMesh gives the cluster that the flags name, or nil when they name files.
// Nothing is sent yet.
func (f planFlags) liveMesh() (runner.Mesh, error) {
	if f.mesh != "" {
		return nil, nil //nolint:nilnil // no cluster is meant
	}
	config, err := f.kubernetes.config()
	if err != nil {
		return nil, err
	}
	return kube.Connect(config)
}

// readMesh reads the mesh configuration from the cluster, or from the files.
func (f planFlags) readMesh(ctx context.Context, live runner.Mesh) (mesh.Snapshot, error) {
	if live == nil {
		return manifests.Read(f.mesh)
	}
	snapshot, err := live.Snapshot(ctx)
	if err != nil {
		err = hint.With(fmt.Errorf("the mesh configuration cannot be read: %w", err), "check --kubeconfig, --context and the permissions, or plan from manifest files with --mesh")
	}
	return snapshot, err
}

// stillMesh is a mesh as it was at one moment, so that all experiments are
// planned against the same state. Files permit everything.
type stillMesh struct {
	runner.Mesh // nil when the mesh is known from files
	snapshot    mesh.Snapshot
}

// Snapshot gives the state.
func (m stillMesh) Snapshot(context.Context) (mesh.Snapshot, error) { return m.snapshot, nil }

// Permitted asks the cluster, if there is one.
func (m stillMesh) Permitted(ctx context.Context, namespace string, kinds []string) error {
	if m.Mesh == nil {
		return nil
	}
	return m.Mesh.Permitted(ctx, namespace, kinds)
}

// planAll plans and prints experiments one after another.
func planAll(ctx context.Context, env Env, flags planFlags, planner runner.Runner, traffic *trafficSource, chosen []loaded) error {
	code := exitHeld
	printPlan := map[outputFormat]func(io.Writer, planned) error{outputText: printPlanText, outputYAML: printPlanYAML, outputJSON: printJSON[planned]}[flags.output]
	for i, l := range chosen {
		p, err := newPlanned(ctx, flags, planner, traffic, l.Experiment)
		if err := cmp.Or(err, ctx.Err()); err != nil {
			return failed(ctx, fmt.Errorf("%s: %w", l.Metadata.Name, err))
		}
		if i > 0 && flags.output == outputText {
			fmt.Fprintln(env.Stdout)
		}
		if err := printPlan(env.Stdout, p); err != nil {
			return failed(ctx, err)
		}
		if p.refused {
			code = exitInconclusive
		}
	}
	return exit(code)
}

// planned is the plan of one experiment, as it is printed.
type planned struct {
	Experiment string                       `json:"experiment"`
	Decisions  []plannedDecision            `json:"decisions"`
	Objects    []*unstructured.Unstructured `json:"objects"`
	Steps      []mesh.Step                  `json:"steps,omitempty"`
	Warnings   []string                     `json:"warnings"`

	refused bool
	// asked tells that Prometheus has answered.
	asked bool
}

// plannedDecision is a decision with what is known of the callers' requests.
type plannedDecision struct {
	mesh.Decision
	// RequestsPerSecond are all calls from the namespace to the host.
	RequestsPerSecond *float64 `json:"requestsPerSecond,omitempty"`
	HitPerSecond      *float64 `json:"hitPerSecond,omitempty"`
	FailingPerSecond  *float64 `json:"failingPerSecond,omitempty"`
	// AtMost tells that the last two are upper bounds.
	AtMost bool `json:"atMost,omitempty"`
	// diff is how the routes change, when it is asked for.
	diff string
}

func newPlanned(ctx context.Context, flags planFlags, planner runner.Runner, traffic *trafficSource, e experiments.Experiment) (planned, error) {
	plan, err := planner.Plan(ctx, e)
	if err != nil {
		return planned{}, err
	}
	p := planned{Experiment: plan.Plan.Experiment, Objects: []*unstructured.Unstructured{}, Warnings: mesh.Warnings(plan.Snapshot, plan.Experiment, plan.Plan)}
	if p.Warnings == nil {
		p.Warnings = []string{}
	}
	for _, d := range plan.Decisions {
		decision := plannedDecision{Decision: d}
		if d.Placement == mesh.Refused {
			p.refused = true
		} else {
			decision.measure(traffic.ask(ctx, d))
			if flags.diff {
				decision.diff = mesh.DiffRoutes(d.Before, d.During)
			}
		}
		p.Decisions = append(p.Decisions, decision)
	}
	p.asked = traffic.querier != nil
	for _, object := range plan.Objects {
		p.Objects = append(p.Objects, labelled(object))
	}
	for _, step := range plan.Steps {
		p.Steps = append(p.Steps, mesh.Step{After: step.After, Object: labelled(step.Object)})
	}
	return p, nil
}

// labelled gives an object the label that says who makes it.
func labelled(object *unstructured.Unstructured) *unstructured.Unstructured {
	object = object.DeepCopy()
	labels := object.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	labels[mesh.ManagedByLabel] = mesh.ManagedByValue
	object.SetLabels(labels)
	return object
}

// trafficSource asks Prometheus for requests per second, until it fails once:
// a plan is worth having without them.
type trafficSource struct {
	querier steadystate.Querier // nil when nobody can be asked
	stderr  io.Writer
	// unknown is why nobody can be asked, until it has been said.
	unknown error
}

func newTrafficSource(env Env, flags prometheusFlags) (*trafficSource, error) {
	client, err := flags.client(env)
	switch {
	case errors.Is(err, errNoPrometheus):
		return &trafficSource{stderr: env.Stderr, unknown: errors.New("neither --prometheus nor SQUALL_PROMETHEUS names a server")}, nil
	case err != nil:
		return nil, err
	}
	return &trafficSource{querier: client, stderr: env.Stderr}, nil
}

// Query implements steadystate.Querier, for the callers that an experiment does
// not name.
func (t *trafficSource) Query(ctx context.Context, promql string) ([]steadystate.Sample, error) {
	if t.querier == nil {
		return nil, errors.New("no Prometheus server answers; name spec.callers, or a server with --prometheus or SQUALL_PROMETHEUS")
	}
	return t.querier.Query(ctx, promql)
}

// ask returns what is known of the requests that the faults would hit, or nil.
func (t *trafficSource) ask(ctx context.Context, d mesh.Decision) (traffic *effect.Traffic) {
	if t.querier != nil {
		traffic, t.unknown = effect.ReadTraffic(ctx, t.querier, d.Injections, d.Host, d.Callers)
	}
	if t.unknown != nil && ctx.Err() == nil {
		printLine(t.stderr, "squall: how many requests would be hit is unknown: %v", t.unknown)
		t.querier, t.unknown = nil, nil
	}
	return traffic
}

// measure fills in how many requests the fault would hit.
func (d *plannedDecision) measure(traffic *effect.Traffic) {
	if traffic == nil {
		return
	}
	requests, hit, failing := rounded(traffic.Requests), rounded(traffic.Hit), rounded(traffic.Failing)
	d.RequestsPerSecond, d.HitPerSecond, d.FailingPerSecond, d.AtMost = &requests, &hit, &failing, traffic.AtMost
}
