package e2e_test

import (
	"os"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// named writes an experiment file with another name, and with a baseline of some length.
func (s spec) named(t testing.TB, name, before string) string {
	t.Helper()
	file := s.write(t)
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("name: test}", "name: "+name+"}", "before: 200ms", "before: "+before).Replace(string(content))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// The kill switch ends the run and what it would have run next, and holds.
func TestAStopStaysAStop(t *testing.T) {
	t.Cleanup(func() { asked(t, 0, "rollback", "--release") })
	batch := start(t, "run", spec{}.named(t, "first", "1s"), spec{}.named(t, "second", "1s"), spec{}.named(t, "third", "1s"))
	batch.says("observe")
	if text := asked(t, 0, "rollback", "--all"); !strings.Contains(text, "no run starts until ") {
		t.Errorf("rollback: %s", text)
	}
	batch.exits(4)
	if stderr := batch.stderr.String(); !strings.Contains(stderr, "ended from outside; 2 experiments not run") || strings.Contains(stderr, "second") {
		t.Errorf("stderr %s", stderr)
	}
	clean(t)
	if text := asked(t, 0, "status"); !strings.Contains(text, "has stopped all runs until ") {
		t.Errorf("status: %s", text)
	}
	created := creations(t)
	next := runFile(t, spec{})
	next.exits(4)
	if !strings.Contains(next.stdout.String(), "has stopped all runs until ") || len(created()) > 0 {
		t.Errorf("a run after the kill switch: %s", next.stdout.String())
	}
	asked(t, 0, "rollback", "--release")
	runFile(t, spec{duration: "1s"}).exits(0)
}

// Other users see a run in its baseline, and end it.
func TestARunInItsBaselineIsEnded(t *testing.T) {
	run := start(t, "run", spec{}.named(t, "baseline", "30s"))
	run.says("baseline")
	eventually(t, func() error {
		if text := asked(t, 0, "status"); !strings.Contains(text, "baseline   no fault") {
			return errNotInForce
		}
		return nil
	})
	asked(t, 0, "rollback", "--all", "--hold", "0")
	run.exits(4)
	if out, stderr := run.stdout.String(), run.stderr.String(); !strings.Contains(out, "rolled back by ") || strings.Contains(stderr, "create VirtualService") {
		t.Errorf("%s%s", out, stderr)
	}
	clean(t)
}

// A policy that changes the heartbeat refuses the run. The policy is for the Jobs of one
// experiment only, because policies stay effective for a moment after they are deleted.
func TestAHeartbeatThatAdmissionChanges(t *testing.T) {
	admission := schema.GroupVersion{Group: "admissionregistration.k8s.io", Version: "v1"}
	manifest(t, admission.WithResource("mutatingadmissionpolicies"), "", map[string]any{
		"apiVersion": admission.String(), "kind": "MutatingAdmissionPolicy", "metadata": map[string]any{"name": "deadlines"},
		"spec": map[string]any{
			"failurePolicy": "Fail", "reinvocationPolicy": "Never",
			"matchConditions": []any{map[string]any{"name": "experiment", "expression": "object.metadata.name.contains('-policed-')"}},
			"matchConstraints": map[string]any{
				"resourceRules": []any{map[string]any{"apiGroups": []any{"batch"}, "apiVersions": []any{"v1"}, "operations": []any{"CREATE"}, "resources": []any{"jobs"}}},
			},
			"mutations": []any{map[string]any{
				"patchType":          "ApplyConfiguration",
				"applyConfiguration": map[string]any{"expression": "Object{spec: Object.spec{activeDeadlineSeconds: 3600}}"},
			}},
		},
	})
	manifest(t, admission.WithResource("mutatingadmissionpolicybindings"), "", map[string]any{
		"apiVersion": admission.String(), "kind": "MutatingAdmissionPolicyBinding", "metadata": map[string]any{"name": "deadlines"},
		"spec": map[string]any{"policyName": "deadlines"},
	})
	var refused *squall
	eventually(t, func() error { // policies become effective after a moment
		refused = runFile(t, spec{name: "policed", duration: "1s"})
		<-refused.done
		if refused.cmd.ProcessState.ExitCode() != 3 {
			return errNotInForce
		}
		return nil
	})
	if out := refused.stdout.String(); !strings.Contains(out, "spec.activeDeadlineSeconds of Job shop/squall-") || !strings.Contains(out, "is 3600 instead of 15") {
		t.Errorf("the summary does not name the change: %s", out)
	}
	clean(t)
}
