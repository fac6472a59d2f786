// Package envoy_test runs the squall binary against real sidecars: Envoys with
// certificates of istiod, behind Istio's iptables rules.
package envoy_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/squall-chaos/squall/sandbox/internal/audit"
	"github.com/squall-chaos/squall/sandbox/internal/layout"
	"github.com/squall-chaos/squall/sandbox/internal/poll"
	"github.com/squall-chaos/squall/sandbox/internal/testbed"
)

var mesh *testbed.Sandbox

// The hosts and callers of the shop.
const (
	ratings     = "ratings.prod.svc.cluster.local:9080"
	details     = "details.prod.svc.cluster.local:9080"
	reviews     = "shop/reviews-v1"
	productpage = "shop/productpage-v1"
	other       = "shop/other"
)

// width is how many tests run at the same time. They wait more than they work.
const width = 4

var attached = flag.String("sandbox", "", "the directory of a sandbox that is up with --gateways, instead of a new one")

func TestMain(m *testing.M) {
	if isClient() {
		return
	}
	flag.Parse()
	if err := flag.Set("test.parallel", strconv.Itoa(width)); err != nil {
		fmt.Fprintln(os.Stderr, "e2e/envoy:", err)
		os.Exit(1)
	}
	if os.Geteuid() != 0 && os.Getenv("CI") == "" {
		fmt.Println("skipped: sidecars need root; with CI set this is a failure")
		os.Exit(0)
	}
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e/envoy:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	if *attached != "" {
		mesh, err = testbed.Attach(*attached)
	} else {
		mesh, err = testbed.UpSidecars("--gateways")
	}
	if err != nil {
		return 1, err
	}
	if *attached == "" {
		defer func() { err = errors.Join(err, mesh.Down()) }()
	}
	code = m.Run()
	if code == 0 {
		_, err = audit.Check(layout.Dir(mesh.Dir).AuditLog())
	}
	return code, errors.Join(err, nothingRejected(), nothingLeft(""))
}

// nothingRejected returns an error if a proxy has rejected a configuration, as
// istiod counts and as the proxies do.
func nothingRejected() error {
	rejected, err := query(`sum(pilot_total_xds_rejects)`)
	if err == nil && rejected > 0 {
		err = fmt.Errorf("proxies have rejected %g configurations", rejected)
	}
	pods, podsErr := withEnvoy()
	err = errors.Join(err, podsErr)
	for _, pod := range pods {
		var stats string
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		err = errors.Join(err, poll.Until(ctx, func() (err error) {
			stats, err = mesh.Envoy(ctx, pod, "/stats?filter=update_rejected")
			return err
		}))
		cancel()
		for line := range strings.Lines(stats) {
			if _, value, ok := strings.Cut(strings.TrimSpace(line), ": "); ok && value != "0" {
				err = errors.Join(err, fmt.Errorf("%s: %s", pod, line))
			}
		}
	}
	return err
}

// proxies is the number of Envoys of the shop and its gateways.
const proxies = 13

// withEnvoy returns the pods that have an Envoy: gateways, and the pods of namespaces
// with injection unless they have only an agent for gRPC.
func withEnvoy() (names []string, err error) {
	list := func(resource string) ([]unstructured.Unstructured, error) {
		found, err := mesh.Kube.Resource(schema.GroupVersionResource{Version: "v1", Resource: resource}).List(context.Background(), metav1.ListOptions{})
		if err != nil {
			return nil, err
		}
		return found.Items, nil
	}
	namespaces, err := list("namespaces")
	if err != nil {
		return nil, err
	}
	pods, err := list("pods")
	if err != nil {
		return nil, err
	}
	injected := map[string]bool{}
	for _, namespace := range namespaces {
		injected[namespace.GetName()] = namespace.GetLabels()["istio-injection"] == "enabled"
	}
	for _, pod := range pods {
		template := pod.GetAnnotations()["inject.istio.io/templates"]
		if template == "gateway" || template == "" && injected[pod.GetNamespace()] {
			names = append(names, pod.GetNamespace()+"/"+pod.GetName())
		}
	}
	if len(names) < proxies {
		err = fmt.Errorf("%d pods have an Envoy instead of at least %d: %v", len(names), proxies, names)
	}
	return names, err
}

