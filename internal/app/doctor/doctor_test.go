package doctor_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/squall-chaos/squall/internal/app/doctor"
	"github.com/squall-chaos/squall/kube"
	"github.com/squall-chaos/squall/steady-state/prom"
)

// world is a scripted API server and a scripted Prometheus.
type world struct {
	// answers are the API server's by METHOD PATH; everything else is
	// forbidden.
	answers map[string]string
	// denied are permissions that the user lacks.
	denied []string
	// skew is how far the API server's clock is ahead.
	skew time.Duration
	// numbers are Prometheus' answers to queries that contain a text; the first
	// one that does counts. Others have no series.
	numbers [][2]string
	// noPrometheus is whether no Prometheus is named.
	noPrometheus bool
}

const (
	noItems = `{"kind":"List","apiVersion":"v1","items":[]}`
	istio   = "/apis/networking.istio.io/v1/"
)

// healthy is a world in which every check passes.
func healthy() *world {
	return &world{
		answers: map[string]string{
			"GET /version":                        `{"gitVersion":"v1.36.3"}`,
			"GET /apis/networking.istio.io":       `{"kind":"APIGroup","apiVersion":"v1","name":"networking.istio.io","versions":[{"version":"v1"},{"version":"v1beta1"}]}`,
			"GET /apis/gateway.networking.k8s.io": `{"kind":"APIGroup","apiVersion":"v1","name":"gateway.networking.k8s.io","versions":[{"version":"v1"}]}`,
			"GET " + istio + "virtualservices":    noItems,
			"GET " + istio + "serviceentries":     noItems,
			"GET " + istio + "destinationrules":   noItems,
			"GET /apis/batch/v1/jobs":             noItems,
			"GET /api/v1/namespaces":              `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{},"items":[{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"shop","labels":{"istio-injection":"enabled"}}},{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"mobile","labels":{"istio.io/dataplane-mode":"ambient"}}}]}`,
			"GET " + deploymentsPath:              deployment("docker.io/istio/pilot:1.29.0-distroless"),
		},
		numbers: [][2]string{{"time() - max", "0.5"}, {"time() - min", "0.7"}, {"time()", ""}, {"response_flags", "7"}, {"istio_requests_total", "9"}},
	}
}

const deploymentsPath = "/apis/apps/v1/namespaces/istio-system/deployments"

func deployment(image string) string {
	return fmt.Sprintf(`{"kind":"DeploymentList","apiVersion":"apps/v1","items":[{"kind":"Deployment","apiVersion":"apps/v1","metadata":{"name":"istiod","labels":{"app.kubernetes.io/version":"1.30.1"}},"spec":{"template":{"spec":{"containers":[{"image":%q}]}}}}]}`, image)
}

func (w *world) apiServer(t *testing.T) http.Handler {
	return http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		out.Header().Set("Date", time.Now().Add(w.skew).UTC().Format(http.TimeFormat))
		out.Header().Set("Content-Type", "application/json")
		answer, known := w.answers[r.Method+" "+r.URL.Path]
		if strings.HasSuffix(r.URL.Path, "/selfsubjectaccessreviews") {
			answer, known = w.review(t, r.Body), true
		}
		if !known {
			out.WriteHeader(http.StatusForbidden)
			answer = `{"kind":"Status","apiVersion":"v1","status":"Failure","code":403,"reason":"Forbidden","message":"no"}`
		}
		_, _ = io.WriteString(out, answer)
	})
}

func (w *world) review(t *testing.T, body io.Reader) string {
	var review struct {
		Spec struct {
			ResourceAttributes struct{ Namespace, Verb, Resource, Name string }
		}
	}
	if err := json.NewDecoder(body).Decode(&review); err != nil {
		t.Error(err)
	}
	a := review.Spec.ResourceAttributes
	allowed := true
	for _, denied := range w.denied {
		allowed = allowed && denied != strings.TrimSpace(strings.Join([]string{a.Namespace, a.Verb, a.Resource}, " "))
	}
	return fmt.Sprintf(`{"kind":"SelfSubjectAccessReview","apiVersion":"authorization.k8s.io/v1","status":{"allowed":%v}}`, allowed)
}

