package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/mesh/cluster"
	"github.com/squall-chaos/squall/mesh/manifests"
	"github.com/squall-chaos/squall/runner"
	steadystate "github.com/squall-chaos/squall/steady-state"
	"github.com/squall-chaos/squall/steady-state/prom"
)

// planFlags are the flags of squall plan.
type planFlags struct {
	kubernetes kubeconfig
	placement  placementFlags
	prometheus string
	selector   string
	output     string
	mesh       string
	diff       bool
}

// The formats of a plan.
const (
	outputText = "text"
	outputYAML = "yaml"
	outputJSON = "json"
)

func newPlanCommand(env Env, code *int) *cobra.Command {
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
		RunE: func(cmd *cobra.Command, files []string) (err error) {
			*code, err = planFiles(cmd.Context(), env, flags, files)
			return err
		},
	}
	f := command.Flags()
	flags.kubernetes.add(f)
	flags.placement.add(f)
	f.StringVar(&flags.prometheus, "prometheus", "", "URL of the Prometheus server (or SQUALL_PROMETHEUS)")
	f.StringVarP(&flags.selector, "selector", "l", "", "plan only experiments with such labels, as for kubectl: team=reviews,tier!=demo")
	f.StringVarP(&flags.output, "output", "o", outputText, "text, yaml (the objects only, the rest as comments) or json")
	f.StringVar(&flags.mesh, "mesh", "", "directory of manifests to take the mesh from, in place of a cluster")
	f.BoolVar(&flags.diff, "diff", false, "show how the routes of the host change")
	for _, name := range []string{"kubeconfig", "context", "cluster", "server"} {
		command.MarkFlagsMutuallyExclusive("mesh", name)
	}
	return command
}

// check refuses flags that mean nothing, or nothing together.
func (f planFlags) check() error {
	switch {
	case !slices.Contains([]string{outputText, outputYAML, outputJSON}, f.output):
		return &hintedError{fmt.Errorf("-o %s is not known", f.output), "text, yaml or json"}
	case f.diff && f.output != outputText:
		return &hintedError{fmt.Errorf("--diff goes with -o text, not with -o %s", f.output), "leave one of them out"}
	default:
		return nil
	}
}

// planFiles loads everything before it plans anything. An error is one of
// usage.
func planFiles(ctx context.Context, env Env, flags planFlags, files []string) (code int, err error) {
	if err := flags.check(); err != nil {
		return exitUsage, err
	}
	if flags.placement, err = flags.placement.resolve(env); err != nil {
		return exitUsage, err
	}
	chosen, err := loadSelected(env, files, flags.selector)
	if problems, ok := errors.AsType[experiments.Problems](err); ok {
		fmt.Fprintln(env.Stderr, problems.Error())
		return exitUsage, nil
	}
	if err != nil {
		return exitUsage, err
	}
	traffic, err := newTrafficSource(env, flags.prometheus)
	if err != nil {
		return exitUsage, err
	}
	read, err := flags.meshReader()
	if err != nil {
		return exitUsage, err
	}
	snapshot, err := read(ctx)
	if problems, ok := errors.AsType[experiments.Problems](err); ok {
		fmt.Fprintln(env.Stderr, problems.Error())
		return exitUsage, nil
	}
	if err != nil {
		return failed(ctx, env, err), nil
	}
	return planAll(ctx, env, flags, snapshot, traffic, chosen), nil
}

// failed reports an error that is nobody's usage, and gives its exit code.
func failed(ctx context.Context, env Env, err error) int {
	if ctx.Err() != nil {
		fmt.Fprintln(env.Stderr, "squall: interrupted")
		return exitInterrupted
	}
	printError(env.Stderr, err)
	return exitInconclusive
}

// meshReader gives the function that reads the mesh configuration from the
// files or the cluster that the flags name. Nothing is sent yet.
func (f planFlags) meshReader() (func(context.Context) (mesh.Snapshot, error), error) {
	if f.mesh != "" {
		return func(context.Context) (mesh.Snapshot, error) { return manifests.Read(f.mesh) }, nil
	}
	config, err := f.kubernetes.config()
	if err != nil {
		return nil, err
	}
	target, err := cluster.Connect(config)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (mesh.Snapshot, error) {
		snapshot, err := target.Snapshot(ctx)
		if err != nil {
			err = &hintedError{fmt.Errorf("the mesh configuration cannot be read: %w", err), "check --kubeconfig, --context and the permissions, or plan from manifest files with --mesh"}
		}
		return snapshot, err
	}, nil
}