// query returns the value of the only series of a query, 0 if there is none.
func query(promql string) (float64, error) {
	env, err := mesh.Env()
	if err != nil {
		return 0, err
	}
	base := ""
	for _, variable := range env {
		if value, ok := strings.CutPrefix(variable, "SQUALL_PROMETHEUS="); ok {
			base = value
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/api/v1/query?query="+url.QueryEscape(promql), http.NoBody)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close() //nolint:errcheck // read to the end
	var answer struct {
		Data struct {
			Result []struct {
				Value [2]any `json:"value"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return 0, err
	}
	switch results := answer.Data.Result; len(results) {
	case 0:
		return 0, nil
	case 1:
		text, _ := results[0].Value[1].(string)
		return strconv.ParseFloat(text, 64)
	default:
		return 0, fmt.Errorf("%s has %d series", promql, len(results))
	}
}

// experiment is an experiment; empty fields take the defaults of write.
type experiment struct {
	name, target, callers, match, faults, duration, probe, more string
}

// write writes an experiment file. By default it aborts all calls from the
// reviews to ratings, with a hypothesis that always holds.
func (e experiment) write(t testing.TB) string {
	t.Helper()
	for field, fallback := range map[*string]string{
		&e.name: "test", &e.target: ratingsTarget, &e.callers: "[{namespace: shop, labels: {app: reviews}}]",
		&e.faults: "[{abort: {httpStatus: 555}, percentage: 100}]", &e.duration: "3m", &e.more: "effect: {minRequests: 0}",
		&e.probe: "{name: always, query: vector(1), min: 1, failureLimit: 4}",
	} {
		if *field == "" {
			*field = fallback
		}
	}
	match := ""
	if e.match != "" {
		match = "\n  match: " + e.match
	}
	content := fmt.Sprintf(`apiVersion: squall.dev/v1alpha1
kind: Experiment
metadata: {name: %s}
spec:
  target: %s
  callers: %s%s
  faults: %s
  duration: %s
  steadyState:
    interval: 2s
    before: 1s
    probes: [%s]
  %s
`, e.name, e.target, e.callers, match, e.faults, e.duration, e.probe, e.more)
	file := filepath.Join(t.TempDir(), "experiment.yaml")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// squall is a run of the squall binary.
type squall struct {
	t              testing.TB
	cmd            *exec.Cmd
	stdout, stderr testbed.Output
	done           chan struct{}
}

// ratingsTarget is the target of an experiment without one.
const ratingsTarget = "{host: ratings.prod.svc.cluster.local}"

// detailsTarget is the target of a page that fails.
const detailsTarget = "{host: details.prod.svc.cluster.local}"

// targets are the targets that tests reserve: two runs for one host exclude each
// other.
var targets = struct {
	sync.Mutex

	released *sync.Cond
	owners   map[string]testing.TB
}{owners: map[string]testing.TB{}}

// reserve waits until no other test uses a target, and keeps it until the end of
// the test.
func reserve(t testing.TB, target string) {
	targets.Lock()
	defer targets.Unlock()
	if targets.released == nil {
		targets.released = sync.NewCond(&targets)
	}
	if targets.owners[target] == t {
		return
	}
	for targets.owners[target] != nil {
		targets.released.Wait()
	}
	targets.owners[target] = t
	t.Cleanup(func() {
		targets.Lock()
		defer targets.Unlock()
		delete(targets.owners, target)
		targets.released.Broadcast()
	})
}

var notInNames = regexp.MustCompile("[^a-z0-9]+")

// start starts a run as soon as no other test uses its target. At the end of
// the test nothing of it is left.
func start(t testing.TB, e experiment) *squall {
	t.Helper()
	reserve(t, cmp.Or(e.target, ratingsTarget))
	e.name = strings.Trim(notInNames.ReplaceAllString(strings.ToLower(t.Name()), "-"), "-")
	t.Cleanup(func() { eventually(t, func() error { return nothingLeft(e.name) }) })
	return startFile(t, e.write(t))
}

// startFile starts a run of a file. It does not outlive the test.
func startFile(t testing.TB, file string) *squall {
	t.Helper()
	env, err := mesh.Env()
	if err != nil {
		t.Fatal(err)
	}
	s := &squall{t: t, done: make(chan struct{})}
	s.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), filepath.Join(mesh.Bin, "squall"), "run", file)
	s.cmd.Env, s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = env, t.TempDir(), &s.stdout, &s.stderr
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = s.cmd.Wait() // the exit code is read from the state
		close(s.done)
	}()
	t.Cleanup(func() {
		s.signal(os.Kill)
		<-s.done
		if t.Failed() {
			t.Logf("stdout:\n%s\nstderr:\n%s", &s.stdout, &s.stderr)
		}
	})
	return s
}

// signal sends a signal to the run unless it has ended.
func (s *squall) signal(signal os.Signal) {
	select {
	case <-s.done:
	default:
		_ = s.cmd.Process.Signal(signal) // ended meanwhile
	}
}

// exits waits for the end of the run, which must have the code.
func (s *squall) exits(code int) {
	s.t.Helper()
	select {
	case <-s.done:
	case <-time.After(3 * time.Minute):
		s.t.Fatal("squall does not end")
	}
	if got := s.cmd.ProcessState.ExitCode(); got != code {
		s.t.Fatalf("exit code %d instead of %d", got, code)
	}
}

// ends interrupts the run, which must roll back.
func (s *squall) ends() {
	s.t.Helper()
	s.signal(os.Interrupt)
	s.exits(4)
}

// hits waits until a call of a workload has a code, and fails if the run ends
// before.
func (s *squall) hits(from, to, code string, args ...string) {
	s.t.Helper()
	eventually(s.t, func() error {
		select {
		case <-s.done:
			s.t.Fatalf("squall has ended with exit code %d", s.cmd.ProcessState.ExitCode())
		default:
		}
		return allAre(call(s.t, from, to, append([]string{"-n", "1"}, args...)...), code)
	})
}

// nothingLeft returns an error if an object of an experiment is in the cluster;
// of any experiment without a name.
func nothingLeft(name string) error {
	for _, resource := range []schema.GroupVersionResource{
		{Group: "networking.istio.io", Version: "v1", Resource: "virtualservices"},
		{Group: "networking.istio.io", Version: "v1", Resource: "destinationrules"},
		{Group: "networking.istio.io", Version: "v1", Resource: "serviceentries"},
		{Group: "batch", Version: "v1", Resource: "jobs"},
	} {
		list, err := mesh.Kube.Resource(resource).List(context.Background(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/managed-by=squall"})
		if err != nil {
			return err
		}
		for _, o := range list.Items {
			if name == "" || o.GetAnnotations()["squall.dev/experiment"] == name {
				return fmt.Errorf("%s %s/%s is left", resource.Resource, o.GetNamespace(), o.GetName())
			}
		}
	}
	return nil
}

// eventually tries until it succeeds, and fails the test when it does not.
func eventually(t testing.TB, try func() error) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// call makes 20 calls in a second, unless args say otherwise.
func call(t testing.TB, from, to string, args ...string) testbed.CallResult {
	t.Helper()
	result, err := mesh.Call(t.Context(), from, to, append([]string{"-n", "20", "--rate", "20", "--timeout", "10s"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// allAre returns an error unless all calls have a code.
func allAre(result testbed.CallResult, code string) error {
	if result.Codes[code] != result.Calls {
		return fmt.Errorf("%+v instead of %s", result, code)
	}
	return nil
}

// want fails the test unless all calls have a code.
func want(t testing.TB, what string, result testbed.CallResult, code string) {
	t.Helper()
	if err := allAre(result, code); err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

// isClean waits until all calls of a workload are answered by the target.
func isClean(t testing.TB, from, to string, args ...string) {
	t.Helper()
	eventually(t, func() error { return allAre(call(t, from, to, append([]string{"-n", "1"}, args...)...), "200") })
	want(t, "afterwards", call(t, from, to, args...), "200")
}
