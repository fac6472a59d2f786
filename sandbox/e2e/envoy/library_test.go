package envoy_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/squall-chaos/squall/sandbox/internal/testbed"
)

var wholeLibrary = flag.Bool("library", false, "run every experiment of the library, and kill a second run of each (about 25 minutes)")

// sample is a library run on the shop.
type sample struct {
	verdict string
	// from and to are a call that the fault may hit; args are its arguments.
	from, to string
	args     []string
	// bystander makes the same calls, and is not hit. inMesh is what it calls, if it is not
	// to.
	bystander, inMesh string
}

// samples returns what each experiment of the library shows in the shop.
func samples() map[string]sample {
	const quick = "--timeout=500ms" // a delayed call is not answered in time
	fromReviews := func(args ...string) sample {
		return sample{verdict: "held", from: reviews, to: ratings, args: args, bystander: other}
	}
	return map[string]sample{
		// Reviews wait 250 ms for ratings, and answer without stars.
		"above-timeout":        fromReviews(quick),
		"below-timeout":        fromReviews(quick),
		"ci-smoke":             fromReviews(),
		"dependency-outage":    fromReviews(),
		"dns-blackhole":        fromReviews(quick),
		"game-day":             fromReviews(quick),
		"gray-failure":         fromReviews(),
		"one-user":             fromReviews("--header", jason),
		"ratings-outage":       fromReviews(),
		"regional-caller-loss": {verdict: "held", from: reviews, to: ratings, bystander: "shop/reviews-v2"},
		"retry-storm":          fromReviews(),
		"slow-dependency":      fromReviews(quick),
		// The product page waits for details without a deadline.
		"details-delay": {verdict: "deviated", from: productpage, to: details, args: []string{quick}, bystander: other},
		// Nothing takes the canary out of service: the share of the subset without
		// endpoints is answered with 503, and the mesh does not try again elsewhere.
		"one-bad-version": {verdict: "deviated", from: productpage, to: "reviews.shop.svc.cluster.local:9080", args: []string{"--path", "/reviews/0"}, bystander: other},
		// The page does not need payments.
		"third-party-outage": {verdict: "held", from: "shop/checkout-v1", to: payments, bystander: "prod/stock-v1"},
		// The gateway forwards other paths, and nothing else is at the edge.
		"edge-outage": {
			verdict: "held", from: "outside", to: "shop.example.com", args: []string{"--path", "/checkout"},
			bystander: other, inMesh: "productpage.shop.svc.cluster.local:9080",
		},
	}
}

// Every experiment of the library hits requests of the shop, and none of other callers.
// It has the verdict that it is meant to have there, and ends when its runner is killed.
func TestLibrary(t *testing.T) {
	if !*wholeLibrary {
		t.Skip("use: make library")
	}
	files, err := filepath.Glob(filepath.Join("..", "..", "..", "experiments", "library", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("the library: %v: %v", files, err)
	}
	var table strings.Builder
	rows := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(rows, "EXPERIMENT\tVERDICT\tHIT\tOTHERS HIT\tCLEAN AFTER KILL")
	known := samples()
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			s, ok := known[name]
			if !ok {
				t.Fatal("the test does not know what it shows")
			}
			verdict, hit := s.verdictOf(t, shortened(t, file, "10s"))
			others, clean := s.killed(t, shortened(t, file, "2s"))
			fmt.Fprintf(rows, "%s\t%s\t%.0f\t%d of %d\t%.1f s\n", name, verdict, hit, others.Calls-others.Codes["200"], others.Calls, clean.Seconds())
			if verdict != s.verdict {
				t.Errorf("the verdict is %s instead of %s", verdict, s.verdict)
			}
			if hit == 0 {
				t.Error("no request was hit")
			}
			want(t, "calls of "+s.bystander, others, "200")
			if clean > 20*time.Second {
				t.Errorf("clean only %s after SIGKILL", clean)
			}
		})
	}
	if err := rows.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Logf("the library on the sandbox with sidecars:\n%s", &table)
}

// shortened writes an experiment of the library with shorter times: a baseline,
// 40 s of faults, windows of 15 s, and no schedule.
func shortened(t *testing.T, file, before string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var document map[string]any
	if err := yaml.Unmarshal(content, &document); err != nil {
		t.Fatal(err)
	}
	spec, _ := document["spec"].(map[string]any)
	spec["duration"] = "40s"
	delete(spec, "schedule") // its windows are not now
	faults, _ := spec["faults"].([]any)
	for _, item := range faults {
		fault, _ := item.(map[string]any)
		for _, field := range []string{"duration", "startAfter"} {
			if fault[field] != nil {
				fault[field] = "20s"
			}
		}
	}
	steadyState, _ := spec["steadyState"].(map[string]any)
	steadyState["before"], steadyState["interval"] = before, "2s"
	shortenWindows(spec)
	content, err = yaml.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), filepath.Base(file))
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// shortenWindows shortens the windows of all built-in queries.
func shortenWindows(value any) {
	switch v := value.(type) {
	case map[string]any:
		for key, item := range v {
			if key == "window" {
				v[key] = "15s"
			} else {
				shortenWindows(item)
			}
		}
	case []any:
		for _, item := range v {
			shortenWindows(item)
		}
	}
}

