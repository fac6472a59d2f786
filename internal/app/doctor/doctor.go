// Package doctor examines whether a cluster and a Prometheus are such that
// Squall keeps its promises there: who may do what, whether Kubernetes removes
// a fault whose run has died, and whether Prometheus would show one.
package doctor

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/squall-chaos/squall/kube"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/steady-state/prom"
)

// Status is the result of one check.
type Status string

// The results. A warning does not keep anybody from running experiments.
const (
	OK      Status = "ok"
	Warning Status = "warning"
	Failure Status = "failure"
)

// Check is one thing that was looked at.
type Check struct {
	Name   string `json:"check"`
	Status Status `json:"status"`
	// Detail is what was found.
	Detail string `json:"detail"`
	// Hint is what to do about it.
	Hint string `json:"hint,omitempty"`
}

func ok(name, format string, args ...any) Check {
	return Check{name, OK, fmt.Sprintf(format, args...), ""}
}

// Doctor examines a cluster and a Prometheus.
type Doctor struct {
	Cluster *kube.Cluster
	// Prometheus is nil when none is known.
	Prometheus *prom.Client
	// Namespaces are those of the callers, or the home of the objects.
	Namespaces []string
	// Heartbeat tells to prove that Kubernetes removes faults, by objects that
	// are created in the first of the namespaces.
	Heartbeat bool
	// HeartbeatImage is the image that the Job for it names.
	HeartbeatImage string
	// Owner is who asks.
	Owner string
}

// checkTimeout bounds one check, the heartbeat's excepted.
const checkTimeout = 15 * time.Second

// Examine makes all checks, one after another, and reports each as it is made.
// The error says that ctx has ended.
func (d Doctor) Examine(ctx context.Context, report func(Check)) error {
	d.examineCluster(ctx, report)
	d.examinePrometheus(ctx, report)
	return ctx.Err()
}

// examineCluster asks nothing more of an API server that does not answer.
func (d Doctor) examineCluster(ctx context.Context, report func(Check)) {
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
		return
	}
	var apis kube.APIs
	istio := within(func(ctx context.Context) (checks []Check) {
		checks, apis = d.apis(ctx)
		return checks
	})
	within(d.istiod)
	permitted := within(func(ctx context.Context) []Check { return d.permissions(ctx, apis) })
	if d.Heartbeat && istio {
		report(d.heartbeat(ctx, d.Namespaces[0], apis.Used.String(), permitted))
	}
	within(d.injection)
	if istio {
		within(d.liveFaults)
	}
}

const reachHint = "check --kubeconfig and --context"

func (d Doctor) apiServer(ctx context.Context) []Check {
	began := time.Now()
	server, err := d.Cluster.Server(ctx)
	if err != nil {
		return []Check{{"API server", Failure, err.Error(), reachHint}}
	}
	return []Check{
		ok("API server", "%s answers: Kubernetes %s", d.Cluster.Name(), cmp.Or(server.Version, "of an unknown version")),
		// The server gives whole seconds, so it is half a second later on average.
		clock("the API server", server.Time.Add(time.Second/2), began, time.Now()),
	}
}

// maxSkew is by how much clocks may differ before it confuses people.
const maxSkew = 2 * time.Second

// clock compares this machine's clock with another one, which was read at some
// moment between two of this machine's.
func clock(whose string, theirs, before, after time.Time) Check {
	skew := theirs.Sub(before.Add(after.Sub(before) / 2))
	if skew.Abs() <= maxSkew {
		return ok("clock", "this machine and %s agree", whose)
	}
	relation := "ahead of"
	if skew < 0 {
		relation = "behind"
	}
	return Check{"clock", Warning, fmt.Sprintf("%s is %s %s this machine", whose, skew.Abs().Round(time.Second), relation), "set the clocks by NTP; no fault depends on it, but the expiry that squall status shows does"}
}

func (d Doctor) apis(ctx context.Context) ([]Check, kube.APIs) {
	apis, err := d.Cluster.APIs(ctx)
	if err != nil {
		return []Check{{"Istio API", Failure, err.Error(), "install Istio, or name another cluster with --context"}}, apis
	}
	checks := []Check{ok("Istio API", "%s is used, of %s", apis.Used, strings.Join(apis.Istio, ", "))}
	if len(apis.Gateway) == 0 {
		return append(checks, ok("Gateway API", "is not installed, so none of its routes can stand in the way")), apis
	}
	return append(checks, ok("Gateway API", "%s; a host whose calls its routes take is refused", strings.Join(apis.Gateway, ", "))), apis
}

