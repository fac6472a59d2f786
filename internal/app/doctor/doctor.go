// Package doctor checks whether a cluster and a Prometheus are fit for Squall: what
// is installed, what the user may do, whether Kubernetes removes the fault of a run
// that has died, and whether Prometheus would show a fault.
package doctor

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/kube"
	"github.com/squall-chaos/squall/mesh/objects"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// Status is the result of one check.
type Status string

// The results. Experiments can run despite a warning.
const (
	OK      Status = "ok"
	Warning Status = "warning"
	Failure Status = "failure"
)

// Check is the result of one check.
type Check struct {
	Name   string `json:"check"`
	Status Status `json:"status"`
	// Detail is the finding.
	Detail string `json:"detail"`
	// Hint is the next step. It is empty if the check is OK.
	Hint string `json:"hint,omitempty"`
}

func ok(name, format string, args ...any) Check {
	return Check{Name: name, Status: OK, Detail: fmt.Sprintf(format, args...)}
}

func warning(name, detail, hint string) Check {
	return Check{Name: name, Status: Warning, Detail: detail, Hint: hint}
}

func failure(name, detail, hint string) Check {
	return Check{Name: name, Status: Failure, Detail: detail, Hint: hint}
}

// APIServer reports what an API server and Istio are.
type APIServer interface {
	Name() string
	Server(ctx context.Context) (kube.Server, error)
	APIs(ctx context.Context) (kube.APIs, error)
	// Istiods returns the versions of the Deployments of istiod.
	Istiods(ctx context.Context) ([]string, error)
}

// Contents reports what is in a cluster and what the user may do there.
type Contents interface {
	// Missing returns those permissions that the user lacks.
	Missing(ctx context.Context, permissions []kube.Permission) ([]kube.Permission, error)
	// Namespaces returns the labels of all namespaces by their names.
	Namespaces(ctx context.Context) (map[string]map[string]string, error)
	// List returns Squall's objects in a namespace, or in all if it is empty.
	List(ctx context.Context, namespace string) (objects.Owned, error)
}

// Objects creates, watches and deletes objects.
type Objects interface {
	Create(ctx context.Context, object *unstructured.Unstructured) (*unstructured.Unstructured, error)
	// Armed waits until the Job controller has started a Job, and returns it.
	Armed(ctx context.Context, job objects.Ref) (*unstructured.Unstructured, error)
	// Watch calls changed with each state of an object, and with nil once it is
	// deleted, when it returns.
	Watch(ctx context.Context, object objects.Ref, changed func(*unstructured.Unstructured))
	Delete(ctx context.Context, object objects.Ref, run string) error
}

// Admission returns an object as the cluster would store it. It creates nothing.
type Admission interface {
	Check(ctx context.Context, object *unstructured.Unstructured) (*unstructured.Unstructured, error)
}

// Prometheus answers queries.
type Prometheus interface {
	steadystate.Querier
	Address() string
	Version(ctx context.Context) (string, error)
}

// Doctor checks a cluster and a Prometheus.
type Doctor struct {
	APIServer APIServer
	Contents  Contents
	// Objects is used to prove that Kubernetes removes the fault of a dead run, by
	// objects in the first of the namespaces. Nil leaves the proof out.
	Objects Objects
	// Admission is used together with Objects; nil leaves its check out.
	Admission Admission
	// Prometheus is nil if no server is named.
	Prometheus Prometheus
	// Overrides are what the user says about Istio's control plane.
	Overrides config.Overrides
	// Namespaces are the namespaces of callers, and the one of --home-namespace.
	Namespaces []string
	// HeartbeatImage is the image in the Job of the proof.
	HeartbeatImage string
	// Owner is written to the objects of the proof.
	Owner string
}

// checkTimeout limits each check but the heartbeat.
const checkTimeout = 15 * time.Second

// Examine runs all checks, one after another, and reports each result. It returns
// the error of ctx, if it has ended.
func (d Doctor) Examine(ctx context.Context, report func(Check)) error {
	before, _ := d.pushes(ctx) // without it, pushed reports the error
	removal := d.examineCluster(ctx, report)
	scrapes := d.examinePrometheus(ctx, report)
	if d.Objects != nil && d.Prometheus != nil && removal.known {
		push := d.pushed(ctx, before, scrapes, report)
		report(guarantee(removal, scrapes, push))
	}
	return ctx.Err()
}

// measured is a duration that was measured, if it is known.
type measured struct {
	time.Duration
	known bool
}

