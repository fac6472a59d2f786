package kube_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/squall-chaos/squall/kube"
	"github.com/squall-chaos/squall/kube/kubetest"
	"github.com/squall-chaos/squall/mesh/objects"
)

// lists serves lists of objects by path, only for the selector of Squall's
// objects; any other path is forbidden.
func lists(t *testing.T, items map[string]string) *kube.Cluster {
	t.Helper()
	items["/apis/networking.istio.io"] = ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		item, served := items[r.URL.Path]
		switch {
		case r.URL.Path == "/apis/networking.istio.io":
			_, _ = io.WriteString(w, `{"kind":"APIGroup","apiVersion":"v1","name":"networking.istio.io","versions":[{"version":"v1"}]}`)
		case !served:
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, kubetest.Status(403, "Forbidden", "no"))
		case r.URL.Query().Get("labelSelector") != "app.kubernetes.io/managed-by=squall,squall.dev/run":
			t.Errorf("%s is listed by %q", r.URL.Path, r.URL.Query().Get("labelSelector"))
		default:
			_, _ = io.WriteString(w, `{"kind":"List","apiVersion":"v1","items":[`+item+`]}`)
		}
	}))
	t.Cleanup(server.Close)
	c, err := kube.Connect(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestListGivesWhatMayBeRead(t *testing.T) {
	const (
		everywhere = "/apis/networking.istio.io/v1/"
		inShop     = "/apis/networking.istio.io/v1/namespaces/shop/"
		heartbeat  = `{"apiVersion":"batch/v1","kind":"Job","metadata":{"namespace":"shop","name":"squall-run"}}`
	)
	for _, test := range []struct {
		name, namespace string
		served          map[string]string
		found, unread   []string
	}{
		{
			"everything", "",
			map[string]string{everywhere + "virtualservices": object("run-1"), everywhere + "serviceentries": "", everywhere + "destinationrules": "", "/apis/batch/v1/jobs": heartbeat},
			[]string{"VirtualService", "Job"},
			nil,
		},
		{
			"Jobs only where the fault is", "",
			map[string]string{everywhere + "virtualservices": object("run-1"), everywhere + "serviceentries": "", everywhere + "destinationrules": "", jobs: heartbeat},
			[]string{"VirtualService", "Job"},
			[]string{"list jobs.batch in the whole cluster"},
		},
		{
			"no Jobs", "",
			map[string]string{everywhere + "virtualservices": object("run-1"), everywhere + "serviceentries": "", everywhere + "destinationrules": ""},
			[]string{"VirtualService"},
			[]string{"list jobs.batch in the whole cluster", "list jobs.batch in namespace shop"},
		},
		{
			"one namespace", "shop",
			map[string]string{inShop + "virtualservices": object("run-1"), inShop + "serviceentries": "", inShop + "destinationrules": "", jobs: heartbeat},
			[]string{"VirtualService", "Job"},
			nil,
		},
		{
			"nothing in a namespace", "shop",
			map[string]string{},
			nil,
			[]string{"list virtualservices.networking.istio.io in namespace shop", "list serviceentries.networking.istio.io in namespace shop", "list destinationrules.networking.istio.io in namespace shop", "list jobs.batch in namespace shop"},
		},
		{
			"nothing at all", "",
			map[string]string{},
			nil,
			[]string{"list virtualservices.networking.istio.io in the whole cluster", "list serviceentries.networking.istio.io in the whole cluster", "list destinationrules.networking.istio.io in the whole cluster", "list jobs.batch in the whole cluster"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			owned, err := lists(t, test.served).List(t.Context(), test.namespace)
			if err != nil {
				t.Fatal(err)
			}
			var found, unread []string
			for _, object := range owned.Objects {
				found = append(found, object.GetKind())
			}
			for _, u := range owned.Unread {
				unread = append(unread, u.String())
			}
			if !slices.Equal(found, test.found) || !slices.Equal(unread, test.unread) {
				t.Errorf("found %v, unread %q", found, unread)
			}
		})
	}
}

func TestAnnotateIsOfExactlyOurs(t *testing.T) {
	patch := exchange{"PATCH " + item, `{"metadata":{"annotations":{"squall.dev/stopped-by":"ann"},"uid":"u-1"}}`, 200, object("run-1")}
	answer := func(code int, text string) exchange { p := patch; p.code, p.answer = code, text; return p }
	for _, test := range []struct {
		name        string
		script      exchange
		gone, fails bool
	}{
		{"there", patch, false, false},
		{"gone", answer(404, kubetest.Status(404, "NotFound", "not found")), true, true},
		{"another object of that name", answer(409, kubetest.Status(409, "Conflict", "uid mismatch")), true, true},
		{"not permitted", answer(403, kubetest.Status(403, "Forbidden", "no")), false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := serve(t, test.script).Annotate(t.Context(), ref, map[string]string{"squall.dev/stopped-by": "ann"})
			if errors.Is(err, objects.ErrGone) != test.gone || (err != nil) != test.fails {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestServer(t *testing.T) {
	got, err := serve(t, exchange{"GET /version", "", 200, `{"gitVersion":"v1.36.3"}`}).Server(t.Context())
	if err != nil || got.Version != "v1.36.3" || got.Time.IsZero() {
		t.Errorf("%+v, error %v", got, err)
	}
	// The time is readable without permissions.
	got, err = serve(t, exchange{"GET /version", "", 403, kubetest.Status(403, "Forbidden", "no")}).Server(t.Context())
	if err != nil || got.Version != "" || got.Time.IsZero() {
		t.Errorf("%+v, error %v", got, err)
	}
	_, err = serve(t, exchange{"GET /version", "", 200, "<html>"}).Server(t.Context())
	if err == nil || !strings.Contains(err.Error(), "/version: ") {
		t.Errorf("error %v", err)
	}
}
