package kube_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"

	"github.com/squall-chaos/squall/kube"
	"github.com/squall-chaos/squall/kube/kubetest"
	"github.com/squall-chaos/squall/mesh/objects"
)

// exchange is one request that a test expects, and the answer to it.
type exchange struct {
	request string // METHOD PATH
	body    string // what the request's body must contain
	code    int
	answer  string
}

// serve is an API server with scripted answers, for cases that a real one does
// not have. It fails the test for an unexpected request, and for an expected one
// that is not sent.
func serve(t *testing.T, script ...exchange) *kube.Cluster {
	t.Helper()
	next := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got := r.Method + " " + r.URL.Path
		if next >= len(script) || script[next].request != got || !strings.Contains(string(body), script[next].body) {
			t.Errorf("request %d, %s with %s, was not expected", next+1, got, body)
			w.WriteHeader(http.StatusTeapot)
			return
		}
		this := script[next]
		next++
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(this.code)
		_, _ = io.WriteString(w, this.answer) // the client reports the error
	}))
	t.Cleanup(func() {
		server.Close()
		if next != len(script) {
			t.Errorf("%d of %d requests came", next, len(script))
		}
	})
	c, err := kube.Connect(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const (
	collection = "/apis/networking.istio.io/v1/namespaces/shop/virtualservices"
	item       = collection + "/squall-ratings"
	jobs       = "/apis/batch/v1/namespaces/shop/jobs"
)

var (
	ref = objects.Ref{APIVersion: "networking.istio.io/v1", Kind: "VirtualService", Namespace: "shop", Name: "squall-ratings", UID: "u-1"}
	job = objects.Ref{APIVersion: "batch/v1", Kind: "Job", Namespace: "shop", Name: "squall-run", UID: "u-2"}
)

func object(run string) string {
	return `{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","metadata":{"namespace":"shop","name":"squall-ratings","uid":"u-1","labels":{"squall.dev/run":"` + run + `"}}}`
}

func virtualService(t *testing.T) *unstructured.Unstructured {
	t.Helper()
	vs := &unstructured.Unstructured{}
	if err := vs.UnmarshalJSON([]byte(object("run-1"))); err != nil {
		t.Fatal(err)
	}
	vs.SetUID("")
	return vs
}

func TestDeleteIsOfExactlyOurs(t *testing.T) {
	precondition := `"preconditions":{"uid":"u-1"}`
	unknown := ref
	unknown.UID = ""
	notFound := exchange{"GET " + item, "", 404, kubetest.Status(404, "NotFound", "not found")}
	for _, test := range []struct {
		name   string
		ref    objects.Ref
		script []exchange
		want   string
	}{
		{"ours", ref, []exchange{{"DELETE " + item, precondition, 200, `{"kind":"Status","apiVersion":"v1","status":"Success"}`}, notFound}, ""},
		{"ours, and another comes", ref, []exchange{{"DELETE " + item, precondition, 200, `{}`}, {"GET " + item, "", 200, strings.Replace(object("run-1"), "u-1", "u-7", 1)}}, ""},
		{"kept by a finalizer", ref, []exchange{
			{"DELETE " + item, precondition, 200, object("run-1")},
			{"GET " + item, "", 200, strings.Replace(object("run-1"), `"uid"`, `"finalizers":["example.com/stay"],"uid"`, 1)},
		}, "is kept by finalizers: example.com/stay"},
		{"not known whether it is gone", ref, []exchange{{"DELETE " + item, precondition, 200, `{}`}, {"GET " + item, "", 500, kubetest.Status(500, "InternalError", "etcd is away")}}, "etcd is away"},
		{"gone already", ref, []exchange{{"DELETE " + item, precondition, 404, kubetest.Status(404, "NotFound", "not found")}}, "no longer exists"},
		{"another object of that name", ref, []exchange{
			{"DELETE " + item, precondition, 409, kubetest.Status(409, "Conflict", "the UID in the precondition does not match")},
			{"GET " + item, "", 200, strings.Replace(object("run-1"), "u-1", "u-7", 1)},
		}, "no longer exists"},
		{"a webhook that answers with a conflict", ref, []exchange{
			{"DELETE " + item, precondition, 409, kubetest.Status(409, "Conflict", "not while frozen")},
			{"GET " + item, "", 200, object("run-1")},
		}, "not while frozen"},
		{"not permitted", ref, []exchange{{"DELETE " + item, precondition, 403, kubetest.Status(403, "Forbidden", "no")}}, "delete VirtualService shop/squall-ratings: no"},
		{"never created", unknown, []exchange{{"GET " + item, "", 404, kubetest.Status(404, "NotFound", "not found")}}, "no longer exists"},
		{"created although the answer was lost", unknown, []exchange{{"GET " + item, "", 200, object("run-1")}, {"DELETE " + item, precondition, 200, `{}`}, notFound}, ""},
		{"of another run", unknown, []exchange{{"GET " + item, "", 200, object("run-2")}}, "no longer exists"},
		{"of a user", unknown, []exchange{{"GET " + item, "", 200, strings.Replace(object(""), `,"labels":{"squall.dev/run":""}`, "", 1)}}, "no longer exists"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := serve(t, test.script...).Delete(t.Context(), test.ref, "run-1")
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v", err)
			}
			if missing := errors.Is(err, objects.ErrGone); missing != (test.want == "no longer exists") {
				t.Errorf("missing: %t", missing)
			}
		})
	}
}

