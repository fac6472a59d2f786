package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// ask runs squall to its end. It shares nothing with other runs but the cluster.
func ask(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	s := prepare(t, args...)
	var out, errs bytes.Buffer
	s.cmd.Stdout, s.cmd.Stderr = &out, &errs
	if err := s.cmd.Run(); err != nil {
		if _, ended := errors.AsType[*exec.ExitError](err); !ended {
			t.Fatal(err)
		}
	}
	return s.cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// asked is ask for a command that must end with a code.
func asked(t *testing.T, want int, args ...string) string {
	t.Helper()
	code, stdout, stderr := ask(t, args...)
	if code != want {
		t.Fatalf("squall %v: exit code %d instead of %d\n%s%s", args, code, want, stdout, stderr)
	}
	return stdout
}

// status is what squall status -o json prints.
type status struct{ Runs []liveRun }

type liveRun struct {
	Run, Experiment, Owner string
	Created, Expires       time.Time
	Expired                bool
	Faults                 []struct {
		Host, Callers string
		Heartbeat     time.Time
		Orphaned      bool
	}
	Objects []struct{ Kind, Namespace, Name string }
}

func live(t *testing.T, args ...string) (s status) {
	t.Helper()
	if err := json.Unmarshal([]byte(asked(t, 0, append([]string{"status", "-o", "json"}, args...)...)), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// clean fails the test if anything of a run is left at this moment.
func clean(t *testing.T) {
	t.Helper()
	if found, err := ours(t.Context()); err != nil || len(found) > 0 {
		t.Errorf("left %v: %v", found, err)
	}
}

// killed starts a run and kills it while its fault is active.
func killed(t *testing.T, s spec) {
	t.Helper()
	run := runFile(t, s)
	run.says("observe")
	inForce(t, reviews, ratings, true)
	run.signal(syscall.SIGKILL)
	<-run.done
}

func TestKillSwitchEndsTheFaultOfADeadRun(t *testing.T) {
	for name, faults := range map[string]string{"abort": "", "blackhole": "[{blackhole: {mode: reject}}]"} {
		t.Run(name, func(t *testing.T) {
			before := resourceVersions(t)
			killed(t, spec{faults: faults})
			seen := live(t)
			if len(seen.Runs) != 1 || len(seen.Runs[0].Faults) != 1 {
				t.Fatalf("status %+v", seen)
			}
			run := seen.Runs[0]
			if f := run.Faults[0]; f.Host != ratings || f.Callers != "shop" || f.Orphaned || run.Expired || run.Experiment != "test" || !strings.Contains(run.Owner, "@") {
				t.Errorf("run %+v", run)
			}
			if beat := run.Faults[0].Heartbeat.Sub(run.Created); beat < 14*time.Second || beat > 40*time.Second || run.Expires.Before(run.Created.Add(time.Minute)) {
				t.Errorf("run %+v", run)
			}
			if text := asked(t, 0, "status", "-n", "shop"); !strings.Contains(text, run.Run) || !strings.Contains(text, ratings) {
				t.Error(text)
			}
			if text := asked(t, 0, "status", "-n", "prod"); text != "no live faults on the calls from namespace prod or in it\n" {
				t.Error(text)
			}

			began := time.Now()
			removed := asked(t, 0, "rollback", "--all", "--hold", "0")
			t.Logf("rollback --all took %s", time.Since(began).Round(time.Millisecond))
			clean(t)
			inForce(t, reviews, ratings, false)
			t.Logf("the fault was gone at the caller %s after rollback --all began", time.Since(began).Round(time.Millisecond))
			wantCalls(t, "after", call(t, reviews, ratings), "OK", false)
			for _, object := range run.Objects {
				if !strings.Contains(removed, object.Kind+" "+object.Namespace+"/"+object.Name+" is gone\n") {
					t.Errorf("%v is not reported: %s", object, removed)
				}
			}
			if diff := cmp.Diff(before, resourceVersions(t)); diff != "" {
				t.Errorf("objects of users have changed: %s", diff)
			}
			// Once more: there is nothing to do, and that is fine.
			if text := asked(t, 0, "rollback", "--all", "--hold", "0"); text != "no live faults\n" {
				t.Error(text)
			}
			if text := asked(t, 0, "status"); text != "no live faults\n" {
				t.Error(text)
			}
		})
	}
}

func TestRollbackOfOneRunLeavesAnotherAlone(t *testing.T) {
	killed(t, spec{})
	other := runFile(t, spec{target: "{host: " + details + "}", callers: "[{namespace: shop, labels: {app: productpage}}]"})
	other.says("observe")
	inForce(t, page, details, true)
	seen := live(t)
	i := slices.IndexFunc(seen.Runs, func(run liveRun) bool { return run.Faults[0].Host == ratings })
	if len(seen.Runs) != 2 || i < 0 {
		t.Fatalf("status %+v", seen)
	}
	dead, alive := seen.Runs[i].Run, seen.Runs[1-i].Run

	dry := asked(t, 0, "rollback", dead, "--dry-run")
	if !strings.Contains(dry, "would remove VirtualService shop/") || strings.Contains(dry, alive) || len(live(t).Runs) != 2 {
		t.Error(dry)
	}
	code, _, stderr := ask(t, "rollback", dead, "no-such-run")
	if code != 3 || !strings.Contains(stderr, "not live: no-such-run\nhint: live runs: ") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	inForce(t, reviews, ratings, false)
	if left := live(t); len(left.Runs) != 1 || left.Runs[0].Run != alive {
		t.Errorf("status %+v", left)
	}
	wantCalls(t, "the other run's callers", call(t, page, details), "UNAVAILABLE", true)
	other.signal(syscall.SIGTERM)
	other.exits(4)
}

// A live run ends when its fault is removed by another process.
func TestKillSwitchEndsALivingRun(t *testing.T) {
	run := runFile(t, spec{})
	run.says("observe")
	inForce(t, reviews, ratings, true)
	asked(t, 0, "rollback", "--all", "--hold", "0")
	clean(t)
	select {
	case <-run.done:
	case <-time.After(10 * time.Second):
		t.Fatal("the run goes on without its fault")
	}
	if code := run.cmd.ProcessState.ExitCode(); code != 3 && code != 4 {
		t.Errorf("exit code %d", code)
	}
	clean(t)
	inForce(t, reviews, ratings, false)
}

// stray makes an object in shop as something else than a run would.
func stray(t *testing.T, name string, labels, annotations map[string]string, finalizers ...string) {
	t.Helper()
	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
		"spec": map[string]any{"hosts": []any{name + ".example"}, "exportTo": []any{"."}, "http": []any{map[string]any{"route": []any{map[string]any{"destination": map[string]any{"host": name + ".example"}}}}}},
	}}
	object.SetName(name)
	object.SetLabels(labels)
	object.SetAnnotations(annotations)
	object.SetFinalizers(finalizers)
	client := mesh.Kube.Resource(virtualServices).Namespace("shop")
	if _, err := client.Create(t.Context(), object, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := client.Delete(context.WithoutCancel(t.Context()), name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			t.Error(err)
		}
	})
}

