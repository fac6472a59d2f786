// Package meshtest has meshes, experiments and match conditions for tests.
package meshtest

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/experiments/files"
	"github.com/squall-chaos/squall/istio/config"
)

// Host is the host of the Service prod/ratings.
const Host = "ratings.prod.svc.cluster.local"

// Snapshot returns a mesh with the namespaces shop and prod, the Service
// prod/ratings, and the given objects, the first of which is the oldest. A ConfigMap has
// a MeshConfig, and a Deployment istiod.
func Snapshot(t testing.TB, manifests ...string) config.Snapshot {
	t.Helper()
	s := config.Defaults()
	s.APIVersion = "networking.istio.io/v1"
	s.Services = []config.Service{{Namespace: "prod", Name: "ratings", Ports: []config.Port{
		{Number: 80, Name: "http", Declared: "TCP", OfService: true}, {Number: 9080, Name: "grpc", Declared: "TCP", OfService: true},
	}}}
	s.Namespaces = map[string]map[string]string{"shop": {}, "prod": {}}
	var found config.Found
	for i, manifest := range manifests {
		object := Object(t, manifest)
		if created := object.GetCreationTimestamp(); created.IsZero() {
			created := time.Date(2026, 1, 1, 0, 0, i, 0, time.UTC).Format(time.RFC3339)
			if err := unstructured.SetNestedField(object.Object, created, "metadata", "creationTimestamp"); err != nil {
				t.Fatal(err)
			}
		}
		switch object.GetKind() {
		case "VirtualService":
			s.VirtualServices = append(s.VirtualServices, object)
		case "Sidecar":
			s.Sidecars = append(s.Sidecars, object)
		case "DestinationRule":
			s.DestinationRules = append(s.DestinationRules, object)
		case "ServiceEntry":
			s.ServiceEntries = append(s.ServiceEntries, object)
		case "Gateway":
			s.Gateways = append(s.Gateways, object)
		case "HTTPRoute", "GRPCRoute":
			s.Routes = append(s.Routes, object)
		case "Service":
			s.Services = append(s.Services, service(t, object))
		case "ConfigMap":
			found.ConfigMaps = append(found.ConfigMaps, object)
		case "Deployment":
			found.Deployments = append(found.Deployments, object)
		case "Namespace":
			s.Namespaces[object.GetName()] = object.GetLabels()
		default:
			t.Fatalf("a snapshot has no %s", object.GetKind())
		}
	}
	if len(found.ConfigMaps)+len(found.Deployments) > 0 {
		if err := s.Configure(found, config.Overrides{}); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func service(t testing.TB, object *unstructured.Unstructured) config.Service {
	t.Helper()
	encoded, err := object.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var manifest config.ServiceManifest
	if err := json.Unmarshal(encoded, &manifest); err != nil {
		t.Fatal(err)
	}
	return manifest.Service()
}

// Object returns the object of a manifest in YAML.
func Object(t testing.TB, manifest string) *unstructured.Unstructured {
	t.Helper()
	encoded, err := yaml.YAMLToJSON([]byte(manifest))
	if err != nil {
		t.Fatal(err)
	}
	object := &unstructured.Unstructured{}
	if err := object.UnmarshalJSON(encoded); err != nil {
		t.Fatal(err)
	}
	return object
}

// VirtualService returns the manifest of namespace/name with the given spec.
func VirtualService(name, spec string) string {
	namespace, name, _ := strings.Cut(name, "/")
	return "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {namespace: " + namespace + ", name: " + name + "}, spec: " + spec + "}"
}

// Experiment returns an abort with 503 of half the calls from shop to ratings. The
// edits are pairs of old and new parts of its text.
func Experiment(t testing.TB, edits ...string) experiments.Experiment {
	t.Helper()
	file := strings.NewReplacer(edits...).Replace(`apiVersion: squall.dev/v1alpha1
kind: Experiment
metadata: {name: outage}
spec:
  target: {host: ratings, namespace: prod}
  callers: [{namespace: shop}]
  faults: [{abort: {httpStatus: 503}, percentage: 50}]
  duration: 2m
  steadyState: {probes: [{name: up, query: up, min: 1}]}
`)
	loaded, err := files.Load("test.yaml", strings.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	return loaded[0]
}