// The answer of the server decides whether the fault is taken out of an object that
// stays.
func TestDeleteReportsWhatIsKept(t *testing.T) {
	for _, test := range []struct {
		name       string
		script     []exchange
		finalizers []string
		kept       bool
	}{
		{"a finalizer", []exchange{
			{"DELETE " + item, "", 200, object("run-1")},
			{"GET " + item, "", 200, strings.Replace(object("run-1"), `"uid"`, `"finalizers":["example.com/stay"],"uid"`, 1)},
		}, []string{"example.com/stay"}, true},
		{"not permitted", []exchange{{"DELETE " + item, "", 403, kubetest.Status(403, "Forbidden", "no")}}, nil, true},
		{"a webhook that does not answer", []exchange{{"DELETE " + item, "", 500, kubetest.Status(500, "InternalError", "failed calling webhook")}}, nil, true},
		{"not known", []exchange{{"DELETE " + item, "", 200, "{}"}, {"GET " + item, "", 500, kubetest.Status(500, "InternalError", "etcd is away")}}, nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := serve(t, test.script...).Delete(t.Context(), ref, "run-1")
			kept, is := errors.AsType[*objects.KeptError](err)
			if err == nil || is != test.kept || is && !slices.Equal(kept.Finalizers, test.finalizers) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestWithdrawChangesOnlyAnObjectOfTheRun(t *testing.T) {
	const patch = `[{"op":"test","path":"/metadata/labels/squall.dev~1run","value":"run-1"},{"op":"test","path":"/metadata/uid","value":"u-1"},{"op":"replace","path":"/spec",`
	if err := serve(t, exchange{"PATCH " + item, patch, 200, object("run-1")}).Withdraw(t.Context(), ref, "run-1"); err != nil {
		t.Error(err)
	}
	if err := serve(t, exchange{"PATCH " + item, `squall-ratings.withdrawn.squall.internal`, 422, kubetest.Status(422, "Invalid", "testing value failed")}).Withdraw(t.Context(), ref, "run-1"); err == nil {
		t.Error("the object of another run was changed")
	}
}

func TestCreateNamesTheWinner(t *testing.T) {
	exists := exchange{"POST " + collection, `"name":"squall-ratings"`, 409, kubetest.Status(409, "AlreadyExists", "exists")}
	for _, test := range []struct {
		name   string
		second exchange
		want   string
	}{
		{"another run", exchange{"GET " + item, "", 200, object("run-2")}, "run run-2 already disturbs"},
		{"not permitted to look", exchange{"GET " + item, "", 403, kubetest.Status(403, "Forbidden", "no")}, "its run is not known"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := serve(t, exists, test.second).Create(t.Context(), virtualService(t))
			taken, ok := errors.AsType[*objects.TakenError](err)
			if !ok || !strings.Contains(taken.Error(), test.want) || taken.Hint() == "" {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestExtend(t *testing.T) {
	patch := exchange{"PATCH " + jobs + "/squall-run", `{"metadata":{"annotations":{"squall.dev/phase":"observe"},"uid":"u-2"},"spec":{"activeDeadlineSeconds":21}}`, 200, `{"apiVersion":"batch/v1","kind":"Job","metadata":{"uid":"u-2"}}`}
	answer := func(code int, text string) exchange { p := patch; p.code, p.answer = code, text; return p }
	for _, test := range []struct {
		name   string
		script exchange
		gone   bool
		fails  bool
	}{
		{"lives", patch, false, false},
		{"gone", answer(404, kubetest.Status(404, "NotFound", "not found")), true, true},
		{"another Job of that name", answer(409, kubetest.Status(409, "Conflict", "uid mismatch")), true, true},
		{"being deleted", answer(200, `{"apiVersion":"batch/v1","kind":"Job","metadata":{"uid":"u-2","deletionTimestamp":"2026-01-01T00:00:00Z"}}`), true, true},
		{"the server fails", answer(500, kubetest.Status(500, "InternalError", "boom")), false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			stored, err := serve(t, test.script).Extend(t.Context(), job, 20500*time.Millisecond, map[string]string{objects.PhaseAnnotation: "observe"})
			if (stored == nil) != test.fails || errors.Is(err, objects.ErrGone) != test.gone || (err != nil) != test.fails {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestArmed(t *testing.T) {
	event := func(kind, uid, status string) string {
		return `{"type":"` + kind + `","object":{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"squall-run","uid":"` + uid + `"},"status":{` + status + `}}}` + "\n"
	}
	started := `"startTime":"2026-01-01T00:00:00Z"`
	for _, test := range []struct{ name, events, want string }{
		{"started", event("ADDED", "u-2", "") + event("MODIFIED", "u-2", started), ""},
		{"deleted", event("ADDED", "u-2", "") + event("DELETED", "u-2", started), "no longer exists"},
		{"only another Job started", event("ADDED", "u-9", started), "ended before the Job controller started it"},
		{"refused", `{"type":"ERROR","object":` + kubetest.Status(410, "Expired", "too old") + "}\n", "too old"},
	} {
		t.Run(test.name, func(t *testing.T) {
			armed, err := serve(t, exchange{"GET " + jobs, "", 200, test.events}).Armed(t.Context(), job)
			if (armed == nil) != (err != nil) || (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestWithoutIstio(t *testing.T) {
	_, err := serve(t, exchange{"GET /apis/networking.istio.io", "", 404, "404 page not found"}).Snapshot(t.Context())
	if err == nil || !strings.Contains(err.Error(), "Istio is not installed there") {
		t.Errorf("error %v", err)
	}
	_, err = serve(t, exchange{"GET /apis/networking.istio.io", "", 200, `{"kind":"APIGroup","apiVersion":"v1","name":"networking.istio.io","versions":[{"groupVersion":"networking.istio.io/v7","version":"v7"}]}`}).Snapshot(t.Context())
	if err == nil || !strings.Contains(err.Error(), "none of the versions [v1 v1beta1 v1alpha3]") {
		t.Errorf("error %v", err)
	}
	_, err = serve(t, exchange{"GET /apis/networking.istio.io", "", 401, kubetest.Status(401, "Unauthorized", "Unauthorized")}).Snapshot(t.Context())
	if err == nil || !strings.Contains(err.Error(), "Unauthorized") {
		t.Errorf("error %v", err)
	}
}

func TestUpdateKnowsWhatHappened(t *testing.T) {
	updated := strings.Replace(object("run-1"), `"uid"`, `"generation":2,"uid"`, 1)
	for _, test := range []struct {
		name   string
		script exchange
		is     error
		fails  bool
	}{
		{"updated", exchange{"PATCH " + item, `"/metadata/resourceVersion","value":"7"`, 200, updated}, nil, false},
		{"gone", exchange{"PATCH " + item, `"/metadata/uid","value":"u-1"`, 404, kubetest.Status(404, "NotFound", "not found")}, objects.ErrGone, true},
		{"changed", exchange{"PATCH " + item, `"path":"/spec"`, 409, kubetest.Status(409, "Conflict", "the object has been modified")}, objects.ErrChanged, true},
		{"another object of the name", exchange{"PATCH " + item, "", 422, kubetest.Status(422, "Invalid", "testing value failed")}, nil, true},
		{"the server fails", exchange{"PATCH " + item, "", 500, kubetest.Status(500, "InternalError", "boom")}, nil, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			desired := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"hosts": []any{"a"}}}}
			got, err := serve(t, test.script).Update(t.Context(), desired, ref, "7")
			if (err != nil) != test.fails || test.is != nil && !errors.Is(err, test.is) || test.is == nil && (errors.Is(err, objects.ErrGone) || errors.Is(err, objects.ErrChanged)) {
				t.Errorf("error %v", err)
			}
			if err == nil && got.GetGeneration() != 2 {
				t.Errorf("generation %d", got.GetGeneration())
			}
		})
	}
}

func TestGet(t *testing.T) {
	for _, test := range []struct {
		name   string
		script exchange
		gone   bool
		fails  bool
	}{
		{"there", exchange{"GET " + item, "", 200, object("run-1")}, false, false},
		{"gone", exchange{"GET " + item, "", 404, kubetest.Status(404, "NotFound", "not found")}, true, true},
		{"replaced", exchange{"GET " + item, "", 200, strings.Replace(object("run-1"), "u-1", "u-7", 1)}, true, true},
		{"the server fails", exchange{"GET " + item, "", 500, kubetest.Status(500, "InternalError", "boom")}, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := serve(t, test.script).Get(t.Context(), ref)
			if errors.Is(err, objects.ErrGone) != test.gone || (err != nil) != test.fails {
				t.Errorf("error %v", err)
			}
		})
	}
}

// Deleting a CustomResourceDefinition deletes its objects.
func TestWatchOfAKindThatIsGone(t *testing.T) {
	gone := false
	c := serve(t, exchange{"GET " + collection, "", 404, kubetest.Status(404, "NotFound", "the server could not find the requested resource")})
	c.Watch(t.Context(), ref, func(object *unstructured.Unstructured) { gone = object == nil })
	if !gone {
		t.Error("nobody is told")
	}
}

// A watch that ends is started again, and changes between are reported.
func TestWatchGoesOn(t *testing.T) {
	at := func(generation string) string {
		return strings.Replace(object("run-1"), `"uid"`, `"generation":`+generation+`,"resourceVersion":"`+generation+`","uid"`, 1)
	}
	list := func(items ...string) string {
		return `{"apiVersion":"networking.istio.io/v1","kind":"VirtualServiceList","metadata":{"resourceVersion":"9"},"items":[` + strings.Join(items, ",") + `]}`
	}
	c := serve(
		t,
		exchange{"GET " + collection, "", 500, kubetest.Status(500, "InternalError", "boom")},
		exchange{"GET " + collection, "", 200, list(at("1"))},
		exchange{"GET " + collection, "", 200, `{"type":"MODIFIED","object":` + at("2") + "}\n"},
		exchange{"GET " + collection, "", 200, list(at("3"))},
		exchange{"GET " + collection, "", 410, kubetest.Status(410, "Expired", "too old")},
		exchange{"GET " + collection, "", 200, list()},
	)
	var seen []int64
	c.Watch(t.Context(), ref, func(object *unstructured.Unstructured) {
		if object == nil {
			seen = append(seen, -1)
			return
		}
		seen = append(seen, object.GetGeneration())
	})
	if !slices.Equal(seen, []int64{1, 2, 3, -1}) {
		t.Errorf("seen %v", seen)
	}
}

// In an old Gateway API without v1 the routes still apply.
func TestOldGatewayAPI(t *testing.T) {
	var mu sync.Mutex
	asked := map[string]bool{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked[r.URL.Path] = true
		mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/apis/networking.istio.io":
			_, _ = io.WriteString(w, `{"kind":"APIGroup","apiVersion":"v1","name":"networking.istio.io","versions":[{"version":"v1beta1"}]}`)
		case "/apis/gateway.networking.k8s.io":
			_, _ = io.WriteString(w, `{"kind":"APIGroup","apiVersion":"v1","name":"gateway.networking.k8s.io","versions":[{"version":"v1beta1"},{"version":"v1alpha2"}]}`)
		case "/apis/gateway.networking.k8s.io/v1beta1/httproutes":
			_, _ = io.WriteString(w, `{"kind":"HTTPRouteList","apiVersion":"gateway.networking.k8s.io/v1beta1","items":[{"kind":"HTTPRoute","apiVersion":"gateway.networking.k8s.io/v1beta1","metadata":{"name":"r","namespace":"prod"}}]}`)
		case "/apis/gateway.networking.k8s.io/v1beta1/grpcroutes", "/api/v1/namespaces/istio-system/configmaps/istio":
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, kubetest.Status(404, "NotFound", "not found"))
		default:
			_, _ = io.WriteString(w, `{"kind":"List","apiVersion":"v1","items":[]}`)
		}
	}))
	defer server.Close()
	c, err := kube.Connect(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Routes) != 1 || s.Routes[0].GetName() != "r" || s.APIVersion != "networking.istio.io/v1beta1" {
		t.Errorf("snapshot %+v", s)
	}
	if !asked["/apis/gateway.networking.k8s.io/v1alpha2/grpcroutes"] {
		t.Error("GRPCRoutes of the older version were not asked for")
	}
}
