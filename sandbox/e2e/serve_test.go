package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// server is a squall serve under test.
type server struct {
	*squall
	url string
}

// token is the token of the API.
const token = "correct horse battery staple"

// tokenFile writes the token to a file.
func tokenFile(t testing.TB) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	put(t, file, token+"\n")
	return file
}

// put writes a file.
func put(t testing.TB, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// serve starts a squall serve for a directory, and waits until it answers. At the end of
// the test it is stopped, and must exit with 0.
func serve(t testing.TB, folder string, args ...string) *server {
	t.Helper()
	s := &server{squall: start(t, append([]string{"serve", folder, "--listen", "127.0.0.1:0"}, args...)...)}
	t.Cleanup(func() {
		select {
		case <-s.done:
		default:
			s.signal(syscall.SIGTERM)
			s.exits(0)
		}
	})
	eventually(t, func() error {
		_, after, said := strings.Cut(s.stderr.String(), "msg=serving address=")
		address, _, whole := strings.Cut(after, " ")
		if !said || !whole {
			return errors.New("squall does not say where it serves")
		}
		s.url = "http://" + address
		return nil
	})
	return s
}

// ask sends a request, and returns the answer's code and body.
func (s *server) ask(method, path, bearer string, body io.Reader) (code int, answer string, err error) {
	request, err := http.NewRequestWithContext(context.WithoutCancel(s.t.Context()), method, s.url+path, body)
	if err != nil {
		return 0, "", err
	}
	if bearer != "" {
		request.Header.Set("Authorization", "Bearer "+bearer)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, "", err
	}
	content, err := io.ReadAll(response.Body)
	return response.StatusCode, string(content), errors.Join(err, response.Body.Close())
}

// get gets a page, which must be there.
func (s *server) get(path string) string {
	s.t.Helper()
	code, answer, err := s.ask(http.MethodGet, path, "", nil)
	if err != nil || code != http.StatusOK {
		s.t.Fatalf("GET %s: %d, %v: %s", path, code, err, answer)
	}
	return answer
}

// post sends an order with the token, which must be obeyed.
func (s *server) post(path, body string) string {
	s.t.Helper()
	code, answer, err := s.ask(http.MethodPost, path, token, strings.NewReader(body))
	if err != nil || code != http.StatusOK {
		s.t.Fatalf("POST %s: %d, %v: %s", path, code, err, answer)
	}
	return answer
}

// standing is how things stand, as GET /api/v1/status says it.
type standing struct {
	Identity, Leader string
	Leading          bool
	Live             []struct{ Run, Experiment, Phase string }
	Experiments      []experimentStanding
	Broken           []struct {
		File, Problem string
		Kept          bool
	}
}

type experimentStanding struct {
	Name string
	Next time.Time
}

func (s *server) status() (status standing) {
	s.t.Helper()
	decode(s.t, s.get("/api/v1/status"), &status)
	return status
}

func decode(t testing.TB, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
}

// metric returns the value of a metric by its name and labels as /metrics writes
// them, and whether it is there.
func (s *server) metric(name string) (value float64, ok bool) {
	s.t.Helper()
	lines := bufio.NewScanner(strings.NewReader(s.get("/metrics")))
	for lines.Scan() {
		if text, is := strings.CutPrefix(lines.Text(), name+" "); is {
			value, err := strconv.ParseFloat(text, 64)
			if err != nil {
				s.t.Fatal(err)
			}
			return value, true
		}
	}
	return 0, false
}

// phase waits until a run of an experiment is in a phase, and returns the run.
func (s *server) phase(experiment, phase string) (run string) {
	s.t.Helper()
	eventually(s.t, func() error {
		for _, live := range s.status().Live {
			if live.Experiment == experiment && live.Phase == phase {
				run = live.Run
				return nil
			}
		}
		return fmt.Errorf("no run of %s has come to the phase %s", experiment, phase)
	})
	return run
}

// planned returns the content of an experiment file with a schedule, if any, that
// aborts calls from shop to a host.
func planned(name, host, schedule string) string {
	if schedule != "" {
		schedule = "\n  schedule: {" + schedule + "}"
	}
	return fmt.Sprintf(`apiVersion: squall.dev/v1alpha1
kind: Experiment
metadata: {name: %s}
spec:
  target: {host: %s}
  callers: [{namespace: shop, labels: {app: reviews}}]
  faults: [{abort: {httpStatus: 503}, percentage: 100}]
  duration: 55s
  steadyState:
    interval: 500ms
    before: 500ms
    probes: [{name: always, query: vector(1), min: 1}]
  effect: {minRequests: 0}%s
`, name, host, schedule)
}

// configMap is a directory of experiment files in the form of a mounted ConfigMap: each
// file is a link into a directory, which is a link that is replaced.
type configMap struct {
	t     testing.TB
	dir   string
	swaps int
}

func newConfigMap(t testing.TB, files map[string]string) *configMap {
	t.Helper()
	c := &configMap{t: t, dir: t.TempDir()}
	c.swap(files)
	for name := range files {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(c.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// swap replaces the content of all files at once.
func (c *configMap) swap(files map[string]string) {
	c.t.Helper()
	c.swaps++
	version := fmt.Sprintf("..version-%d", c.swaps)
	if err := os.Mkdir(filepath.Join(c.dir, version), 0o750); err != nil {
		c.t.Fatal(err)
	}
	for name, content := range files {
		put(c.t, filepath.Join(c.dir, version, name), content)
	}
	err := errors.Join(os.Symlink(version, filepath.Join(c.dir, "..new")), os.Rename(filepath.Join(c.dir, "..new"), filepath.Join(c.dir, "..data")))
	if err != nil {
		c.t.Fatal(err)
	}
}

// started lists the starts in a directory of records since a time, in no order.
func started(t testing.TB, out string, since time.Time) (experiments []string) {
	t.Helper()
	journals, err := filepath.Glob(filepath.Join(out, "*", "journal.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for _, journal := range journals {
		content, err := os.ReadFile(journal)
		if err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(string(content), "\n")
		var event struct {
			Time time.Time
			Data struct{ Run struct{ Experiment string } }
		}
		decode(t, first, &event)
		if !event.Time.Before(since) {
			experiments = append(experiments, event.Data.Run.Experiment)
		}
	}
	slices.Sort(experiments)
	return experiments
}

// untilNextMinute returns the next full minute, and leaves time until then.
func untilNextMinute(leave time.Duration) time.Time {
	next := time.Now().Truncate(time.Minute).Add(time.Minute)
	if left := time.Until(next); left < leave {
		time.Sleep(left)
		next = next.Add(time.Minute)
	}
	return next
}

// TestServe has two replicas go through a few minutes: files change and break,
// leaders end and die, and each start happens once.
func TestServe(t *testing.T) {
	const everyMinute = `cron: "* * * * *"`
	now := time.Now().UTC()
	opens := now.Truncate(time.Hour).Add(2 * time.Hour) // when the window does
	files := map[string]string{
		"soon.yaml":      planned("soon", ratings, everyMinute),
		"later.yaml":     planned("later", details, ""), // it gets a schedule
		"broken.yaml":    planned("broken", "productpage.shop.svc.cluster.local", everyMinute),
		"suspended.yaml": planned("suspended", details, everyMinute+", suspend: true"),
		"closed.yaml":    planned("closed", details, fmt.Sprintf(`%s, windows: ["%02d:00-%02d:59"]`, everyMinute, opens.Hour(), opens.Hour())),
	}
	mount := newConfigMap(t, files)
	out := t.TempDir()
	args := []string{"--leader-elect", "--lease-namespace", "default", "--lease-name", "e2e", "--out", out, "--max-per-namespace", "0", "--api-token-file", tokenFile(t)}
	// No start falls into the handover: made late, it would last into the next.
	untilNextMinute(20 * time.Second)
	first := serve(t, mount.dir, args...)
	leads(t, first)
	second := serve(t, mount.dir, args...)

	// A broken file keeps its last good version, and a changed one is taken.
	files["broken.yaml"] = strings.ReplaceAll(files["broken.yaml"], "httpStatus: 503", "httpStatus: 5o3")
	files["later.yaml"] = planned("later", details, everyMinute)
	mount.swap(files)
	for _, s := range []*server{first, second} {
		eventually(t, func() error { return s.counts("squall_config_broken_files", 1) })
		status := s.status()
		if len(status.Broken) != 1 || status.Broken[0].File != "broken.yaml" || !status.Broken[0].Kept || !strings.Contains(status.Broken[0].Problem, "httpStatus") {
			t.Errorf("broken files: %+v", status.Broken)
		}
		s.says(`msg="experiment file cannot be used" file=broken.yaml kept=true`)
		if page := s.get("/"); !strings.Contains(page, "broken.yaml") || !strings.Contains(page, "Its last good version is in use.") {
			t.Error("the status page does not tell about the broken file")
		}
		nominal := time.Now().Truncate(time.Minute).Add(time.Minute)
		for name, next := range map[string]time.Time{"soon": nominal, "later": nominal, "broken": nominal, "suspended": {}, "closed": opens} {
			i := slices.IndexFunc(status.Experiments, func(e experimentStanding) bool { return e.Name == name })
			if i < 0 || !status.Experiments[i].Next.Equal(next) {
				t.Errorf("%s does not start next at %s: %+v", name, next, status.Experiments)
			}
		}
	}

	// A leader that is stopped hands over at once.
	ended := time.Now()
	first.signal(syscall.SIGTERM)
	first.exits(0)
	leads(t, second)
	t.Logf("the second replica leads %s after the SIGTERM of the first", time.Since(ended).Round(100*time.Millisecond))
	if took := time.Since(ended); took > 6*time.Second {
		t.Errorf("the second replica leads only after %s", took)
	}
	third := serve(t, mount.dir, args...)

	nominal := untilNextMinute(0)
	time.Sleep(time.Until(nominal))
	for _, name := range []string{"soon", "later", "broken"} {
		second.phase(name, "observe")
		lag, ok := second.metric(fmt.Sprintf(`squall_experiment_last_start_timestamp_seconds{experiment=%q}`, name))
		late := time.Duration((lag - float64(nominal.Unix())) * float64(time.Second))
		t.Logf("%s started %s after its minute", name, late.Round(time.Millisecond))
		if !ok || late < 0 || late > time.Second {
			t.Errorf("%s started %s after its minute", name, late)
		}
	}
	want := []string{"broken", "later", "soon"}
	if diff := cmp.Diff(want, started(t, out, nominal)); diff != "" {
		t.Errorf("starts (-want +got):\n%s", diff)
	}
	inForce(t, reviews, ratings, true)

	// The leader dies in mid-run. Nothing of what it left lasts, and its starts
	// are not made again.
	second.signal(syscall.SIGKILL)
	<-second.done
	killed := time.Now()
	inForce(t, reviews, ratings, false)
	nothingLeft(t)
	gone := time.Since(killed)
	leads(t, third)
	t.Logf("clean %s after the kill, and the third replica leads after %s", gone.Round(100*time.Millisecond), time.Since(killed).Round(100*time.Millisecond))
	if took := time.Since(killed); took > 20*time.Second {
		t.Errorf("the faults were gone after %s, and the third replica leads after %s", gone, took)
	}
	// It has only seen the broken file as it is.
	want = []string{"later", "soon"}
	nominal = nominal.Add(time.Minute)
	time.Sleep(time.Until(nominal))
	for _, name := range want {
		third.phase(name, "observe")
	}
	inForce(t, reviews, ratings, true)
	if diff := cmp.Diff(want, started(t, out, killed)); diff != "" {
		t.Errorf("starts since the kill (-want +got):\n%s", diff)
	}

	// The end of the process is the end of its faults.
	ended = time.Now()
	third.signal(syscall.SIGTERM)
	third.exits(0)
	took := time.Since(ended)
	if left, err := ours(t.Context()); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	inForce(t, reviews, ratings, false)
	t.Logf("ended %s after SIGTERM in mid-run, and the caller has its route back after %s", took.Round(10*time.Millisecond), time.Since(ended).Round(10*time.Millisecond))
	if took > 2*time.Second {
		t.Errorf("ended only %s after SIGTERM", took)
	}
	wantEvents(t, "FaultStarted", "FaultStoppedEarly", "ExperimentFinished")
}

// wantEvents demands Kubernetes Events of the callers' namespace about soon.
func wantEvents(t *testing.T, reasons ...string) {
	t.Helper()
	list, err := mesh.Kube.Resource(schema.GroupVersionResource{Version: "v1", Resource: "events"}).Namespace("shop").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, reason := range reasons {
		if !slices.ContainsFunc(list.Items, func(e unstructured.Unstructured) bool {
			message, _, _ := unstructured.NestedString(e.Object, "message")
			return e.Object["reason"] == reason && strings.HasPrefix(message, "soon: ")
		}) {
			t.Errorf("there is no Event %s among %d", reason, len(list.Items))
		}
	}
}

// leads waits until a replica starts runs.
func leads(t *testing.T, s *server) {
	t.Helper()
	eventually(t, func() error { return s.counts("squall_leader", 1) })
}

// Nothing else removes what a run without a heartbeat has left when it died.
func TestServeSweeps(t *testing.T) {
	killed := prepare(t, "run", spec{}.write(t), "--heartbeat=off")
	killed.start()
	killed.says("observe")
	inForce(t, reviews, ratings, true)
	killed.signal(syscall.SIGKILL)
	<-killed.done
	shop := mesh.Kube.Resource(virtualServices).Namespace("shop")
	list, err := shop.List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/managed-by=squall"})
	if err != nil || len(list.Items) != 1 {
		t.Fatalf("%d VirtualServices of the killed run, %v", len(list.Items), err)
	}
	s := serve(t, t.TempDir())
	eventually(t, func() error { return s.counts(`squall_sweeps_total{result="success"}`, 1) })
	if left, err := ours(t.Context()); err != nil || len(left) != 1 {
		t.Fatalf("what has not expired is gone: %v, %v", left, err)
	}
	s.signal(syscall.SIGTERM)
	s.exits(0)
	// An hour later.
	expires := fmt.Sprintf(`{"metadata": {"annotations": {"squall.dev/expires": %q}}}`, time.Now().Add(-time.Hour).UTC().Format(time.RFC3339))
	if _, err := shop.Patch(t.Context(), list.Items[0].GetName(), types.MergePatchType, []byte(expires), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	s = serve(t, t.TempDir())
	nothingLeft(t)
	inForce(t, reviews, ratings, false)
	eventually(t, func() error { return s.counts("squall_swept_objects_total", 1) })
}