func (d Doctor) istiod(ctx context.Context) []Check {
	const name = "istiod"
	versions, err := d.Cluster.Istiods(ctx)
	if err == nil && len(versions) > 0 {
		return []Check{ok(name, "%s", strings.Join(versions, ", "))}
	}
	reason := "no Deployment in istio-system has the label app=istiod"
	if err != nil {
		reason = err.Error()
	}
	if versions := d.istiodsByMetrics(ctx); len(versions) > 0 {
		return []Check{ok(name, "%s, by Prometheus", strings.Join(versions, ", "))}
	}
	return []Check{{name, Warning, "its version is unknown: " + reason, "Squall is tested with the versions of Istio that its sandbox has; istioctl version tells yours"}}
}

// istiodsByMetrics asks for the versions that istiod reports of itself.
func (d Doctor) istiodsByMetrics(ctx context.Context) (versions []string) {
	if d.Prometheus == nil {
		return nil
	}
	samples, err := d.Prometheus.Query(ctx, `group by (tag) (istio_build{component="pilot"})`)
	if err != nil {
		return nil // its own check says why
	}
	for _, sample := range samples {
		versions = append(versions, sample.Labels["tag"])
	}
	slices.Sort(versions)
	return versions
}

// permissions has a line for each resource.
func (d Doctor) permissions(ctx context.Context, apis kube.APIs) (checks []Check) {
	for _, need := range kube.Needs(d.Namespaces, len(apis.Gateway) > 0) {
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
	missing, err := d.Cluster.Missing(ctx, need.Permissions())
	if err != nil {
		return Check{name, Failure, err.Error(), reachHint}
	}
	if len(missing) == 0 {
		return ok(name, "%s: %s %s", where, strings.Join(need.Verbs, ", "), resourceInWords(need))
	}
	verbs := make([]string, len(missing))
	for i, p := range missing {
		verbs[i] = p.Verb
	}
	check := Check{name, Failure, fmt.Sprintf("%s: not permitted: %s %s", where, strings.Join(verbs, ", "), resourceInWords(need)), fmt.Sprintf("add to %s: %s", role, need.Rule(verbs))}
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
	namespaces, err := d.Cluster.Namespaces(ctx)
	if err != nil {
		return []Check{{name, Failure, err.Error(), "a run reads the labels of all namespaces"}}
	}
	var injected, ambient []string
	for namespace, labels := range namespaces {
		switch {
		case mesh.IsAmbient(labels):
			ambient = append(ambient, namespace)
		case mesh.Injected(labels):
			injected = append(injected, namespace)
		}
	}
	check := ok(name, "with sidecar injection: %s; ambient: %s", listed(injected), listed(ambient))
	if len(injected) == 0 {
		check.Status = Warning
		check.Hint = "faults are injected by the callers' sidecars: label their namespaces with istio-injection=enabled or istio.io/rev, or make sure that pods are injected one by one"
	}
	return []Check{check}
}

// maxListed is how many names a line holds.
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

func (d Doctor) liveFaults(ctx context.Context) []Check {
	const name = "live faults"
	server, err := d.Cluster.Server(ctx)
	if err != nil {
		return []Check{{name, Failure, err.Error(), reachHint}}
	}
	owned, err := d.Cluster.List(ctx, "")
	if err != nil {
		return []Check{{name, Failure, err.Error(), reachHint}}
	}
	var live, overdue []string
	for _, run := range mesh.ActiveRuns(owned, server.Time) {
		if run.Expired || slices.ContainsFunc(run.Faults, func(f mesh.ActiveFault) bool { return f.Orphaned }) {
			overdue = append(overdue, run.ID)
		} else {
			live = append(live, run.ID)
		}
	}
	switch {
	case len(overdue) > 0:
		return []Check{{name, Warning, fmt.Sprintf("expired or orphaned: %s; live: %s", listed(overdue), listed(live)), "squall status shows them, squall rollback RUN removes them"}}
	case len(live) > 0:
		return []Check{{name, Warning, listed(live), "squall status shows them"}}
	case len(owned.Unread) > 0:
		return []Check{{name, Warning, fmt.Sprintf("not all can be seen: not permitted: %s", owned.Unread[0]), "squall status -n NAMESPACE looks at one namespace"}}
	default:
		return []Check{ok(name, "none")}
	}
}
