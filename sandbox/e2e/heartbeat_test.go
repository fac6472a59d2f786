package e2e_test

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

var (
	namespaces = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	services   = schema.GroupVersionResource{Version: "v1", Resource: "services"}
	quotas     = schema.GroupVersionResource{Version: "v1", Resource: "resourcequotas"}
	policies   = schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingadmissionpolicies"}
	bindings   = schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingadmissionpolicybindings"}
)

// manifest makes an object of the cluster's administrator for the time of a
// test.
func manifest(t testing.TB, resource schema.GroupVersionResource, namespace string, object map[string]any) {
	t.Helper()
	client := mesh.Kube.Resource(resource).Namespace(namespace)
	created, err := client.Create(t.Context(), &unstructured.Unstructured{Object: object}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := client.Delete(context.WithoutCancel(t.Context()), created.GetName(), metav1.DeleteOptions{})
		if err != nil && !strings.Contains(err.Error(), "not found") {
			t.Error(err)
		}
	})
}

// namespace makes a namespace of callers.
func namespace(t testing.TB, name string) {
	t.Helper()
	manifest(t, namespaces, "", map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name}})
}

// A quota leaves no room for the Job: no fault without what removes it, unless
// that is asked for.
func TestHeartbeatRefusedByQuota(t *testing.T) {
	namespace(t, "quota")
	manifest(t, quotas, "quota", map[string]any{
		"apiVersion": "v1", "kind": "ResourceQuota", "metadata": map[string]any{"name": "no-jobs"},
		"spec": map[string]any{"hard": map[string]any{"count/jobs.batch": "0"}},
	})
	// The work of the quota controller, which the sandbox does not run.
	status := []byte(`{"status": {"hard": {"count/jobs.batch": "0"}, "used": {"count/jobs.batch": "0"}}}`)
	if _, err := mesh.Kube.Resource(quotas).Namespace("quota").Patch(t.Context(), "no-jobs", types.MergePatchType, status, metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	var refused *squall
	eventually(t, func() error { // the admission plugin works from a cache
		refused = runFile(t, spec{callers: "[{namespace: quota}]", duration: "1s"})
		<-refused.done
		if refused.cmd.ProcessState.ExitCode() != 3 {
			return errNotInForce
		}
		return nil
	})
	for _, want := range []string{"exceeded quota: no-jobs", "with --heartbeat=off nothing removes the fault if Squall dies"} {
		if !strings.Contains(refused.stdout.String(), want) {
			t.Errorf("the summary does not say %q", want)
		}
	}
	without := runFile(t, spec{callers: "[{namespace: quota}]", duration: "1s"}, "--heartbeat=off")
	without.exits(0)
	if !strings.Contains(without.stdout.String(), "the fault would have stayed if Squall had died") {
		t.Error("the summary does not say that there was no heartbeat")
	}
}

// A policy permits some images only. No pod is ever made, but the Job names
// one.
func TestHeartbeatImage(t *testing.T) {
	namespace(t, "policy")
	manifest(t, policies, "", map[string]any{
		"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": map[string]any{"name": "images"},
		"spec": map[string]any{
			"failurePolicy": "Fail",
			"matchConstraints": map[string]any{
				"namespaceSelector": map[string]any{"matchLabels": map[string]any{"kubernetes.io/metadata.name": "policy"}},
				"resourceRules":     []any{map[string]any{"apiGroups": []any{"batch"}, "apiVersions": []any{"v1"}, "operations": []any{"CREATE"}, "resources": []any{"jobs"}}},
			},
			"validations": []any{map[string]any{
				"expression": "object.spec.template.spec.containers.all(c, c.image.startsWith('registry.corp/'))", "message": "only images of registry.corp",
			}},
		},
	})
	manifest(t, bindings, "", map[string]any{
		"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": map[string]any{"name": "images"},
		"spec": map[string]any{"policyName": "images", "validationActions": []any{"Deny"}},
	})
	var refused *squall
	eventually(t, func() error { // policies become effective after a moment
		refused = runFile(t, spec{callers: "[{namespace: policy}]", duration: "1s"})
		<-refused.done
		if refused.cmd.ProcessState.ExitCode() != 3 {
			return errNotInForce
		}
		return nil
	})
	for _, want := range []string{"only images of registry.corp", "--heartbeat-image"} {
		if !strings.Contains(refused.stdout.String(), want) {
			t.Errorf("the summary does not say %q", want)
		}
	}
	runFile(t, spec{callers: "[{namespace: policy}]", duration: "1s"}, "--heartbeat-image", "registry.corp/none:1").exits(0)
}

// Two runs start at the same time: one has the lock, and the error of the other names
// it.
func TestTwoRunsAtOnce(t *testing.T) {
	for range 3 {
		a, b := runFile(t, spec{duration: "3s"}), runFile(t, spec{duration: "3s"})
		<-a.done
		<-b.done
		codes := []int{a.cmd.ProcessState.ExitCode(), b.cmd.ProcessState.ExitCode()}
		loser := a
		if codes[0] == 0 {
			loser = b
		}
		if codes[0]+codes[1] != 3 || codes[0]*codes[1] != 0 {
			t.Fatalf("exit codes %v instead of 0 and 3", codes)
		}
		if !strings.Contains(loser.stdout.String(), "already disturbs the") {
			t.Error("the summary does not say who has the lock")
		}
	}
}

// A namespace that goes takes the fault and the heartbeat along.
func TestNamespaceIsDeletedUnderARun(t *testing.T) {
	namespace(t, "doomed")
	s := runFile(t, spec{callers: "[{namespace: doomed}]"})
	s.says("observe")
	inForce(t, "doomed/caller", ratings, true)
	deleted := time.Now()
	if err := mesh.Kube.Resource(namespaces).Delete(t.Context(), "doomed", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	<-s.done
	if took := time.Since(deleted); took > 20*time.Second {
		t.Errorf("noticed after %s", took)
	}
	if code := s.cmd.ProcessState.ExitCode(); code != 4 && code != 3 {
		t.Errorf("exit code %d", code)
	}
	inForce(t, "doomed/caller", ratings, false)
}

// Without a heartbeat a killed run's fault stays until its time is over, which
// is why it must be asked for; the next run on the same calls says whose it is.
func TestKilledWithoutHeartbeat(t *testing.T) {
	s := prepare(t, "run", spec{}.write(t), "--heartbeat=off")
	s.start()
	s.says("observe")
	inForce(t, reviews, ratings, true)
	s.signal(syscall.SIGKILL)
	<-s.done
	second := prepare(t, "run", spec{}.write(t))
	t.Cleanup(func() {
		background := metav1.DeletePropagationBackground
		err := mesh.Kube.Resource(virtualServices).Namespace("shop").DeleteCollection(context.WithoutCancel(t.Context()), metav1.DeleteOptions{PropagationPolicy: &background}, metav1.ListOptions{LabelSelector: "app.kubernetes.io/managed-by=squall"})
		if err != nil {
			t.Error(err)
		}
	})
	if err := second.cmd.Run(); err == nil {
		t.Error("a second run starts beside the fault of the first")
	}
	if code := second.cmd.ProcessState.ExitCode(); code != 3 || !strings.Contains(second.stdout.String(), "already disturbs the calls") {
		t.Errorf("exit code %d, summary %s", code, &second.stdout)
	}
}
