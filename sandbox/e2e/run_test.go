package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
)

// A user's older public VirtualService is effective for ratings, so a naive new one
// would be ignored.
func TestShadowTakesEffectAndEnds(t *testing.T) {
	before := resourceVersions(t)
	wantCalls(t, "before", call(t, reviews, ratings), "OK", false)
	s := runFile(t, spec{})
	s.says("shadow in shop, outranks prod/ratings (public)")
	s.says("observe")
	inForce(t, reviews, ratings, true)
	wantCalls(t, "the callers", call(t, reviews, ratings), "UNAVAILABLE", true)
	wantCalls(t, "callers with other labels", call(t, "shop/other", ratings), "OK", false)
	wantCalls(t, "callers in another namespace", call(t, "prod/reviews-v1", ratings), "OK", false)
	wantCalls(t, "the callers' other calls", call(t, reviews, details), "OK", false)
	if diff := cmp.Diff(before, resourceVersions(t)); diff != "" {
		t.Errorf("objects of users have changed: %s", diff)
	}
	s.signal(syscall.SIGTERM)
	s.exits(4)
	inForce(t, reviews, ratings, false)
	wantCalls(t, "after", call(t, reviews, ratings), "OK", false)
	if diff := cmp.Diff(before, resourceVersions(t)); diff != "" {
		t.Errorf("objects of users have changed: %s", diff)
	}
}

// There is no effective VirtualService for details.
func TestPlainTakesEffectAndEnds(t *testing.T) {
	s := runFile(t, spec{
		target: "{host: details, namespace: prod}", callers: "[{namespace: shop}]", duration: "4s",
		faults: "[{delay: {fixedDelay: 300ms}, percentage: 100}]", more: "effect: {minRequests: 10}",
	})
	s.says("no VirtualService is effective for " + details + " in shop")
	s.says("observe")
	inForce(t, page, details, true)
	delayed := call(t, page, details)
	wantCalls(t, "the callers", delayed, "OK", true)
	if delayed.Latency.P50 < 300 || delayed.Latency.P50 > 600 {
		t.Errorf("latency %+v with a delay of 300 ms", delayed.Latency)
	}
	wantCalls(t, "callers in another namespace", call(t, "prod/other", details), "OK", false)
	s.exits(0)
	inForce(t, page, details, false)
	wantCalls(t, "after", call(t, page, details), "OK", false)
	if !strings.HasPrefix(s.stdout.String(), "test: held\n") {
		t.Error("the summary does not begin with the verdict")
	}
}

func TestHeaderMatchHitsOnlyItsRequests(t *testing.T) {
	s := runFile(t, spec{match: "[{headers: {end-user: {exact: jason}}}]", faults: "[{abort: {grpcStatus: RESOURCE_EXHAUSTED}, percentage: 100}]"})
	s.says("observe")
	inForce(t, reviews, ratings, true)
	wantCalls(t, "jason", call(t, reviews, ratings, "--header", "end-user=jason"), "RESOURCE_EXHAUSTED", true)
	wantCalls(t, "ann", call(t, reviews, ratings, "--header", "end-user=ann"), "OK", false)
	wantCalls(t, "nobody", call(t, reviews, ratings), "OK", false)
	s.signal(syscall.SIGINT)
	s.exits(4)
}

