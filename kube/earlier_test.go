package kube_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"

	"github.com/squall-chaos/squall/kube"
	"github.com/squall-chaos/squall/mesh/objects"
)

// The list is at the version at which the object was created, so of two runs
// exactly one sees the other.
func TestEarlierIsAtTheCreation(t *testing.T) {
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		asked = append(asked, r.URL.Path+" "+query.Get("resourceVersionMatch")+" "+query.Get("resourceVersion")+" "+query.Get("continue")+" "+query.Get("labelSelector"))
		next := ""
		if query.Get("continue") == "" {
			next = `"continue":"page-2"`
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"apiVersion":"networking.istio.io/v1","kind":"VirtualServiceList","metadata":{` + next + `},"items":[` + object("run-2") + `]}`))
	}))
	defer server.Close()
	cluster, err := kube.Connect(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	created := virtualService(t)
	created.SetResourceVersion("42")
	found, err := cluster.Earlier(t.Context(), created, func(object *unstructured.Unstructured) bool { return object.GetLabels()[objects.RunLabel] == "run-2" })
	if err != nil || len(found) != 2 {
		t.Fatalf("%v, %v", found, err)
	}
	const path, labels = "/apis/networking.istio.io/v1/virtualservices ", " app.kubernetes.io/managed-by=squall,squall.dev/run"
	if want := path + "Exact 42 " + labels; len(asked) != 2 || asked[0] != want || asked[1] != path+"  page-2"+labels {
		t.Errorf("%q", asked)
	}
}
