package oracle_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/squall-chaos/squall/sandbox/internal/identity"
	"github.com/squall-chaos/squall/sandbox/internal/layout"
	"github.com/squall-chaos/squall/sandbox/internal/routes"
)

// object is a manifest.
type object = *unstructured.Unstructured

// world is the sandbox as the tests use it.
type world struct {
	kube   dynamic.Interface
	engine planner
	http   *http.Client
	synced int
}

const (
	// parallel is how many requests are under way at a time.
	parallel = 16
	// patience bounds every wait; the machine may be busy.
	patience = 60 * time.Second
	pause    = 20 * time.Millisecond
)

func (w *world) resource(o object) dynamic.ResourceInterface {
	kind := o.GroupVersionKind()
	resource := w.kube.Resource(schema.GroupVersionResource{Group: kind.Group, Version: kind.Version, Resource: plural(kind.Kind)})
	if o.GetNamespace() == "" {
		return resource
	}
	return resource.Namespace(o.GetNamespace())
}

func plural(kind string) string {
	lower := strings.ToLower(kind)
	if stem, ok := strings.CutSuffix(lower, "y"); ok && !strings.HasSuffix(stem, "a") {
		return stem + "ies"
	}
	return lower + "s"
}

// forEach does something with every item, several at a time.
func forEach[T any](t *testing.T, items []T, do func(context.Context, T) error) {
	t.Helper()
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(parallel)
	for _, item := range items {
		group.Go(func() error { return do(ctx, item) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

func (w *world) create(t *testing.T, objects []object) {
	t.Helper()
	forEach(t, objects, func(ctx context.Context, o object) error {
		if _, err := w.resource(o).Create(ctx, o, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("create %s %s/%s: %w", o.GetKind(), o.GetNamespace(), o.GetName(), err)
		}
		return nil
	})
}

func (w *world) remove(t *testing.T, objects []object) {
	t.Helper()
	forEach(t, objects, func(ctx context.Context, o object) error {
		if err := w.resource(o).Delete(ctx, o.GetName(), metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete %s %s/%s: %w", o.GetKind(), o.GetNamespace(), o.GetName(), err)
		}
		return nil
	})
}

// eventually tries until it succeeds, and fails the test when it does not.
func eventually(t *testing.T, try func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(pause)
	}
}

// nextSecond waits until the API server stamps new objects with another
// second than those that it has stamped so far: age has that granularity.
func (w *world) nextSecond(t *testing.T) {
	t.Helper()
	probe := manifest("v1", "ConfigMap", "default", "clock")
	clock := func() (metav1.Time, error) {
		created, err := w.resource(probe).Create(t.Context(), probe, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err != nil {
			return metav1.Time{}, err
		}
		return created.GetCreationTimestamp(), nil
	}
	now, err := clock()
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		later, err := clock()
		if err == nil && !now.Before(&later) {
			err = errors.New("the API server's clock stands still")
		}
		return err
	})
}

// sync waits until istiod works with everything written so far. It changes
// one object of each kind that the scenarios use, and waits until istiod's
// routes show all of these changes: istiod watches each kind in order.
func (w *world) sync(t *testing.T) {
	t.Helper()
	const namespace = "oracle-sync"
	w.synced++
	name := fmt.Sprintf("sync-%d", w.synced)
	host, service := name+".oracle.test", "sync."+namespace+".svc.cluster.local"
	port := int64(20000 + w.synced)
	hidden := withSpec(manifest("v1", "Service", namespace, "sync"), m{"ports": list(m{"name": "http", "port": port, "protocol": "TCP"})})
	hidden.SetAnnotations(map[string]string{"networking.istio.io/exportTo": "."})
	if w.synced == 1 {
		w.create(t, []object{manifest("v1", "Namespace", "", namespace)})
	}
	for _, o := range []object{
		withSpec(manifest(networking, "ServiceEntry", namespace, "sync"), serviceEntrySpec([]any{host}, []int64{9080}, []string{"."})),
		withSpec(manifest(networking, "VirtualService", namespace, "sync"), m{
			"hosts": list(host), "exportTo": list("."),
			"http": list(m{"name": name, "route": list(m{"destination": m{"host": host}})}),
		}),
		// The host of the next round is not imported until its Sidecar is.
		withSpec(manifest(networking, "Sidecar", namespace, "sync"), m{"egress": list(m{"hosts": list("./"+host, "./"+service)})}),
		hidden,
	} {
		if _, err := w.resource(o).Apply(t.Context(), o.GetName(), o, metav1.ApplyOptions{FieldManager: "oracle", Force: true}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, func() error {
		view, err := w.look(t.Context(), identity.Workload{Namespace: namespace, Name: "probe", IP: "127.0.1.1"})
		ofService := slices.ContainsFunc(view.routesTo(service), func(v virtualHost) bool { return v.port == port })
		if err == nil && (!view.routesTo(host).named(name) || !ofService) {
			err = fmt.Errorf("istiod has not seen %s", name)
		}
		return err
	})
}

// look returns the routes that istiod sends to an Envoy.
func (w *world) look(ctx context.Context, who identity.Workload) (view, error) {
	encoded, err := routes.Fetch(ctx, who, "sidecar", "")
	if err != nil {
		return nil, err
	}
	return parseView(encoded)
}

// validate asks istiod's own admission webhook about an object.
func (w *world) validate(ctx context.Context, o object) error {
	review, err := json.Marshal(m{
		"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
		"request": m{
			"uid": "oracle", "operation": "CREATE", "namespace": o.GetNamespace(), "name": o.GetName(),
			"kind": m{"group": o.GroupVersionKind().Group, "version": o.GroupVersionKind().Version, "kind": o.GetKind()}, "object": o.Object,
		},
	})
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+layout.IstiodHTTP+"/validate", bytes.NewReader(review))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := w.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // read to the end
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	var answer struct {
		Response *struct {
			Allowed bool `json:"allowed"`
			Status  struct {
				Message string `json:"message"`
			} `json:"status"`
		} `json:"response"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Response == nil {
		return fmt.Errorf("istiod's webhook answers %s: %s", response.Status, body)
	}
	if !answer.Response.Allowed {
		return deniedError(answer.Response.Status.Message)
	}
	return nil
}

// deniedError is what istiod's webhook says against an object.
type deniedError string

func (d deniedError) Error() string { return "istiod refuses it: " + string(d) }