// Only the targeted caller's route for the host changes, only by the fault,
// and only for the time of the run.
func TestRoutesChangeByTheFaultOnly(t *testing.T) {
	routes := func(workload string) string {
		t.Helper()
		found, err := mesh.Routes(t.Context(), workload)
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	others := []string{"shop/other", "prod/reviews-v1", "prod/ratings-v1"}
	before := map[string]string{}
	for _, workload := range append(others, reviews) {
		inForce(t, workload, ratings, false) // of the tests before
		before[workload] = routes(workload)
	}
	s := runFile(t, spec{callers: "[{namespace: shop, labels: {app: reviews}}]"})
	s.says("observe")
	inForce(t, reviews, ratings, true)
	// Among them is one of the callers' namespace: the shadow has no route for
	// it, so it keeps its own.
	for _, workload := range others {
		if diff := cmp.Diff(before[workload], routes(workload)); diff != "" {
			t.Errorf("routes of %s have changed: %s", workload, diff)
		}
	}
	during := routes(reviews)
	faulted, plain := splitFault(t, during)
	if faulted != 1 {
		t.Errorf("%d routes carry a fault", faulted)
	}
	if diff := cmp.Diff(withoutOrigin(t, before[reviews]), plain); diff != "" {
		t.Errorf("beside the fault, routes of %s have changed: %s", reviews, diff)
	}
	s.signal(syscall.SIGTERM)
	s.exits(4)
	inForce(t, reviews, ratings, false)
	for workload, want := range before {
		inForce(t, workload, ratings, false)
		if diff := cmp.Diff(want, routes(workload)); diff != "" {
			t.Errorf("routes of %s have not come back: %s", workload, diff)
		}
	}
}

// eachRoute decodes route configurations and lets edit replace each virtual
// host's routes.
func eachRoute(t *testing.T, configs string, edit func([]any) []any) string {
	t.Helper()
	var decoded []map[string]any
	if err := json.Unmarshal([]byte(configs), &decoded); err != nil {
		t.Fatal(err)
	}
	for _, config := range decoded {
		hosts, _ := config["virtualHosts"].([]any)
		for _, h := range hosts {
			host, _ := h.(map[string]any)
			routes, _ := host["routes"].([]any)
			host["routes"] = edit(routes)
		}
	}
	encoded, err := json.MarshalIndent(decoded, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(encoded)
}

// withoutOrigin leaves out which VirtualService made a route.
func withoutOrigin(t *testing.T, configs string) string {
	t.Helper()
	return eachRoute(t, configs, func(routes []any) []any {
		for _, r := range routes {
			route, _ := r.(map[string]any)
			delete(route, "metadata")
		}
		return routes
	})
}

// splitFault counts the routes with a fault, and returns the configuration without the
// clones that have it.
func splitFault(t *testing.T, configs string) (faulted int, plain string) {
	t.Helper()
	plain = eachRoute(t, withoutOrigin(t, configs), func(routes []any) []any {
		for i, r := range routes {
			route, _ := r.(map[string]any)
			filters, _ := route["typedPerFilterConfig"].(map[string]any)
			if filters["envoy.filters.http.fault"] != nil {
				faulted++
				// The caller's labels are evaluated by istiod, so the clone
				// takes every request of this caller, and its original is the
				// route that generation stopped before.
				delete(route, "typedPerFilterConfig")
				// The default, which istiod spells out for a rule with a match.
				if match, _ := route["match"].(map[string]any); match["caseSensitive"] == true {
					delete(match, "caseSensitive")
				}
				route["name"] = "ratings"
				return routes[:i+1]
			}
		}
		return routes
	})
	return faulted, plain
}

// A run that is killed cannot clean up; the cluster does.
func TestKilledRunLeavesNoFault(t *testing.T) {
	s := runFile(t, spec{})
	s.says("observe")
	inForce(t, reviews, ratings, true)
	// Past the first beats, so that the deadline has been moved.
	eventually(t, func() error {
		list, err := mesh.Kube.Resource(jobs).Namespace("shop").List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/managed-by=squall"})
		if err == nil && (len(list.Items) != 1 || list.Items[0].GetGeneration() < 2) {
			err = fmt.Errorf("%d heartbeat Jobs, or one that has not been extended", len(list.Items))
		}
		return err
	})
	s.signal(syscall.SIGKILL)
	<-s.done
	killed := time.Now()
	nothingLeft(t)
	inForce(t, reviews, ratings, false)
	wantCalls(t, "after", call(t, reviews, ratings), "OK", false)
	t.Logf("clean %s after the kill", time.Since(killed).Round(100*time.Millisecond))
	if gone := time.Since(killed); gone > 20*time.Second {
		t.Errorf("the fault was there for %s after the kill", gone)
	}
}

// A second signal ends the process at once; the heartbeat removes the fault.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	s := runFile(t, spec{})
	s.says("baseline")
	s.signal(syscall.SIGINT)
	s.signal(syscall.SIGINT)
	select {
	case <-s.done:
	case <-time.After(10 * time.Second):
		t.Fatal("squall goes on")
	}
}

// creations returns a function that lists what squall has created since, even if
// it is gone again: it replays the API server's events, up to a marker that
// the function creates itself.
func creations(t *testing.T) func() []string {
	t.Helper()
	const marker = "marker"
	markers := map[schema.GroupVersionResource]map[string]any{
		virtualServices: {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "spec": map[string]any{
			"hosts": []any{"marker.invalid"}, "exportTo": []any{"."},
			"http": []any{map[string]any{"route": []any{map[string]any{"destination": map[string]any{"host": "marker.invalid"}}}}},
		}},
		jobs: {"apiVersion": "batch/v1", "kind": "Job", "spec": map[string]any{"parallelism": int64(0), "template": map[string]any{
			"spec": map[string]any{"restartPolicy": "Never", "containers": []any{map[string]any{"name": "none", "image": "none"}}},
		}}},
	}
	since := map[schema.GroupVersionResource]string{}
	for resource := range markers {
		list, err := mesh.Kube.Resource(resource).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		since[resource] = list.GetResourceVersion()
	}
	return func() (created []string) {
		for resource, object := range markers {
			object["metadata"] = map[string]any{"name": marker, "namespace": "default", "labels": map[string]any{"app.kubernetes.io/managed-by": "squall"}}
			client := mesh.Kube.Resource(resource).Namespace("default")
			if _, err := client.Create(t.Context(), &unstructured.Unstructured{Object: object}, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			background := metav1.DeletePropagationBackground
			if err := client.Delete(t.Context(), marker, metav1.DeleteOptions{PropagationPolicy: &background}); err != nil {
				t.Fatal(err)
			}
			watcher, err := mesh.Kube.Resource(resource).Watch(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/managed-by=squall", ResourceVersion: since[resource]})
			if err != nil {
				t.Fatal(err)
			}
			for event := range watcher.ResultChan() {
				object, ok := event.Object.(*unstructured.Unstructured)
				if !ok || event.Type == watch.Error {
					t.Fatalf("watch: %+v", event)
				}
				if object.GetName() == marker {
					break
				}
				if event.Type == watch.Added {
					created = append(created, object.GetKind()+" "+object.GetName())
				}
			}
			watcher.Stop()
		}
		return created
	}
}

func TestNothingIsCreatedWhenRefused(t *testing.T) {
	for _, test := range []struct {
		name string
		spec spec
		args []string
		want string
	}{
		{"baseline not held", spec{probes: "[{name: never, query: vector(0), min: 1}]"}, nil, "the hypothesis does not hold before the fault: never: 0 is below 1"},
		{"baseline without data", spec{probes: "[{name: nothing, query: absent_metric, min: 1}]"}, nil, "nothing: no series"},
		{"several series", spec{probes: "[{name: both, query: 'up{job=\"sandbox\"}', min: 1}]"}, nil, " series instead of one"},
		{"not a number", spec{probes: "[{name: quiet, query: 'vector(0) / vector(0)', min: 1}]"}, nil, "quiet: NaN"},
		{"without bounds", spec{probes: "[{name: endless, query: 'vector(1) / vector(0)', min: 1}]"}, nil, "endless: +Inf"},
		{"stale markers", spec{probes: "[{name: gone, query: 'up{job=\"gone\"}', min: 1, noData: fail}]"}, nil, "gone: no series"},
		{"a query that Prometheus refuses", spec{probes: "[{name: bad, query: 'sum by (instance) (up) / on () sum by (instance) (up)', min: 1}]"}, nil, "refuses the query: "},
		{"Prometheus down", spec{}, []string{"--prometheus", "http://127.0.0.1:1"}, "prometheus: http://127.0.0.1:1 does not answer: dial tcp 127.0.0.1:1: connect: connection refused"},
		{"unknown host", spec{target: "{host: raitngs, namespace: prod}"}, nil, "the mesh does not know the host raitngs.prod.svc.cluster.local"},
		{"unknown namespace", spec{callers: "[{namespace: shops}]"}, nil, "there is no namespace shops"},
		{"API server down", spec{}, []string{"--server", "https://127.0.0.1:1"}, "does not answer: dial tcp 127.0.0.1:1: connect: connection refused"},
		{"not permitted", spec{}, []string{"--context", "restricted"}, "is forbidden"},
	} {
		t.Run(test.name, func(t *testing.T) {
			created := creations(t)
			s := runFile(t, test.spec, test.args...)
			s.exits(3)
			if !strings.Contains(s.stdout.String(), test.want) {
				t.Errorf("the summary does not say %q", test.want)
			}
			// The heartbeat Job makes a run visible from its baseline on.
			for _, added := range created() {
				if !strings.HasPrefix(added, "Job ") || !strings.Contains(s.stderr.String(), "  baseline") {
					t.Errorf("created: %s", added)
				}
			}
			clean(t)
		})
	}
}

// The run that creates the object first has the lock.
func TestSecondRunOnTheSameCallsIsRefused(t *testing.T) {
	first := runFile(t, spec{})
	first.says("observe")
	second := runFile(t, spec{})
	second.exits(3)
	if !strings.Contains(second.stdout.String(), "already disturbs the calls from shop to "+ratings) {
		t.Error("the summary does not say who has the lock")
	}
	// The refused run has touched nothing of the first one.
	inForce(t, reviews, ratings, true)
	hangUp := syscall.SIGHUP
	if signal.Ignored(hangUp) { // as under nohup, which a run respects
		hangUp = syscall.SIGTERM
	}
	first.signal(hangUp)
	first.exits(4)
}

// The page waits for details without a deadline, which shows in Prometheus
// some seconds later: the run must notice and stop.
func TestDeviationStopsTheRunEarly(t *testing.T) {
	created := creations(t)
	s := runFile(t, spec{
		target: "{host: " + details + "}", callers: "[{namespace: shop}]",
		faults: "[{delay: {fixedDelay: 2s}, percentage: 100}]",
		probes: `[{name: page p99, max: 1000, query: 'histogram_quantile(0.99, sum by (le) (rate(istio_request_duration_milliseconds_bucket{reporter="source",destination_service="productpage.shop.svc.cluster.local"}[5s])))'}]`,
		more:   "effect: {minRequests: 1}\n  recovery: {within: 30s}",
	})
	s.exits(1)
	if len(created()) != 2 {
		t.Error("the watch on creations has not seen the Job and the VirtualService of this run")
	}
	for _, want := range []string{"test: deviated (stopped)", "page p99: ", " is above 1000", "recovered"} {
		if !strings.Contains(s.stdout.String(), want) {
			t.Errorf("the summary does not say %q", want)
		}
	}
}

// A fault without effect proves nothing.
func TestFaultThatHitsNobodyIsInconclusive(t *testing.T) {
	s := runFile(t, spec{match: "[{headers: {end-user: {exact: nobody}}}]", duration: "2s", more: "effect: {minRequests: 1}\n  recovery: {within: 2s}"})
	s.exits(3)
	if !strings.Contains(s.stdout.String(), "test: inconclusive\n") || !strings.Contains(s.stdout.String(), "the fault hit no request") {
		t.Error("the summary does not say that the fault hit no request")
	}
}

// The journal on disk holds the whole story, one JSON object a line.
func TestJournal(t *testing.T) {
	s := runFile(t, spec{duration: "1s"})
	s.exits(0)
	_, after, _ := strings.Cut(s.stderr.String(), "journal ")
	path, _, _ := strings.Cut(after, "\n")
	content, err := os.ReadFile(s.cmd.Dir + "/" + path)
	if err != nil {
		t.Fatal(err)
	}
	var types []string
	for line := range strings.Lines(string(content)) {
		var event struct{ Type string }
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatal(err)
		}
		if event.Type != "measured" && event.Type != "phase" {
			types = append(types, event.Type)
		}
	}
	want := []string{"started", "planned", "creating", "created", "creating", "created", "deleted", "clean", "deleted", "finished"}
	if diff := cmp.Diff(want, types); diff != "" {
		t.Error(diff)
	}
	if strings.Contains(string(content), "Bearer") || strings.Contains(string(content), "token") {
		t.Error("the journal holds a credential")
	}
}

// A reader that leaves, as tee does at a Ctrl-C, must not end the run before
// its rollback.
func TestNobodyReadsTheOutput(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s := prepare(t, "run", spec{}.write(t))
	s.cmd.Stdout, s.cmd.Stderr = writer, writer
	s.start()
	if err := errors.Join(reader.Close(), writer.Close()); err != nil {
		t.Fatal(err)
	}
	inForce(t, reviews, ratings, true)
	s.signal(syscall.SIGINT)
	s.exits(4)
	inForce(t, reviews, ratings, false)
}

// A simulation tests nothing and says so; the shop's own load proves that it
// hit.
func TestInject(t *testing.T) {
	s := start(t, "inject", "abort", "ratings.prod", "--from", "shop/app=reviews", "--for", "3s", "--percentage", "50")
	s.exits(0)
	for _, want := range []string{"abort-ratings: inconclusive", "no hypothesis was tested", "abort with HTTP 503, 50 % of requests", "hit "} {
		if !strings.Contains(s.stdout.String(), want) {
			t.Errorf("the summary does not say %q", want)
		}
	}
	// A guard that does not hold keeps the fault away.
	refused := start(t, "inject", "abort", "ratings.prod", "--from", "shop", "--for", "60s", "--guard", "vector(0) > 1")
	refused.exits(3)
	// One that stops holding ends it.
	until := fmt.Sprintf("vector(time()) < %d", time.Now().Add(10*time.Second).Unix())
	guarded := start(t, "inject", "abort", "ratings.prod", "--from", "shop", "--for", "60s", "--guard", until)
	guarded.exits(1)
	if !strings.Contains(guarded.stdout.String(), "\n  active  ") {
		t.Error("the fault was never active")
	}
	for _, s := range []*squall{refused, guarded} {
		if !strings.Contains(s.stdout.String(), ": 0 is below 1") {
			t.Error("the summary does not name the guard")
		}
	}
}
