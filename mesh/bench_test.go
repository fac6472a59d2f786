package mesh

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/experiments/files"
)

func benchExperiment(b *testing.B) experiments.Experiment {
	b.Helper()
	loaded, err := files.Load("bench", strings.NewReader(`apiVersion: squall.dev/v1alpha1
kind: Experiment
metadata: {name: outage}
spec:
  target: {host: `+propertyHost+`}
  callers: [{namespace: shop, labels: {app: reviews}}]
  match: [{headers: {end-user: {exact: jason}}}]
  faults: [{abort: {httpStatus: 503}, percentage: 50}]
  duration: 2m
  steadyState: {probes: []}
`))
	if err != nil {
		b.Fatal(err)
	}
	return loaded[0]
}

func benchBase(name string, hosts []any, routes int) *unstructured.Unstructured {
	http := make([]any, routes)
	for i := range http {
		http[i] = map[string]any{
			"name":    fmt.Sprintf("route-%d", i),
			"match":   []any{map[string]any{"uri": map[string]any{"prefix": fmt.Sprintf("/api/v%d", i)}}},
			"route":   []any{map[string]any{"destination": map[string]any{"host": propertyHost, "subset": "v1"}, "weight": int64(90)}, map[string]any{"destination": map[string]any{"host": propertyHost, "subset": "v2"}, "weight": int64(10)}},
			"timeout": "5s", "retries": map[string]any{"attempts": int64(2)},
		}
	}
	namespace, name, _ := strings.Cut(name, "/")
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": map[string]any{"namespace": namespace, "name": name},
		"spec": map[string]any{"hosts": hosts, "http": http},
	}}
}

// BenchmarkRender derives a shadow from a VirtualService with 100 routes.
func BenchmarkRender(b *testing.B) {
	e, s := benchExperiment(b), propertySnapshot(benchBase("prod/ratings", []any{propertyHost}, 100))
	for b.Loop() {
		if refusal, refused := Decide(s, e, Options{}).Refusal(); refused {
			b.Fatal(refusal.Reason)
		}
	}
}

// BenchmarkDecide10000 plans in a mesh of 10,000 VirtualServices in 500
// namespaces.
func BenchmarkDecide10000(b *testing.B) {
	e, s := benchExperiment(b), propertySnapshot(benchBase("prod/ratings", []any{propertyHost}, 10))
	for i := range 9_999 {
		name := fmt.Sprintf("ns-%d/svc-%d", i%500, i)
		s.VirtualServices = append(s.VirtualServices, benchBase(name, []any{fmt.Sprintf("svc-%d.ns-%d.svc.cluster.local", i, i%500)}, 3))
	}
	for b.Loop() {
		if refusal, refused := Decide(s, e, Options{}).Refusal(); refused {
			b.Fatal(refusal.Reason)
		}
	}
}

// BenchmarkDecideLargest derives a shadow from a VirtualService of about 1 MB, which is
// nearly the largest object that an API server stores.
func BenchmarkDecideLargest(b *testing.B) {
	base := benchBase("prod/ratings", []any{propertyHost}, 0)
	http := make([]any, 9000)
	for i := range http {
		http[i] = map[string]any{
			"match": []any{map[string]any{"uri": map[string]any{"exact": fmt.Sprintf("/%d", i)}}},
			"route": []any{map[string]any{"destination": map[string]any{"host": propertyHost}}},
		}
	}
	base.Object["spec"].(map[string]any)["http"] = http //nolint:forcetypeassert // from benchBase
	e, s := benchExperiment(b), propertySnapshot(base)
	b.ReportAllocs()
	for b.Loop() {
		if refusal, refused := Decide(s, e, Options{}).Refusal(); refused {
			b.Fatal(refusal.Reason)
		}
	}
}