func (w *world) prometheus() http.Handler {
	return http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/v1/status/buildinfo" {
			_, _ = io.WriteString(out, `{"status":"success","data":{"version":"3.5.0"}}`)
			return
		}
		query := r.FormValue("query")
		for _, number := range w.numbers {
			if !strings.Contains(query, number[0]) {
				continue
			}
			value := number[1]
			if value == "" {
				value = fmt.Sprint(time.Now().Unix())
			}
			fmt.Fprintf(out, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,%q]}]}}`, value)
			return
		}
		_, _ = io.WriteString(out, `{"status":"success","data":{"resultType":"vector","result":[]}}`)
	})
}

// examine returns every check as a line: status, name, detail, hint.
func (w *world) examine(t *testing.T, heartbeat bool) (lines []string) {
	t.Helper()
	api, metrics := httptest.NewServer(w.apiServer(t)), httptest.NewServer(w.prometheus())
	defer api.Close()
	defer metrics.Close()
	c, err := kube.Connect(&rest.Config{Host: api.URL})
	if err != nil {
		t.Fatal(err)
	}
	d := doctor.Doctor{APIServer: c, Contents: c, Namespaces: []string{"shop"}, HeartbeatImage: "pause", Owner: "ann"}
	if heartbeat {
		d.Objects = c
	}
	if !w.noPrometheus {
		if d.Prometheus, err = prom.New(metrics.URL, ""); err != nil {
			t.Fatal(err)
		}
	}
	err = d.Examine(t.Context(), func(check doctor.Check) {
		lines = append(lines, strings.Join([]string{string(check.Status), check.Name, check.Detail, check.Hint}, "|"))
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func TestAHealthyWorld(t *testing.T) {
	all := strings.Join(healthy().examine(t, false), "\n")
	for _, want := range []string{
		"answers: Kubernetes v1.36.3|\n",
		"ok|Istio API|uses networking.istio.io/v1; served are v1, v1beta1|\n",
		"ok|Gateway API|v1; faults on hosts with Gateway API routes are refused|\n",
		"ok|istiod|1.29.0-distroless|\n",
		"ok|permissions|in the whole cluster: list grpcroutes.gateway.networking.k8s.io|\n",
		"ok|permissions|in namespace shop: create, get, list, watch, patch, delete jobs.batch|\n",
		"ok|namespaces|with sidecar injection: shop; ambient: mobile|\n",
		"ok|live faults|none|\n",
		"answers: version 3.5.0|\n",
		"ok|requests|istio_requests_total has 9 series from the callers' proxies, 7 of them with response_flags; the newest sample is 500ms old|",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no check says %q:\n%s", want, all)
		}
	}
	if strings.Contains(all, "warning|") || strings.Contains(all, "failure|") {
		t.Error(all)
	}
}

// Each change of a healthy world shows in one check, and in no other.
func TestWhatIsWrong(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*world)
		want   []string
	}{
		"the clocks differ":         {func(w *world) { w.skew = -2 * time.Minute }, []string{"warning|clock|the API server is 2m0s behind this machine|synchronize the clocks with NTP"}},
		"no Istio":                  {func(w *world) { w.answers["GET /apis/networking.istio.io"] = `{"versions":[]}` }, []string{"failure|Istio API|the cluster serves none of the versions"}},
		"istiod by its digest":      {func(w *world) { w.answers["GET "+deploymentsPath] = deployment("registry:5000/pilot@sha256:1234") }, []string{"ok|istiod|1.30.1|"}},
		"no istiod":                 {func(w *world) { w.answers["GET "+deploymentsPath] = noItems }, []string{"warning|istiod|version unknown: no Deployment in istio-system has the label app=istiod|"}},
		"an unknown istiod":         {func(w *world) { w.answers["GET "+deploymentsPath] = deployment("docker.io/istio/pilot:1.40.0") }, []string{"warning|istiod|1.40.0; Squall knows the rules of Istio 1.29 to 1.31|"}},
		"nobody may look at istiod": {func(w *world) { delete(w.answers, "GET "+deploymentsPath) }, []string{"warning|istiod|version unknown: no permission to list deployments"}},
		"permissions are missing": {func(w *world) { w.denied = []string{"shop patch jobs", "shop delete jobs"} }, []string{
			`failure|permissions|in namespace shop: not permitted: patch, delete jobs.batch|add to a Role in namespace shop: - {apiGroups: ["batch"], resources: [jobs], verbs: [patch, delete]}`,
		}},
		"a permission in the whole cluster is missing": {func(w *world) { w.denied = []string{"list services"} }, []string{
			`failure|permissions|in the whole cluster: not permitted: list services|add to a ClusterRole: - {apiGroups: [""], resources: [services], verbs: [list]}`,
		}},
		"Istio's settings may not be read": {func(w *world) { w.denied = []string{"istio-system get configmaps"} }, []string{
			`warning|permissions|in namespace istio-system: not permitted: get configmaps istio; Istio's defaults are assumed|add to a Role in namespace istio-system: - {apiGroups: [""], resources: [configmaps], resourceNames: [istio], verbs: [get]}`,
		}},
		"no blackholes":               {func(w *world) { w.denied = []string{"shop create serviceentries"} }, []string{"warning|permissions|in namespace shop: not permitted: create serviceentries.networking.istio.io; blackholes are refused|"}},
		"no DestinationRules":         {func(w *world) { w.denied = []string{"shop create destinationrules"} }, []string{"warning|permissions|in namespace shop: not permitted: create destinationrules.networking.istio.io; blackholes of targets with a DestinationRule are refused|"}},
		"no list of DestinationRules": {func(w *world) { w.denied = []string{"list destinationrules"} }, []string{"warning|permissions|in the whole cluster: not permitted: list destinationrules.networking.istio.io; blackholes do not have the connect timeouts and limits of their targets|"}},
		"no sidecars": {func(w *world) {
			w.answers["GET /api/v1/namespaces"] = `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{},"items":[]}`
		}, []string{"warning|namespaces|with sidecar injection: none; ambient: none|"}},
		"a fault is live": {func(w *world) {
			w.answers["GET "+istio+"virtualservices"] = strings.Replace(noItems, "[]", `[{"kind":"VirtualService","apiVersion":"networking.istio.io/v1","metadata":{"namespace":"shop","name":"squall-a","uid":"1","labels":{"app.kubernetes.io/managed-by":"squall","squall.dev/run":"run-1"}}}]`, 1)
		}, []string{"warning|live faults|expired or orphaned: run-1; live: none|squall status lists them, squall rollback RUN removes them"}},
		"faults may not be seen": {func(w *world) { delete(w.answers, "GET "+istio+"virtualservices") }, []string{"warning|live faults|incomplete: not permitted: list virtualservices.networking.istio.io in the whole cluster|"}},
		"no Prometheus":          {func(w *world) { w.noPrometheus = true }, []string{"failure|Prometheus|no server is named|"}},
		"nothing is scraped":     {func(w *world) { w.numbers = [][2]string{{"time()", ""}} }, []string{"failure|requests|istio_requests_total has no series from the callers' proxies in the last 5 minutes|"}},
		"no flags":               {func(w *world) { w.numbers = [][2]string{{"response_flags", "0"}, {"time()", ""}, {"istio", "9"}} }, []string{"failure|requests|istio_requests_total lacks the label response_flags|"}},
		"old samples":            {func(w *world) { w.numbers[0][1] = "90" }, []string{"warning|requests|", "the newest sample is 1m30s old|a run detects a deviation as late as that"}},
		"Prometheus' clock":      {func(w *world) { w.numbers[2][1] = "4102444800" }, []string{"warning|clock|Prometheus is ", " ahead of this machine|synchronize the clocks"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := healthy()
			test.change(w)
			var wrong []string
			lines := w.examine(t, false)
			for _, line := range lines {
				if !strings.HasPrefix(line, "ok|") || strings.HasPrefix(test.want[0], "ok|") && strings.HasPrefix(line, "ok|istiod") {
					wrong = append(wrong, line)
				}
			}
			if len(wrong) != 1 {
				t.Fatalf("found: %s", strings.Join(lines, "\n"))
			}
			for _, want := range test.want {
				if !strings.Contains(wrong[0], want) {
					t.Errorf("%q does not say %q", wrong[0], want)
				}
			}
		})
	}
}

