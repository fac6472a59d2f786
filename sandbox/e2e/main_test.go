// Package e2e_test runs the squall binary against a real mesh: a real API
// server, a real istiod, a real Prometheus and real grpc-go clients.
package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/squall-chaos/squall/sandbox/internal/audit"
	"github.com/squall-chaos/squall/sandbox/internal/layout"
	"github.com/squall-chaos/squall/sandbox/internal/testbed"
)

var errNotInForce = errors.New("the VirtualService is not in force")

var mesh *testbed.Sandbox

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	mesh, err = testbed.Up()
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, mesh.Down()) }()
	code = m.Run()
	summary, err := audit.Check(layout.Dir(mesh.Dir).AuditLog())
	fmt.Printf("squall has made %d objects, changed them %d times and asked %d times to delete them, and written nobody else's\n", summary.Creates, summary.Patches, summary.Deletes)
	return code, err
}

// The hosts and callers of the shop.
const (
	ratings = "ratings.prod.svc.cluster.local"
	details = "details.prod.svc.cluster.local"
	reviews = "shop/reviews-v1"
	page    = "shop/productpage-v1"
)

var (
	virtualServices = schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "virtualservices"}
	serviceEntries  = schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "serviceentries"}
	sidecars        = schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "sidecars"}
	jobs            = schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "jobs"}
)

// spec is the spec of an experiment; the zero value of a field takes the
// default of write. Callers may be none.
type spec struct {
	name, target, callers, match, faults, duration, probes, more string
}

// write writes an experiment file. By default it aborts every call from the
// reviews in shop to ratings, with a hypothesis that always holds.
func (s spec) write(t testing.TB) string {
	t.Helper()
	fill := func(value *string, fallback string) {
		if *value == "" {
			*value = fallback
		}
	}
	fill(&s.name, "test")
	fill(&s.target, "{host: "+ratings+"}")
	fill(&s.callers, "[{namespace: shop, labels: {app: reviews}}]")
	fill(&s.faults, "[{abort: {httpStatus: 503}, percentage: 100}]")
	fill(&s.duration, "60s")
	fill(&s.probes, "[{name: always, query: vector(1), min: 1}]")
	fill(&s.more, "effect: {minRequests: 0}")
	callers := "\n  callers: " + s.callers
	if s.callers == "none" {
		callers = ""
	}
	match := ""
	if s.match != "" {
		match = "\n  match: " + s.match
	}
	file := filepath.Join(t.TempDir(), "experiment.yaml")
	content := fmt.Sprintf(`apiVersion: squall.dev/v1alpha1
kind: Experiment
metadata: {name: %s}
spec:
  target: %s%s%s
  faults: %s
  duration: %s
  steadyState:
    interval: 200ms
    before: 200ms
    probes: %s
  %s
`, s.name, s.target, callers, match, s.faults, s.duration, s.probes, s.more)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// squall is a run of the binary.
type squall struct {
	t      testing.TB
	cmd    *exec.Cmd
	stdout testbed.Output
	stderr testbed.Output
	done   chan struct{}
}

// start starts squall in a new directory. At the end of the test nothing is left of
// the run.
func start(t testing.TB, args ...string) *squall {
	t.Helper()
	s := prepare(t, args...)
	s.start()
	return s
}

// prepare makes a run that has not started yet.
func prepare(t testing.TB, args ...string) *squall {
	t.Helper()
	env, err := mesh.Env()
	if err != nil {
		t.Fatal(err)
	}
	s := &squall{t: t, cmd: exec.CommandContext(context.WithoutCancel(t.Context()), filepath.Join(mesh.Bin, "squall"), args...), done: make(chan struct{})}
	s.cmd.Env, s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = env, t.TempDir(), &s.stdout, &s.stderr
	return s
}

// start starts the run.
func (s *squall) start() {
	t := s.t
	t.Helper()
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = s.cmd.Wait() // the exit code is read from the state
		close(s.done)
	}()
	t.Cleanup(func() {
		select {
		case <-s.done:
		default:
			_ = s.cmd.Process.Kill()
			<-s.done
		}
		if t.Failed() {
			t.Logf("stdout:\n%s\nstderr:\n%s", &s.stdout, &s.stderr)
		}
		nothingLeft(t)
		settled(t)
	})
}