func isThere(t *testing.T, name string) bool {
	t.Helper()
	_, err := mesh.Kube.Resource(virtualServices).Namespace("shop").Get(t.Context(), name, metav1.GetOptions{})
	return err == nil
}

func TestRollbackOfWhatHasExpired(t *testing.T) {
	stamp := func(run string) map[string]string {
		return map[string]string{"app.kubernetes.io/managed-by": "squall", "squall.dev/run": run}
	}
	expires := func(after time.Duration) map[string]string {
		return map[string]string{"squall.dev/expires": time.Now().Add(after).UTC().Format(time.RFC3339), "squall.dev/host": "a.example", "squall.dev/callers": "shop"}
	}
	stray(t, "expired", stamp("run-expired"), expires(-time.Hour))
	stray(t, "current", stamp("run-current"), expires(time.Hour))
	stray(t, "half-ours", map[string]string{"app.kubernetes.io/managed-by": "squall"}, expires(-time.Hour))
	stray(t, "not-ours", map[string]string{"squall.dev/run": "run-expired"}, expires(-time.Hour))

	text := asked(t, 0, "status")
	for _, want := range []string{`(?m)^run-expired .* \d+m ago .* EXPIRED, ORPHANED$`, `(?m)^run-current .* ORPHANED$`} {
		if !matches(t, want, text) {
			t.Errorf("status does not match %s:\n%s", want, text)
		}
	}
	removed := asked(t, 0, "rollback", "--expired")
	if removed != "run-expired: VirtualService shop/expired is gone\n" {
		t.Error(removed)
	}
	asked(t, 0, "rollback", "--all", "--hold", "0")
	for name, want := range map[string]bool{"expired": false, "current": false, "half-ours": true, "not-ours": true} {
		if isThere(t, name) != want {
			t.Errorf("%s is there: %v", name, !want)
		}
	}
}

