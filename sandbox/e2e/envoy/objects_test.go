package envoy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
)

// apply creates objects until the end of the test.
func apply(t testing.TB, manifests string) {
	t.Helper()
	documents := yaml.NewYAMLOrJSONDecoder(strings.NewReader(manifests), 4096)
	for {
		object := &unstructured.Unstructured{}
		if err := documents.Decode(object); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		resource := resourceOf(object)
		if _, err := resource.Create(t.Context(), object, metav1.CreateOptions{}); err != nil {
			t.Fatalf("create %s %s: %v", object.GetKind(), object.GetName(), err)
		}
		t.Cleanup(func() {
			err := resource.Delete(context.WithoutCancel(t.Context()), object.GetName(), metav1.DeleteOptions{})
			if err != nil && !apierrors.IsNotFound(err) {
				t.Errorf("delete %s %s: %v", object.GetKind(), object.GetName(), err)
			}
		})
	}
}

func resourceOf(object *unstructured.Unstructured) dynamic.ResourceInterface {
	plural := strings.ToLower(object.GetKind()) + "s"
	if stem, ok := strings.CutSuffix(plural, "ys"); ok {
		plural = stem + "ies"
	}
	kind := object.GroupVersionKind()
	return mesh.Kube.Resource(schema.GroupVersionResource{Group: kind.Group, Version: kind.Version, Resource: plural}).Namespace(object.GetNamespace())
}

// service creates a Service in prod with pods of the shop, so that a test has a
// separate host, and returns the host and the target of experiments.
func service(t testing.TB, name, selector string) (address, target string) {
	t.Helper()
	return serviceIn(t, "prod", name, "selector: "+selector)
}

// serviceIn does the same in a namespace and with any fields.
func serviceIn(t testing.TB, namespace, name, fields string) (address, target string) {
	t.Helper()
	apply(t, fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: %s, namespace: %s}
spec: {%s, ports: [{name: http, port: 9080}]}
`, name, namespace, fields))
	host := name + "." + namespace + ".svc.cluster.local"
	address = host + ":9080"
	isClean(t, other, address)
	return address, "{host: " + host + "}"
}

// routed creates a VirtualService for a service of prod, with the fields of a route.
func routed(t testing.TB, name, fields string) {
	t.Helper()
	apply(t, fmt.Sprintf(`
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: %[1]s, namespace: prod}
spec:
  hosts: [%[1]s]
  http:
  - name: %[1]s
    route: [{destination: {host: %[1]s}}]
%[2]s
`, name, indented(fields)))
	eventually(t, func() error {
		routes, err := mesh.Routes(t.Context(), other, "--host", name+".prod.svc.cluster.local")
		if err == nil && !strings.Contains(routes, "virtual-service/"+name+`"`) {
			err = fmt.Errorf("istiod has not seen the VirtualService %s", name)
		}
		return err
	})
}

func indented(fields string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.TrimSpace(fields)) {
		b.WriteString("    " + line)
	}
	return b.String()
}

// fetched is an answer to curl.
type fetched struct {
	code    string
	seconds float64
	headers map[string]string
	body    string
}

// curl makes a request from a pod.
func curl(t testing.TB, pod string, args ...string) fetched {
	t.Helper()
	out, err := mesh.Exec(t.Context(), pod, append([]string{"curl", "-sS", "-i", "-m", "20", "-w", "\n%{http_code} %{time_total}"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	out = strings.ReplaceAll(out, "\r\n", "\n")
	head, rest, _ := strings.Cut(out, "\n\n")
	last := strings.LastIndexByte(rest, '\n')
	answer := fetched{headers: map[string]string{}, body: rest[:max(0, last)]}
	if _, err := fmt.Sscan(rest[last+1:], &answer.code, &answer.seconds); err != nil {
		t.Fatalf("curl %v: %v: %s", args, err, out)
	}
	for line := range strings.Lines(head) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
			answer.headers[key] = value
		}
	}
	return answer
}