// examineCluster runs the checks of a cluster, and only the first one if its API
// server does not answer. It returns how long after its deadline a heartbeat was
// removed, with what it owned.
func (d Doctor) examineCluster(ctx context.Context, report func(Check)) (late measured) {
	within := func(check func(context.Context) []Check) (passed bool) {
		ctx, cancel := context.WithTimeout(ctx, checkTimeout)
		defer cancel()
		passed = true
		for _, c := range check(ctx) {
			report(c)
			passed = passed && c.Status != Failure
		}
		return passed
	}
	if !within(d.apiServer) {
		return late
	}
	var apis kube.APIs
	istio := within(func(ctx context.Context) (checks []Check) {
		checks, apis = d.apis(ctx)
		return checks
	})
	within(d.istiod)
	permitted := within(func(ctx context.Context) []Check { return d.permissions(ctx, apis) })
	if d.Objects != nil && istio {
		if permitted && d.Admission != nil {
			within(func(ctx context.Context) []Check { return d.admission(ctx, d.Namespaces[0], apis.Used.String()) })
		}
		var check Check
		check, late = d.heartbeat(ctx, d.Namespaces[0], apis.Used.String(), permitted)
		report(check)
	}
	within(d.injection)
	if istio {
		within(d.liveFaults)
	}
	return late
}

const reachHint = "check --kubeconfig and --context"

func (d Doctor) apiServer(ctx context.Context) []Check {
	began := time.Now()
	server, err := d.APIServer.Server(ctx)
	if err != nil {
		return []Check{failure("API server", err.Error(), reachHint)}
	}
	return []Check{
		ok("API server", "%s answers: Kubernetes %s", d.APIServer.Name(), cmp.Or(server.Version, "of an unknown version")),
		// The Date header has whole seconds: half a second is lost on average.
		clock("the API server", server.Time.Add(time.Second/2), began, time.Now()),
	}
}

// maxSkew is the difference of two clocks that is not reported.
const maxSkew = 2 * time.Second

// clock compares this machine's clock with another one, which was read between
// before and after.
func clock(whose string, theirs, before, after time.Time) Check {
	skew := theirs.Sub(before.Add(after.Sub(before) / 2))
	if skew.Abs() <= maxSkew {
		return ok("clock", "the clocks of this machine and %s agree", whose)
	}
	relation := "ahead of"
	if skew < 0 {
		relation = "behind"
	}
	return warning("clock", fmt.Sprintf("%s is %s %s this machine", whose, skew.Abs().Round(time.Second), relation), "synchronize the clocks with NTP; faults do not depend on them, but times in squall status do")
}

func (d Doctor) apis(ctx context.Context) ([]Check, kube.APIs) {
	apis, err := d.APIServer.APIs(ctx)
	if err != nil {
		return []Check{failure("Istio API", err.Error(), "install Istio, or choose another cluster with --context")}, apis
	}
	checks := []Check{ok("Istio API", "uses %s; served are %s", apis.Used, strings.Join(apis.Istio, ", "))}
	if len(apis.Gateway) == 0 {
		return append(checks, ok("Gateway API", "not installed")), apis
	}
	return append(checks, ok("Gateway API", "%s; faults on hosts with Gateway API routes are refused", strings.Join(apis.Gateway, ", "))), apis
}

func (d Doctor) istiod(ctx context.Context) []Check {
	const name = "istiod"
	versions, err := d.APIServer.Istiods(ctx)
	if err == nil && len(versions) > 0 {
		return []Check{version(strings.Join(versions, ", "), versions)}
	}
	reason := "no Deployment in " + cmp.Or(d.Overrides.Namespace, config.DefaultNamespace) + " has the label app=istiod"
	if err != nil {
		reason = err.Error()
	}
	if versions := d.istiodsByMetrics(ctx); len(versions) > 0 {
		return []Check{version(strings.Join(versions, ", ")+" (from Prometheus)", versions)}
	}
	return []Check{warning(name, "version unknown: "+reason, "istioctl version prints it; plans assume Istio "+config.AssumedVersion())}
}

// version returns the check of the versions of the control planes.
func version(text string, versions []string) Check {
	if slices.ContainsFunc(versions, func(version string) bool { return !config.IsKnown(version) }) {
		return warning("istiod", text+"; Squall knows the rules of Istio "+config.Versions(), "compare the routes of a first run with istioctl proxy-config routes")
	}
	return ok("istiod", "%s", text)
}

// istiodsByMetrics returns the versions in istiod's own metrics.
func (d Doctor) istiodsByMetrics(ctx context.Context) (versions []string) {
	if d.Prometheus == nil {
		return nil
	}
	samples, err := d.Prometheus.Query(ctx, `group by (tag) (istio_build{component="pilot"})`)
	if err != nil {
		return nil // examinePrometheus reports it
	}
	for _, sample := range samples {
		versions = append(versions, sample.Labels["tag"])
	}
	slices.Sort(versions)
	return versions
}

// permissions returns a check for each resource.
func (d Doctor) permissions(ctx context.Context, apis kube.APIs) (checks []Check) {
	for _, need := range kube.Needs(d.Namespaces, d.Overrides, len(apis.Gateway) > 0) {
		checks = append(checks, d.permission(ctx, need))
	}
	return checks
}