// A finalizer of another owner keeps a deleted object: the operator gets the command
// that removes it.
func TestRollbackThatCannotEnd(t *testing.T) {
	stray(t, "stuck", map[string]string{"app.kubernetes.io/managed-by": "squall", "squall.dev/run": "run-stuck"}, nil, "example.com/stuck")
	code, _, stderr := ask(t, "rollback", "--all", "--hold", "0", "--timeout", "1s")
	if code != 5 || !strings.Contains(stderr, "kubectl -n shop patch virtualservice stuck --type merge -p '{\"metadata\":{\"finalizers\":null}}' && kubectl -n shop delete virtualservice stuck --ignore-not-found\n") || !strings.Contains(stderr, "is kept by finalizers: example.com/stuck") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	_, err := mesh.Kube.Resource(virtualServices).Namespace("shop").Patch(t.Context(), "stuck", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	asked(t, 0, "rollback", "--all", "--hold", "0")
	clean(t)
}

func TestVerbsWithoutAnAPIServer(t *testing.T) {
	for _, args := range [][]string{{"status"}, {"rollback", "--all", "--hold", "0", "--timeout", "1s"}, {"doctor"}} {
		code, stdout, stderr := ask(t, append(args, "-s", "https://127.0.0.1:1")...)
		if code != 3 || !strings.Contains(stdout+stderr, "the API server https://127.0.0.1:1 does not answer: dial tcp 127.0.0.1:1: connect: connection refused") {
			t.Errorf("squall %v: exit code %d: %s%s", args, code, stdout, stderr)
		}
	}
}

// examination is what squall doctor -o json prints.
type examination struct {
	Healthy bool
	Checks  []struct{ Check, Status, Detail, Hint string }
}

func examined(t *testing.T, want int, args ...string) (e examination) {
	t.Helper()
	if err := json.Unmarshal([]byte(asked(t, want, append([]string{"doctor", "-o", "json"}, args...)...)), &e); err != nil {
		t.Fatal(err)
	}
	return e
}

func TestDoctorFindsTheSandboxHealthy(t *testing.T) {
	e := examined(t, 0, "-n", "shop", "-n", "prod")
	clean(t)
	made := map[string]bool{}
	for _, check := range e.Checks {
		made[check.Check] = true
		if check.Status != "ok" && !hasGap(check.Check) {
			t.Errorf("check %+v", check)
		}
		if check.Check == "heartbeat" {
			t.Log(check.Detail)
		}
	}
	for _, want := range []string{"API server", "clock", "Istio API", "Gateway API", "istiod", "permissions", "admission", "heartbeat", "namespaces", "live faults", "Prometheus", "requests", "scrapes", "guarantee"} {
		if !made[want] {
			t.Errorf("%s was not checked", want)
		}
	}
	if !e.Healthy {
		t.Error("not healthy")
	}
}

// hasGap reports whether a check of squall doctor is a warning in this sandbox: istiod runs
// without a Deployment and without metrics, so its version and its pushes are not known.
func hasGap(check string) bool { return check == "istiod" || check == "guarantee" }

func TestDoctorSeesWhatIsWrong(t *testing.T) {
	killed(t, spec{})
	for _, test := range []struct {
		args []string
		code int
		want []string
	}{
		{[]string{"--no-heartbeat"}, 0, []string{`(?m)^warning +live faults +\d{8}-\d{6}-test-`}},
		{[]string{"--no-heartbeat", "--prometheus", "http://127.0.0.1:1"}, 3, []string{`(?m)^failure +Prometheus +http://127.0.0.1:1 does not answer`}},
		{[]string{"-n", "nowhere"}, 3, []string{`(?m)^failure +heartbeat +in namespace nowhere: create Job nowhere/squall-doctor-.*"nowhere" not found`, "hint: the fault of a run that dies would stay"}},
	} {
		text := asked(t, test.code, append([]string{"doctor"}, test.args...)...)
		for _, want := range test.want {
			if !matches(t, want, text) {
				t.Errorf("doctor %v does not match %s:\n%s", test.args, want, text)
			}
		}
	}
	asked(t, 0, "rollback", "--all", "--hold", "0")
	clean(t)
}
