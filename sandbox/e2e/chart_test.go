package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

const chart = "../../deploy/helm/squall"

// chartValues returns one of the chart's files of values.
func chartValues(name string) string { return filepath.Join(chart, "ci", name+"-values.yaml") }

// charted renders the chart as a release in a namespace.
func charted(t *testing.T, namespace string, values ...string) []*unstructured.Unstructured {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(mesh.Bin, "helm-render"), append([]string{"-n", namespace, chart}, values...)...)
	rendered, err := cmd.Output()
	if err != nil {
		if failure, ok := errors.AsType[*exec.ExitError](err); ok {
			t.Fatalf("%v: %s", err, failure.Stderr)
		}
		t.Fatalf("%v; run: make bin/helm-render", err)
	}
	return decoded(t, rendered)
}

// object decodes an object that is given as JSON.
func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	o := &unstructured.Unstructured{}
	if err := o.UnmarshalJSON([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return o
}

// namespaced creates a namespace, which takes only pods that meet the strictest
// Pod Security Standard, for the time of a test.
func namespaced(t *testing.T, name string) {
	t.Helper()
	namespace := object(t, `{"apiVersion": "v1", "kind": "Namespace", "metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}`)
	namespace.SetName(name)
	// One of an earlier test may not be gone yet.
	eventually(t, func() error {
		_, err := clientOf(mesh.Kube, namespace).Create(t.Context(), namespace, metav1.CreateOptions{})
		return err
	})
	t.Cleanup(func() {
		if err := clientOf(mesh.Kube, namespace).Delete(context.WithoutCancel(t.Context()), name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
}

// dryRun lets the API server check an object to the last field.
func dryRun(t *testing.T, o *unstructured.Unstructured) error {
	t.Helper()
	encoded, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	_, err = clientOf(mesh.Kube, o).Patch(t.Context(), o.GetName(), types.ApplyPatchType, encoded, metav1.PatchOptions{
		FieldManager: "test", DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict,
	})
	return err
}

// podOf returns the pod that a Deployment makes.
func podOf(t *testing.T, deployment *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	template, found, err := unstructured.NestedMap(deployment.Object, "spec", "template")
	if err != nil || !found {
		t.Fatalf("a Deployment without a template: %v", err)
	}
	pod := &unstructured.Unstructured{Object: template}
	pod.SetAPIVersion("v1")
	pod.SetKind("Pod")
	pod.SetName(deployment.GetName())
	pod.SetNamespace(deployment.GetNamespace())
	return pod
}

// The API server takes every object of the chart, and a namespace that permits
// restricted pods only takes its pods.
func TestChartIsTakenByTheAPIServer(t *testing.T) {
	namespaced(t, "faults") // the home of the chart's values
	for name, values := range map[string][]string{"defaults": nil, "listed": {chartValues("listed")}, "everything": {chartValues("everything")}} {
		t.Run(name, func(t *testing.T) {
			release := "chart-" + name
			namespaced(t, release)
			for _, o := range charted(t, release, values...) {
				switch o.GetKind() {
				case "ServiceMonitor", "PrometheusRule":
					continue // no kinds of Kubernetes' own; tools/helm checks them
				case "ServiceAccount":
					apply(t, o) // no pod is taken without it
				case "Deployment":
					takenAndRestricted(t, o)
					servable(t, o)
				}
				if err := dryRun(t, o); err != nil {
					t.Errorf("%s %s: %v", o.GetKind(), o.GetName(), err)
				}
			}
		})
	}
}

// takenAndRestricted fails the test unless the API server takes the pods of a
// Deployment, and would not if they were any less restricted or misspelt.
func takenAndRestricted(t *testing.T, deployment *unstructured.Unstructured) {
	t.Helper()
	pod := podOf(t, deployment)
	if err := dryRun(t, pod); err != nil {
		t.Errorf("pod %s: %v", pod.GetName(), err)
	}
	containers, _, err := unstructured.NestedSlice(pod.Object, "spec", "containers")
	if err != nil || len(containers) != 1 {
		t.Fatalf("%d containers: %v", len(containers), err)
	}
	container, _ := containers[0].(map[string]any)
	if readOnly, _, _ := unstructured.NestedBool(container, "securityContext", "readOnlyRootFilesystem"); !readOnly {
		t.Error("the root filesystem can be written to")
	}
	unstructured.RemoveNestedField(container, "securityContext", "allowPrivilegeEscalation")
	_ = unstructured.SetNestedSlice(pod.Object, containers, "spec", "containers") // it had some
	if err := dryRun(t, pod); !apierrors.IsForbidden(err) {
		t.Errorf("a pod that may gain privileges: %v", err)
	}
	misspelt := deployment.DeepCopy()
	_ = unstructured.SetNestedField(misspelt.Object, int64(1), "spec", "replica") // the spec is a map
	if err := dryRun(t, misspelt); err == nil {
		t.Error("a misspelt field is taken")
	}
}

// servable fails the test unless squall serve knows every flag of a Deployment. It is
// run without the directory of experiments.
func servable(t *testing.T, deployment *unstructured.Unstructured) {
	t.Helper()
	containers, _, err := unstructured.NestedSlice(deployment.Object, "spec", "template", "spec", "containers")
	if err != nil || len(containers) != 1 {
		t.Fatalf("%d containers: %v", len(containers), err)
	}
	container, _ := containers[0].(map[string]any)
	args, _, err := unstructured.NestedStringSlice(container, "args")
	if err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := ask(t, args...); code != 2 || !strings.Contains(stderr, "/etc/squall/experiments is not a directory") {
		t.Errorf("squall %v: exit code %d: %s", args, code, stderr)
	}
}

// account is the chart's ServiceAccount, with exactly the permissions that the
// chart grants.
type account struct {
	// kubeconfig is a file for squall --kubeconfig.
	kubeconfig string
	client     dynamic.Interface
}

// chartAccount grants what the chart grants as a release in a new namespace, for
// the time of a test, and waits until the API server knows.
func chartAccount(t *testing.T, release string, values ...string) account {
	t.Helper()
	namespaced(t, release)
	var made *unstructured.Unstructured
	var last access
	for _, o := range charted(t, release, values...) {
		switch o.GetKind() {
		case "ServiceAccount":
			made = o
		case "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding":
		default:
			continue
		}
		apply(t, o)
		if o.GetKind() == "RoleBinding" && matches(t, `:faults$`, o.GetName()) {
			last = access{o.GetNamespace(), "batch", "jobs", "patch"}
		}
	}
	a := account{kubeconfig: filepath.Join(t.TempDir(), "kubeconfig")}
	a.write(t, made)
	a.client = clientAs(t, a.kubeconfig, "chart")
	eventually(t, func() error {
		return errors.Join(
			permits(t, a.client, access{"", "networking.istio.io", "sidecars", "list"}, true),
			permits(t, a.client, last, true),
			permits(t, a.client, access{"istio-system", "apps", "deployments", "list"}, true),
			permits(t, a.client, access{release, "coordination.k8s.io", "leases", "create"}, true),
		)
	})
	return a
}

// write writes the kubeconfig, with a token as a pod has it.
func (a account) write(t *testing.T, made *unstructured.Unstructured) {
	t.Helper()
	request := object(t, `{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}`)
	request.SetName(made.GetName())
	answer, err := clientOf(mesh.Kube, made).Create(t.Context(), request, metav1.CreateOptions{}, "token")
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := unstructured.NestedString(answer.Object, "status", "token")
	if err != nil || token == "" {
		t.Fatalf("no token: %v", err)
	}
	config, err := clientcmd.LoadFromFile(filepath.Join(mesh.Dir, "kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	config.AuthInfos = map[string]*api.AuthInfo{"chart": {Token: token}}
	config.Contexts = map[string]*api.Context{"chart": {Cluster: config.Contexts["sandbox"].Cluster, AuthInfo: "chart", Namespace: made.GetNamespace()}}
	config.CurrentContext = "chart"
	if err := clientcmd.WriteToFile(*config, a.kubeconfig); err != nil {
		t.Fatal(err)
	}
}

// as adds the account's kubeconfig.
func (a account) as(args ...string) []string { return append(args, "--kubeconfig", a.kubeconfig) }

const virtualService = `{"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "squall-test"}, "spec": {"hosts": ["nobody.invalid"], "http": [{"route": [{"destination": {"host": "nobody.invalid"}}]}]}}`

// writesOnlyIn fails the test unless the account may write in some namespaces
// and in no other. Nothing is written.
func (a account) writesOnlyIn(t *testing.T, allowed ...string) {
	t.Helper()
	for _, namespace := range append([]string{"shop", "prod", "default", "istio-system", "kube-system"}, allowed...) {
		want := slices.Contains(allowed, namespace)
		o := object(t, virtualService)
		o.SetNamespace(namespace)
		_, err := clientOf(a.client, o).Create(t.Context(), o, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if (err == nil) != want || err != nil && !apierrors.IsForbidden(err) {
			t.Errorf("create a VirtualService in %s: %v", namespace, err)
		}
		if err := permits(t, a.client, access{namespace, "", "events", "create"}, want); err != nil {
			t.Error(err)
		}
	}
}

// suffices runs what people and squall serve do, with the account.
func (a account) suffices(t *testing.T, where string, args ...string) {
	t.Helper()
	args = a.as(args...)
	asked(t, 0, append([]string{"plan", spec{}.write(t)}, args...)...)
	for _, check := range examined(t, 0, a.as("-n", where)...).Checks {
		// squall serve sets no hold.
		isHold := strings.HasSuffix(check.Detail, "; squall rollback --all does not keep all runs from starting")
		if check.Status != "ok" && !hasGap(check.Check) && !isHold {
			t.Errorf("check %+v", check)
		}
	}
	blackhole := runFile(t, spec{faults: "[{blackhole: {mode: reject}}]", duration: "1s"}, args...)
	blackhole.exits(0)
	abort := runFile(t, spec{}, args...)
	abort.says("shadow in " + where + ", outranks prod/ratings (public)")
	abort.says("observe")
	inForce(t, reviews, ratings, true)
	wantCalls(t, "the callers", call(t, reviews, ratings), "UNAVAILABLE", true)
	if seen := live(t, a.as()...); len(seen.Runs) != 1 || len(seen.Runs[0].Objects) != 2 || seen.Runs[0].Objects[0].Namespace != where {
		t.Errorf("status %+v", seen)
	}
	abort.signal(syscall.SIGTERM)
	abort.exits(4)
	inForce(t, reviews, ratings, false)

	dead := runFile(t, spec{}, args...)
	dead.says("observe")
	dead.signal(syscall.SIGKILL)
	<-dead.done
	asked(t, 0, a.as("rollback", "--all", "--hold", "0")...)
	clean(t)
}

func TestChartSufficesInListedNamespaces(t *testing.T) {
	a := chartAccount(t, "chart-rights-listed", chartValues("listed"))
	a.suffices(t, "shop")
	a.writesOnlyIn(t, "shop", "prod")
}

func TestChartSufficesInItsOwnNamespace(t *testing.T) {
	const home = "chart-rights-home"
	a := chartAccount(t, home)
	a.suffices(t, home, "--home-namespace", home)
	a.writesOnlyIn(t, home)
	// Only the home is permitted, so that a run refuses to go elsewhere.
	if code, stdout, stderr := ask(t, a.as("run", spec{}.write(t))...); code != 3 || !strings.Contains(stdout, "not permitted") {
		t.Errorf("a run without a home: exit code %d: %s%s", code, stdout, stderr)
	}
}

// The only Leases are for the leader election and for the starts.
func TestChartSufficesForItsLeases(t *testing.T) {
	const release = "chart-rights-leases"
	a := chartAccount(t, release)
	leases := schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"}
	own := a.client.Resource(leases).Namespace(release)
	for name, want := range map[string]bool{"squall": true, "squall-starts": true, "somebody-elses": false} {
		lease := object(t, `{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {}, "spec": {"holderIdentity": "a"}}`)
		lease.SetName(name)
		made, err := own.Create(t.Context(), lease, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := own.Get(t.Context(), name, metav1.GetOptions{}); (err == nil) != want || err != nil && !apierrors.IsForbidden(err) {
			t.Errorf("get %s: %v", name, err)
		}
		_ = unstructured.SetNestedField(made.Object, "b", "spec", "holderIdentity") // the spec is a map
		if _, err := own.Update(t.Context(), made, metav1.UpdateOptions{}); (err == nil) != want || err != nil && !apierrors.IsForbidden(err) {
			t.Errorf("update %s: %v", name, err)
		}
		if err := own.Delete(t.Context(), name, metav1.DeleteOptions{}); !apierrors.IsForbidden(err) {
			t.Errorf("delete %s: %v", name, err)
		}
	}
	if _, err := a.client.Resource(leases).Namespace("kube-system").Get(t.Context(), "squall", metav1.GetOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("get a Lease elsewhere: %v", err)
	}
}
