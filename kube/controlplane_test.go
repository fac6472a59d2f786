package kube_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/kube"
	"github.com/squall-chaos/squall/kube/kubetest"
)

// The paths of what describes control planes.
const (
	tagsPath = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
	planes   = "/api/v1/namespaces/"
	istiods  = "/apis/apps/v1/namespaces/"
)

// listOf returns a list of objects as JSON.
func listOf(items ...string) string {
	return `{"kind":"List","apiVersion":"v1","items":[` + strings.Join(items, ",") + `]}`
}

// planeServer returns a cluster that has the answers. Any other list is empty, and any
// other ConfigMap does not exist. An empty answer refuses the request.
func planeServer(t *testing.T, answers map[string]string) *kube.Cluster {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		answer, known := answers[r.URL.Path]
		switch {
		case known && answer == "":
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, kubetest.Status(403, "Forbidden", "no"))
		case known:
			_, _ = io.WriteString(w, answer)
		case r.URL.Path == "/apis/networking.istio.io":
			_, _ = io.WriteString(w, `{"kind":"APIGroup","apiVersion":"v1","name":"networking.istio.io","versions":[{"version":"v1"}]}`)
		case r.URL.Path == "/apis/gateway.networking.k8s.io", strings.Contains(r.URL.Path, "/configmaps/"):
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, kubetest.Status(404, "NotFound", "not found"))
		default:
			_, _ = io.WriteString(w, listOf())
		}
	}))
	t.Cleanup(server.Close)
	c, err := kube.Connect(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The settings and the cluster domain are read from the control planes that the Services
// show, and what may not be read is known.
func TestControlPlanes(t *testing.T) {
	const (
		stable  = `{"metadata":{"namespace":"mesh","name":"istiod-b","labels":{"app":"istiod","istio.io/rev":"b"}}}`
		shop    = `{"metadata":{"name":"shop","labels":{"istio.io/rev":"stable"}}}`
		tag     = `{"metadata":{"name":"t","labels":{"istio.io/tag":"stable","istio.io/rev":"b"}}}`
		private = `{"kind":"ConfigMap","apiVersion":"v1","metadata":{"namespace":"mesh","name":"istio-b"},"data":{"mesh":"rootNamespace: roots"}}`
		domain  = `{"kind":"Deployment","apiVersion":"apps/v1","metadata":{"namespace":"mesh","name":"istiod-b","labels":{"app":"istiod","istio.io/rev":"b"}},` +
			`"spec":{"template":{"spec":{"containers":[{"image":"pilot:1.30.2","args":["discovery","--domain=corp.internal"]}]}}}}`
	)
	for name, test := range map[string]struct {
		answers   map[string]string
		overrides config.Overrides
		want      string // revision in namespace, the root namespace, the cluster domain, and whether something is unread
	}{
		"nothing": {want: "default in istio-system, istio-system, cluster.local"},
		"by its Service and its tag": {answers: map[string]string{
			"/api/v1/services": listOf(stable), "/api/v1/namespaces": listOf(shop), tagsPath: listOf(tag),
			planes + "mesh/configmaps/istio-b": private, istiods + "mesh/deployments": listOf(domain),
		}, want: "b in mesh, roots, corp.internal"},
		"nothing of it may be read": {answers: map[string]string{
			"/api/v1/services": listOf(stable), "/api/v1/namespaces": listOf(shop), tagsPath: "",
			planes + "mesh/configmaps/istio-b": "", istiods + "mesh/deployments": "",
		}, want: "b in mesh, mesh, cluster.local unread"},
		"the default may not be read": {answers: map[string]string{planes + "istio-system/configmaps/istio": ""}, want: "default in istio-system, istio-system, cluster.local unread"},
		"outside of the cluster, by the label of a namespace": {answers: map[string]string{
			"/api/v1/namespaces":                             listOf(`{"metadata":{"name":"shop","labels":{"istio.io/rev":"managed"}}}`),
			planes + "istio-system/configmaps/istio-managed": `{"kind":"ConfigMap","apiVersion":"v1","metadata":{"namespace":"istio-system","name":"istio-managed"},"data":{"mesh":"rootNamespace: roots"}}`,
		}, want: "managed in istio-system, roots, cluster.local"},
		"as the user says": {answers: map[string]string{
			"/api/v1/namespaces": listOf(shop), planes + "mesh/configmaps/istio-b": private,
		}, overrides: config.Overrides{Namespace: "mesh", Revision: "b", ClusterDomain: "corp.internal"}, want: "b in mesh, roots, corp.internal"},
	} {
		t.Run(name, func(t *testing.T) {
			c := planeServer(t, test.answers)
			c.Override(test.overrides)
			s, err := c.Snapshot(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			seen, err := s.For("shop", nil)
			got := seen.Plane.Name() + ", " + seen.RootNamespace + ", " + seen.ClusterDomain
			if seen.Plane.Unread {
				got += " unread"
			}
			if err != nil || got != test.want {
				t.Errorf("%s, %v; want %s", got, err, test.want)
			}
		})
	}
}
