package similar_test

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/mesh/similar"
)

func TestSimilarNames(t *testing.T) {
	s := config.Snapshot{
		ClusterDomain:  "cluster.local",
		Services:       []config.Service{{Namespace: "prod", Name: "ratings"}, {Namespace: "shop", Name: "productpage"}},
		ServiceEntries: []*unstructured.Unstructured{{Object: map[string]any{"spec": map[string]any{"hosts": []any{"api.payments.example"}}}}},
		Namespaces:     map[string]map[string]string{"prod": {}, "shop": {}},
	}
	for unknown, want := range map[string]string{
		"rating.prod.svc.cluster.local":   "did you mean ratings.prod.svc.cluster.local? ",
		"ratings.prd.svc.cluster.local":   "did you mean ratings.prod.svc.cluster.local? ",
		"api.payment.example":             "did you mean api.payments.example? ",
		"checkout.team.svc.cluster.local": "",
	} {
		if got := similar.Host(s, unknown); got != want {
			t.Errorf("%s: %q", unknown, got)
		}
	}
	for unknown, want := range map[string]string{"shp": "did you mean shop? ", "monitoring": ""} {
		if got := similar.Namespace(s, unknown); got != want {
			t.Errorf("%s: %q", unknown, got)
		}
	}
	ports := []config.Port{{Number: 80, Name: "http"}, {Number: 9090}, {Number: 80, Name: "http"}}
	if got := similar.Ports(ports); got != "80 (http), 9090" {
		t.Errorf("ports %q", got)
	}
}
