package torture_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"

	"github.com/squall-chaos/squall/sandbox/internal/identity"
	"github.com/squall-chaos/squall/sandbox/internal/routes"
	"github.com/squall-chaos/squall/sandbox/internal/testbed"
)

const (
	// ourLabel is on every object of a run.
	ourLabel = "app.kubernetes.io/managed-by=squall"
	// ourRoute is in what istiod says of a route that an object of ours made.
	ourRoute = "virtual-service/squall-"
	// deadline is how long the fault of a run may outlive it.
	deadline = 20 * time.Second
	// patience bounds every other wait; the machine is busy.
	patience = 60 * time.Second
	pause    = 50 * time.Millisecond
)

var (
	namespaces      = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	virtualServices = schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "virtualservices"}
	serviceEntries  = schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "serviceentries"}
	rules           = schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "destinationrules"}
	jobs            = schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "jobs"}
	made            = []schema.GroupVersionResource{virtualServices, serviceEntries, rules, jobs}
)

type m = map[string]any

// world is the sandbox, and the places in it where runs go on at the same time.
type world struct {
	sandbox *testbed.Sandbox
	env     []string
	free    chan *slot
	all     []*slot
	// ours knows the objects of all runs, by the kind.
	ours   map[schema.GroupVersionResource]cache.GenericLister
	server *grpc.Server
}

// slot is a host with an effective VirtualService, and two namespaces that call it. One
// run at a time disturbs these calls.
type slot struct {
	home, host string
	callers    [2]string
}

func newWorld(ctx context.Context, sandbox *testbed.Sandbox, count int) (*world, error) {
	w := &world{sandbox: sandbox, free: make(chan *slot, count), ours: map[schema.GroupVersionResource]cache.GenericLister{}, server: grpc.NewServer()}
	var err error
	if w.env, err = sandbox.Env(); err != nil {
		return nil, err
	}
	if err := w.follow(ctx); err != nil {
		return nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	healthpb.RegisterHealthServer(w.server, health.NewServer())
	go func() { _ = w.server.Serve(listener) }() // until it is stopped
	for i := range count {
		home := fmt.Sprintf("torture-%d", i)
		s := &slot{home: home, host: home + ".torture.test", callers: [2]string{home + "-a", home + "-b"}}
		w.all = append(w.all, s)
		w.free <- s
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for _, s := range w.all {
		group.Go(func() error { return w.furnish(ctx, s, listener.Addr().(*net.TCPAddr).Port) })
	}
	return w, group.Wait()
}

func (w *world) close() { w.server.Stop() }

// follow keeps the objects of all runs in memory, so that hundreds of waits
// cost the API server nothing.
func (w *world) follow(ctx context.Context) error {
	factory := dynamicinformer.NewFilteredDynamicSharedInformerFactory(w.sandbox.Kube, 0, metav1.NamespaceAll, func(o *metav1.ListOptions) { o.LabelSelector = ourLabel })
	for _, resource := range made {
		w.ours[resource] = factory.ForResource(resource).Lister()
	}
	factory.Start(ctx.Done())
	for resource, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return fmt.Errorf("%s cannot be watched", resource.Resource)
		}
	}
	return nil
}

// furnish makes the objects of a slot, as its users would have.
func (w *world) furnish(ctx context.Context, s *slot, port int) error {
	for _, name := range []string{s.home, s.callers[0], s.callers[1]} {
		if err := w.create(ctx, namespaces, "", m{"apiVersion": "v1", "kind": "Namespace", "metadata": m{"name": name}}); err != nil {
			return err
		}
	}
	exportTo := []any{s.callers[0], s.callers[1]}
	return errors.Join(
		w.create(ctx, serviceEntries, s.home, m{
			"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": m{"name": "host"},
			"spec": m{
				"hosts": []any{s.host}, "exportTo": exportTo, "location": "MESH_INTERNAL", "resolution": "STATIC",
				"ports":     []any{m{"number": int64(9080), "name": "grpc", "protocol": "GRPC"}},
				"endpoints": []any{m{"address": "127.0.0.1", "ports": m{"grpc": int64(port)}}},
			},
		}),
		w.create(ctx, virtualServices, s.home, m{
			"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": m{"name": "host"},
			"spec": m{
				"hosts": []any{s.host}, "exportTo": exportTo,
				"http": []any{m{"timeout": "5s", "route": []any{m{"destination": m{"host": s.host}}}}},
			},
		}),
	)
}

func (w *world) create(ctx context.Context, resource schema.GroupVersionResource, namespace string, object m) error {
	_, err := w.sandbox.Kube.Resource(resource).Namespace(namespace).Create(ctx, &unstructured.Unstructured{Object: object}, metav1.CreateOptions{})
	return err
}

// job is something that is done in a slot.
type job struct {
	name string
	do   func(context.Context, *slot) error
}