// settled waits until istiod has removed the fault from the callers of most tests, so
// that the next test starts without it.
func settled(t testing.TB) {
	t.Helper()
	eventually(t, func() error {
		routes, err := mesh.Routes(context.WithoutCancel(t.Context()), reviews, "--host", ratings)
		if err == nil && strings.Contains(routes, "virtual-service/squall-") {
			err = errors.New("the fault is still in force at the caller")
		}
		return err
	})
}

// runFile starts a run of an experiment file.
func runFile(t testing.TB, s spec, args ...string) *squall {
	t.Helper()
	return start(t, append([]string{"run", s.write(t)}, args...)...)
}

// exits waits for the end of the run, which must have the code.
func (s *squall) exits(code int) {
	s.t.Helper()
	select {
	case <-s.done:
	case <-time.After(2 * time.Minute):
		s.t.Fatal("squall does not end")
	}
	if got := s.cmd.ProcessState.ExitCode(); got != code {
		s.t.Fatalf("exit code %d instead of %d", got, code)
	}
}

// signal sends a signal to the process that the test started.
func (s *squall) signal(signal os.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(signal); err != nil {
		s.t.Fatal(err)
	}
}

// says waits until the run has said something on stderr.
func (s *squall) says(text string) {
	s.t.Helper()
	eventually(s.t, func() error {
		if !strings.Contains(s.stderr.String(), text) {
			return fmt.Errorf("squall has not said %q", text)
		}
		return nil
	})
}

// eventually tries until it succeeds, and fails the test when it does not.
func eventually(t testing.TB, try func() error) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// ours lists the objects in the cluster that a run of Squall has made.
func ours(ctx context.Context) ([]string, error) {
	var found []string
	for _, resource := range []schema.GroupVersionResource{virtualServices, serviceEntries, jobs} {
		list, err := mesh.Kube.Resource(resource).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/managed-by=squall"})
		if err != nil {
			return nil, err
		}
		for _, item := range list.Items {
			found = append(found, item.GetKind()+" "+item.GetNamespace()+"/"+item.GetName())
		}
	}
	return found, nil
}

// nothingLeft waits until no object of a run is left; only a killed run needs
// the wait.
func nothingLeft(t testing.TB) {
	t.Helper()
	eventually(t, func() error {
		found, err := ours(context.Background())
		if err == nil && len(found) > 0 {
			err = fmt.Errorf("left: %v", found)
		}
		return err
	})
}

// inForce waits until istiod sends routes of our making to a workload.
func inForce(t testing.TB, workload, host string, want bool) {
	t.Helper()
	eventually(t, func() error {
		routes, err := mesh.Routes(t.Context(), workload, "--host", host)
		if err == nil && strings.Contains(routes, "virtual-service/squall-") != want {
			err = fmt.Errorf("routes of %s to %s are ours: %v", workload, host, !want)
		}
		return err
	})
}

// call makes 20 calls, quickly.
func call(t testing.TB, from, host string, args ...string) testbed.CallResult {
	t.Helper()
	result, err := mesh.Call(t.Context(), from, host+":9080", append([]string{"-n", "20", "--rate", "100"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// wantCalls fails the test unless all of the calls ended with a code, and all
// or none of them were injected.
func wantCalls(t testing.TB, what string, got testbed.CallResult, code string, injected bool) {
	t.Helper()
	wantInjected := 0
	if injected {
		wantInjected = got.Calls
	}
	if got.Codes[code] != got.Calls || got.Injected != wantInjected {
		t.Errorf("%s: %+v instead of %s with %d injected", what, got, code, wantInjected)
	}
}

// resourceVersions returns the versions of every object that is not Squall's.
func resourceVersions(t testing.TB) []string {
	t.Helper()
	var versions []string
	for _, resource := range []schema.GroupVersionResource{virtualServices, serviceEntries} {
		list, err := mesh.Kube.Resource(resource).List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/managed-by!=squall"})
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range list.Items {
			versions = append(versions, fmt.Sprintf("%s %s/%s at %s, generation %d", item.GetKind(), item.GetNamespace(), item.GetName(), item.GetResourceVersion(), item.GetGeneration()))
		}
	}
	slices.Sort(versions)
	return versions
}