// tries is how often an experiment is run while the machine is too busy.
const tries = 3

// busy is the p99 of calls without a fault, in milliseconds, from which on the machine
// is too busy for the limits of the library. Otherwise such calls take a few.
const busy = 250

// verdictOf runs an experiment to its end, and again if it has another verdict than it
// is meant to have and the machine was too busy meanwhile. It returns the verdict and how
// many requests were hit.
func (s sample) verdictOf(t *testing.T, file string) (verdict string, hit float64) {
	t.Helper()
	for range tries {
		verdict, hit = s.ends(t, file)
		if verdict == s.verdict {
			break
		}
		slowest, err := query(`max_over_time(histogram_quantile(0.99, sum by (le) (rate(istio_request_duration_milliseconds_bucket{reporter="source",source_workload="productpage-v1",destination_service="details.prod.svc.cluster.local",response_flags="-"}[15s])))[60s:1s])`)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s; calls without a fault had a p99 of up to %.0f ms", verdict, slowest)
		if slowest < busy {
			break
		}
	}
	return verdict, hit
}

// ends runs an experiment to its end, and returns the verdict and how many
// requests were hit.
func (s sample) ends(t *testing.T, file string) (verdict string, hit float64) {
	t.Helper()
	quiet(t)
	if s.from == "outside" {
		s.visit(t)
	}
	run := startFile(t, file)
	select {
	case <-run.done:
	case <-time.After(5 * time.Minute):
		t.Fatal("squall does not end")
	}
	journals, err := filepath.Glob(filepath.Join(run.cmd.Dir, "squall-runs", "*", "journal.jsonl"))
	if err != nil || len(journals) != 1 {
		t.Fatalf("journals: %v: %v", journals, err)
	}
	out, err := exec.CommandContext(t.Context(), filepath.Join(mesh.Bin, "squall"), "report", "-o", "json", journals[0]).Output()
	if err != nil {
		t.Fatal(err)
	}
	var report struct {
		Verdict string `json:"verdict"`
		Effect  struct {
			Requests float64 `json:"requests"`
		} `json:"effect"`
	}
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatal(err)
	}
	return report.Verdict, report.Effect.Requests
}

// visit makes calls until the end of the test, because nothing in the shop calls the
// gateway: those that the fault hits, and others.
func (s sample) visit(t *testing.T) {
	t.Helper()
	for _, args := range [][]string{s.args, {"--path", "/health"}} {
		ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
		done := make(chan struct{})
		go func() {
			defer close(done)
			// The call ends with the test.
			_, _ = mesh.Call(ctx, s.from, s.to, append([]string{"-n", "100000", "--rate", "10"}, args...)...)
		}()
		t.Cleanup(func() { cancel(); <-done })
	}
}

// quiet waits until the windows of the probes have nothing of an earlier run.
func quiet(t *testing.T) {
	t.Helper()
	const pages = `reporter="source",destination_service="productpage.shop.svc.cluster.local"`
	deadline := time.Now().Add(5 * time.Minute)
	for {
		slow, err := query(`histogram_quantile(0.99, sum by (le) (rate(istio_request_duration_milliseconds_bucket{` + pages + `}[15s])))`)
		if err != nil {
			t.Fatal(err)
		}
		failed, err := query(`sum(rate(istio_requests_total{` + pages + `,response_code!="200"}[15s]))`)
		if err != nil {
			t.Fatal(err)
		}
		if slow > 0 && slow < 500 && failed == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("pages are slow or fail without a fault: p99 %.0f ms, %.1f failures a second", slow, failed)
		}
		time.Sleep(time.Second)
	}
}

// killed kills a run while its fault hits calls. It returns what came of the calls of the
// bystander before that, and how long it took until all calls were clean.
func (s sample) killed(t *testing.T, file string) (others testbed.CallResult, clean time.Duration) {
	t.Helper()
	calls := func() error { // so few that retry-storm does not see a storm
		return allAre(call(t, s.from, s.to, append([]string{"-n", "30", "--rate", "15"}, s.args...)...), "200")
	}
	eventually(t, calls)
	quiet(t)
	run := startFile(t, file)
	eventually(t, func() error {
		select {
		case <-run.done:
			t.Fatalf("squall has ended with exit code %d", run.cmd.ProcessState.ExitCode())
		default:
		}
		if calls() == nil {
			return errors.New("no call is hit")
		}
		return nil
	})
	others = call(t, s.bystander, cmp.Or(s.inMesh, s.to), append([]string{"-n", "30", "--rate", "15"}, s.args...)...)
	run.signal(os.Kill)
	<-run.done
	begun := time.Now()
	eventually(t, func() error { return cmp.Or(nothingLeft(""), calls()) })
	return others, time.Since(begun)
}