// inParallel does all jobs, as many at a time as there are slots. A job leaves
// its slot as it has found it, or fails.
func inParallel(t *testing.T, jobs []job) {
	t.Helper()
	if len(jobs) == 0 {
		t.Fatal("nothing to do")
	}
	group := errgroup.Group{}
	for _, j := range jobs {
		s := <-bed.free
		group.Go(func() error {
			defer func() { bed.free <- s }()
			if err := errors.Join(j.do(t.Context(), s), bed.tidy(t.Context(), s)); err != nil {
				t.Errorf("%s: %v", j.name, err)
			}
			return nil
		})
	}
	_ = group.Wait() // the errors are reported already
}

// standing returns the objects of runs in a slot of some kinds, as they are known.
func (w *world) standing(s *slot, kinds ...schema.GroupVersionResource) []string {
	var found []string
	for _, resource := range kinds {
		for _, namespace := range s.namespaces() {
			objects, _ := w.ours[resource].ByNamespace(namespace).List(labels.Everything()) // a lister of a cache does not fail
			found = append(found, namesOf(objects)...)
		}
	}
	return found
}

func (s *slot) namespaces() []string { return []string{s.home, s.callers[0], s.callers[1]} }

func namesOf(objects []runtime.Object) []string {
	var names []string
	for _, o := range objects {
		if object, ok := o.(*unstructured.Unstructured); ok {
			names = append(names, object.GetKind()+" "+object.GetNamespace()+"/"+object.GetName())
		}
	}
	return names
}

// left asks the API server for the objects of runs in a slot.
func (w *world) left(ctx context.Context, s *slot) ([]string, error) {
	var found []string
	for _, resource := range made {
		for _, namespace := range s.namespaces() {
			list, err := w.sandbox.Kube.Resource(resource).Namespace(namespace).List(ctx, metav1.ListOptions{LabelSelector: ourLabel})
			if err != nil {
				return nil, err
			}
			for _, item := range list.Items {
				found = append(found, item.GetKind()+" "+item.GetNamespace()+"/"+item.GetName())
			}
		}
	}
	return found, nil
}

// faulty reports whether istiod sends routes of a run to any caller of a slot.
func (w *world) faulty(ctx context.Context, s *slot) (bool, error) {
	for _, namespace := range s.callers {
		found, err := routes.Fetch(ctx, identity.Workload{Namespace: namespace, Name: "caller", IP: "127.0.1.1", Labels: map[string]string{"app": "caller"}}, "sidecar", s.host)
		if err != nil {
			return false, err
		}
		if !strings.Contains(string(found), s.host) {
			return false, fmt.Errorf("istiod knows no route from %s to %s", namespace, s.host)
		}
		if strings.Contains(string(found), ourRoute) {
			return true, nil
		}
	}
	return false, nil
}

// answers makes real calls from a slot's callers, none of which may meet a
// fault.
func (w *world) answers(ctx context.Context, s *slot) error {
	for _, namespace := range s.callers {
		got, err := w.sandbox.Call(ctx, namespace+"/caller", s.host+":9080", "-n", "5", "--rate", "100")
		if err != nil {
			return err
		}
		if got.Calls != 5 || got.Codes["OK"] != 5 || got.Injected > 0 {
			return fmt.Errorf("calls from %s: %+v", namespace, got)
		}
	}
	return nil
}

// dirt says what of runs is in a slot, by the API server's and istiod's word;
// nil when there is nothing.
func (w *world) dirt(ctx context.Context, s *slot) error {
	left, err := w.left(ctx, s)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("left: %v", left)
	}
	faulty, err := w.faulty(ctx, s)
	if err == nil && faulty {
		err = errors.New("the fault is in force at a caller")
	}
	return err
}

// clean waits until nothing of runs is in a slot.
func (w *world) clean(ctx context.Context, s *slot, within time.Duration) error {
	if within > pause { // cheap questions first
		waitUntil(ctx, time.Now().Add(within), func() bool { return len(w.standing(s, made...)) == 0 })
	}
	return eventually(ctx, within, func() error { return w.dirt(ctx, s) })
}

// tidy removes what a job has left, so that the next one starts with nothing.
func (w *world) tidy(ctx context.Context, s *slot) error {
	for _, resource := range made {
		for _, namespace := range s.namespaces() {
			background := metav1.DeletePropagationBackground
			err := w.sandbox.Kube.Resource(resource).Namespace(namespace).DeleteCollection(ctx, metav1.DeleteOptions{PropagationPolicy: &background}, metav1.ListOptions{LabelSelector: ourLabel})
			if err != nil && !apierrors.IsNotFound(err) {
				return err
			}
		}
	}
	return w.clean(ctx, s, patience)
}

// eventually retries until try succeeds, and returns the last error after the timeout.
func eventually(ctx context.Context, within time.Duration, try func() error) error {
	var err error
	waitUntil(ctx, time.Now().Add(within), func() bool { err = try(); return err == nil })
	return err
}

// waitUntil waits for a condition, for some time.
func waitUntil(ctx context.Context, end time.Time, condition func() bool) {
	for !condition() && ctx.Err() == nil && time.Now().Before(end) {
		time.Sleep(pause)
	}
}