// planAll plans and prints experiments one after another.
func planAll(ctx context.Context, env Env, flags planFlags, s mesh.Snapshot, traffic *trafficSource, chosen []loaded) (code int) {
	printPlan := map[string]func(io.Writer, planned) error{outputText: printPlanText, outputYAML: printPlanYAML, outputJSON: printPlanJSON}[flags.output]
	for i, l := range chosen {
		p := newPlanned(ctx, flags, s, traffic, l.Experiment)
		if err := ctx.Err(); err != nil {
			return failed(ctx, env, err)
		}
		if i > 0 && flags.output == outputText {
			fmt.Fprintln(env.Stdout)
		}
		if err := printPlan(env.Stdout, p); err != nil {
			return failed(ctx, env, err)
		}
		if p.refused {
			code = exitInconclusive
		}
	}
	return code
}

// planned is the plan of one experiment, as it is printed.
type planned struct {
	Experiment string                       `json:"experiment"`
	Decisions  []plannedDecision            `json:"decisions"`
	Objects    []*unstructured.Unstructured `json:"objects"`
	Warnings   []string                     `json:"warnings"`

	spec    experiments.Spec
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

func newPlanned(ctx context.Context, flags planFlags, s mesh.Snapshot, traffic *trafficSource, e experiments.Experiment) planned {
	plan := flags.placement.decide(s, e)
	p := planned{Experiment: plan.Experiment, Objects: []*unstructured.Unstructured{}, Warnings: mesh.Warnings(s, e, plan), spec: e.Spec}
	if p.Warnings == nil {
		p.Warnings = []string{}
	}
	for _, d := range plan.Decisions {
		decision := plannedDecision{Decision: d}
		if d.Placement == mesh.Refused {
			p.refused = true
		} else {
			decision.measure(traffic.ask(ctx, e, d))
			if flags.diff {
				decision.diff = mesh.DiffRoutes(routesOf(s, plan, d))
			}
		}
		p.Decisions = append(p.Decisions, decision)
	}
	p.asked = traffic.querier != nil
	for _, object := range plan.Objects {
		p.Objects = append(p.Objects, labelled(object))
	}
	return p
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

// routesOf gives the http routes from the callers of a decision to the host,
// before the fault and while it is in force.
func routesOf(s mesh.Snapshot, p mesh.Plan, d mesh.Decision) (before, during []map[string]any) {
	before = []map[string]any{{
		"name":  "default",
		"route": []any{map[string]any{"destination": map[string]any{"host": d.Host}}},
	}}
	for _, vs := range s.VirtualServices {
		if d.InForce != nil && vs.GetNamespace()+"/"+vs.GetName() == *d.InForce {
			before = httpRoutes(vs)
		}
	}
	for _, object := range p.Objects {
		annotations := object.GetAnnotations()
		if object.GetKind() == "VirtualService" && annotations[mesh.HostAnnotation] == d.Host && annotations[mesh.CallersAnnotation] == d.Callers {
			during = httpRoutes(object)
		}
	}
	return before, during
}

func httpRoutes(vs *unstructured.Unstructured) []map[string]any {
	list, _, _ := unstructured.NestedSlice(vs.Object, "spec", "http")
	var routes []map[string]any
	for _, item := range list {
		if route, ok := item.(map[string]any); ok {
			routes = append(routes, route)
		}
	}
	return routes
}

// trafficSource asks Prometheus for requests per second, until it fails once:
// a plan is worth having without them.
type trafficSource struct {
	querier steadystate.Querier // nil when nobody can be asked
	stderr  io.Writer
	// unknown is why nobody can be asked, until it has been said.
	unknown error
}

func newTrafficSource(env Env, address string) (*trafficSource, error) {
	address = cmp.Or(address, env.Getenv("SQUALL_PROMETHEUS"))
	if address == "" {
		return &trafficSource{stderr: env.Stderr, unknown: errors.New("neither --prometheus nor SQUALL_PROMETHEUS names a server")}, nil
	}
	client, err := prom.New(address)
	if err != nil {
		return nil, &hintedError{err, "--prometheus http://HOST:9090"}
	}
	return &trafficSource{querier: client, stderr: env.Stderr}, nil
}

// ask gives what is known of the requests that an experiment would hit, or nil.
func (t *trafficSource) ask(ctx context.Context, e experiments.Experiment, d mesh.Decision) (traffic *runner.Traffic) {
	if t.querier != nil {
		traffic, t.unknown = runner.ReadTraffic(ctx, t.querier, e, d.Host, d.Callers)
	}
	if t.unknown != nil && ctx.Err() == nil {
		fmt.Fprintf(t.stderr, "squall: how many requests would be hit is unknown: %v\n", t.unknown)
		t.querier, t.unknown = nil, nil
	}
	return traffic
}

// measure fills in how many requests the fault would hit.
func (d *plannedDecision) measure(traffic *runner.Traffic) {
	if traffic == nil {
		return
	}
	requests, hit, failing := rounded(traffic.Requests), rounded(traffic.Hit), rounded(traffic.Failing)
	d.RequestsPerSecond, d.HitPerSecond, d.FailingPerSecond, d.AtMost = &requests, &hit, &failing, traffic.AtMost
}