func (d Doctor) permission(ctx context.Context, need kube.Need) Check {
	const name = "permissions"
	where, role := "in the whole cluster", "a ClusterRole"
	if need.Namespace != "" {
		where, role = "in namespace "+need.Namespace, "a Role in namespace "+need.Namespace
	}
	missing, err := d.Contents.Missing(ctx, need.Permissions())
	if err != nil {
		return failure(name, err.Error(), reachHint)
	}
	if len(missing) == 0 {
		return ok(name, "%s: %s %s", where, strings.Join(need.Verbs, ", "), resourceInWords(need))
	}
	verbs := make([]string, len(missing))
	for i, p := range missing {
		verbs[i] = p.Verb
	}
	check := failure(name, fmt.Sprintf("%s: not permitted: %s %s", where, strings.Join(verbs, ", "), resourceInWords(need)), fmt.Sprintf("add to %s: %s", role, need.Rule(verbs)))
	if need.Without != "" {
		check.Status = Warning
		check.Detail += "; " + need.Without
	}
	return check
}

func resourceInWords(need kube.Need) string {
	text := need.Resource
	if need.Group != "" {
		text += "." + need.Group
	}
	if need.Name != "" {
		text += " " + need.Name
	}
	return text
}

func (d Doctor) injection(ctx context.Context) []Check {
	const name = "namespaces"
	namespaces, err := d.Contents.Namespaces(ctx)
	if err != nil {
		return []Check{failure(name, err.Error(), "a run reads the labels of all namespaces: grant list on namespaces")}
	}
	var injected, ambient []string
	for namespace, labels := range namespaces {
		switch {
		case config.IsAmbient(labels):
			ambient = append(ambient, namespace)
		case config.Injected(labels):
			injected = append(injected, namespace)
		}
	}
	check := ok(name, "with sidecar injection: %s; ambient: %s", listed(injected), listed(ambient))
	if len(injected) == 0 {
		check.Status = Warning
		check.Hint = "the callers' sidecars inject the faults: label their namespaces with istio-injection=enabled or istio.io/rev, or inject the pods one by one"
	}
	return []Check{check}
}

// maxListed is the number of names in a line.
const maxListed = 8

func listed(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	slices.Sort(names)
	if more := len(names) - maxListed; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:maxListed], ", "), more)
	}
	return strings.Join(names, ", ")
}

// owned returns Squall's objects in the whole cluster. If the user may not list all of
// them there, the Jobs of the namespaces in question suffice.
func (d Doctor) owned(ctx context.Context) (objects.Owned, error) {
	all, err := d.Contents.List(ctx, "")
	if err != nil || slices.ContainsFunc(all.Unread, func(u objects.Unread) bool { return u.Kind != objects.UnreadRuns }) {
		return all, err
	}
	if len(all.Unread) == 0 || len(d.Namespaces) == 0 {
		return all, nil
	}
	jobs := objects.Owned{Objects: all.Objects}
	for _, namespace := range d.Namespaces {
		here, err := d.Contents.List(ctx, namespace)
		if err != nil || len(here.Unread) > 0 {
			return all, err
		}
		for _, object := range here.Objects {
			if object.GetKind() == objects.KindJob {
				jobs.Objects = append(jobs.Objects, object)
			}
		}
	}
	return jobs, nil
}

func (d Doctor) liveFaults(ctx context.Context) []Check {
	const name = "live faults"
	server, err := d.APIServer.Server(ctx)
	if err != nil {
		return []Check{failure(name, err.Error(), reachHint)}
	}
	owned, err := d.owned(ctx)
	if err != nil {
		return []Check{failure(name, err.Error(), reachHint)}
	}
	runs := objects.ActiveRuns(owned)
	new(objects.Expiry).Mark(runs, objects.Reading{Server: server.Time})
	var live, overdue []string
	for _, run := range runs {
		if run.Expired || slices.ContainsFunc(run.Faults, func(f objects.ActiveFault) bool { return f.Orphaned }) {
			overdue = append(overdue, run.ID)
		} else {
			live = append(live, run.ID)
		}
	}
	switch {
	case len(overdue) > 0:
		return []Check{warning(name, fmt.Sprintf("expired or orphaned: %s; live: %s", listed(overdue), listed(live)), "squall status lists them, squall rollback RUN removes them")}
	case len(live) > 0:
		return []Check{warning(name, listed(live), "squall status lists them")}
	case len(owned.Unread) > 0:
		return []Check{warning(name, fmt.Sprintf("incomplete: not permitted: %s", owned.Unread[0]), "squall status -n NAMESPACE lists the faults of one namespace")}
	default:
		return []Check{ok(name, "none")}
	}
}