// Nothing more is asked of an API server that does not answer, and Prometheus
// is examined all the same.
func TestNoAPIServer(t *testing.T) {
	c, err := kube.Connect(&rest.Config{Host: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	var checks []string
	err = doctor.Doctor{APIServer: c, Contents: c, Objects: c, Namespaces: []string{"shop"}}.Examine(t.Context(), func(check doctor.Check) {
		checks = append(checks, string(check.Status)+" "+check.Name)
	})
	if want := "failure API server, failure Prometheus"; err != nil || strings.Join(checks, ", ") != want {
		t.Errorf("checks %v instead of %s, error %v", checks, want, err)
	}
}

func TestHeartbeatThatDoesNotBeat(t *testing.T) {
	const (
		jobs    = "/apis/batch/v1/namespaces/shop/jobs"
		created = `{"kind":"Job","apiVersion":"batch/v1","metadata":{"namespace":"shop","name":"squall-doctor","uid":"u-1"}}`
		started = `{"type":"ADDED","object":{"kind":"Job","apiVersion":"batch/v1","metadata":{"namespace":"shop","name":"squall-doctor","uid":"u-1"},"status":{"startTime":"2026-01-01T00:00:00Z"}}}`
	)
	for name, test := range map[string]struct {
		answers map[string]string
		denied  []string
		want    string
	}{
		"no Job may be created":    {nil, nil, "failure|heartbeat|in namespace shop: create Job shop/squall-doctor-"},
		"no Job is started":        {map[string]string{"POST " + jobs: created, "GET " + jobs: ""}, nil, "failure|heartbeat|in namespace shop: the watch on Job shop/squall-doctor ended before the Job controller started it|"},
		"nothing may be owned":     {map[string]string{"POST " + jobs: created, "GET " + jobs: started}, nil, "failure|heartbeat|in namespace shop: create VirtualService shop/squall-doctor-"},
		"permissions are missing":  {nil, []string{"shop create jobs"}, "warning|heartbeat|not proven: permissions are missing, see above|"},
		"an optional one does not": {nil, []string{"istio-system get configmaps"}, "failure|heartbeat|in namespace shop: create Job shop/squall-doctor-"},
	} {
		t.Run(name, func(t *testing.T) {
			w := healthy()
			w.denied = test.denied
			maps.Copy(w.answers, test.answers)
			found := false
			lines := w.examine(t, true)
			for _, line := range lines {
				found = found || strings.HasPrefix(line, test.want)
			}
			if !found {
				t.Errorf("no check says %q: %s", test.want, strings.Join(lines, "\n"))
			}
		})
	}
}
