package kube

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/squall-chaos/squall/internal/sleep"
	"github.com/squall-chaos/squall/mesh"
)

// Election elects one of several processes by a Lease. The package of client-go
// that does the same brings the types of every Kubernetes API along, which costs
// each squall command half again as much memory.
//
// No clocks are compared: a Lease has expired when a process has seen it
// unchanged for its whole duration.
type Election struct {
	Cluster         *Cluster
	Namespace, Name string
	// Identity is this process, unlike any other.
	Identity string
	// Observed is told who leads whenever that changes; empty for nobody.
	Observed func(leader string)
	// Failed is told what keeps it from the Lease, whenever that changes; nil
	// when nobody wants to know.
	Failed func(err error)

	observed string
	failed   string
}

// The times of an election: whoever has not renewed the Lease for renewDeadline
// stops, well before anybody else may lead.
const (
	leaseDuration = 12 * time.Second
	renewDeadline = 8 * time.Second
	retryPeriod   = 2 * time.Second
)

var leases = schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"} //nolint:gochecknoglobals // a constant

// errLost is why the context of a leader ends whose process goes on.
var errLost = errors.New("another process leads, or the Lease of the leader cannot be renewed")

// Run calls lead whenever the Lease is ours, until ctx ends. The context of lead
// ends when the Lease is lost; lead is waited for, and the Lease given back.
func (e *Election) Run(ctx context.Context, lead func(context.Context)) {
	for ctx.Err() == nil {
		held, since := e.acquire(ctx)
		if held == nil {
			return
		}
		e.hold(ctx, held, since, lead)
	}
}

// acquire waits until the Lease is ours, and gives when it was asked for; it
// gives nil when ctx ends before.
func (e *Election) acquire(ctx context.Context) (held *unstructured.Unstructured, asked time.Time) {
	var seen string // the version of the Lease that was seen last
	var since time.Time
	for {
		held = nil
		lease, err := e.get(ctx)
		if err == nil && lease != nil && lease.GetResourceVersion() != seen {
			seen, since = lease.GetResourceVersion(), time.Now()
		}
		asked = time.Now()
		switch {
		case err != nil:
		case lease == nil:
			held, err = e.create(ctx, e.claim(newLease(e.Namespace, e.Name), true))
		case holder(lease) == "" || holder(lease) == e.Identity || time.Since(since) >= leaseDuration:
			held, err = e.update(ctx, e.claim(lease, true))
		default:
			e.observe(holder(lease))
		}
		if e.tell(ctx, err); err == nil && held != nil {
			return held, asked
		}
		if !sleep.For(ctx, retryPeriod) {
			return nil, time.Time{}
		}
	}
}

// hold leads for as long as the Lease can be renewed. It counts from when a
// renewal was asked for: others count from when it was done, which they may see
// long before the answer comes.
func (e *Election) hold(ctx context.Context, lease *unstructured.Unstructured, since time.Time, lead func(context.Context)) {
	e.observe(e.Identity)
	leading, stop := context.WithCancelCause(ctx)
	deadline := time.AfterFunc(time.Until(since.Add(renewDeadline)), func() { stop(errLost) })
	defer deadline.Stop()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		lead(leading)
	}()
	for sleep.For(leading, retryPeriod) {
		asked := time.Now()
		next, err := e.update(leading, e.claim(lease, false))
		if err == nil {
			lease = next
			deadline.Reset(time.Until(asked.Add(renewDeadline)))
			e.tell(leading, nil)
			continue
		}
		e.tell(leading, err)
		// The Lease may be another's, or only changed: by an answer that we
		// have not got, or by an administrator.
		next, err = e.get(leading)
		if err == nil && (next == nil || holder(next) != e.Identity) {
			break
		}
		if err == nil {
			lease = next
		}
	}
	stop(errLost)
	e.observe("")
	<-ended
	e.release(ctx)
}

// release gives the Lease back if it is still ours, so that nobody waits for its
// end. It is a courtesy: a failure does not matter.
func (e *Election) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), retryPeriod)
	defer cancel()
	lease, err := e.get(ctx)
	if err != nil || lease == nil || holder(lease) != e.Identity {
		return
	}
	_ = unstructured.SetNestedField(lease.Object, "", "spec", "holderIdentity") // spec is a map: holder has read it
	_, _ = e.update(ctx, lease)
}

// claim puts our name into a Lease, for the first time or again.
func (e *Election) claim(lease *unstructured.Unstructured, anew bool) *unstructured.Unstructured {
	claimed := lease.DeepCopy()
	now := time.Now().UTC().Format(metav1.RFC3339Micro)
	spec := map[string]any{"holderIdentity": e.Identity, "leaseDurationSeconds": int64(leaseDuration / time.Second), "renewTime": now, "acquireTime": now}
	transitions, _, _ := unstructured.NestedInt64(lease.Object, "spec", "leaseTransitions")
	if !anew {
		spec["acquireTime"], _, _ = unstructured.NestedString(lease.Object, "spec", "acquireTime")
	} else if holder(lease) != e.Identity {
		transitions++
	}
	spec["leaseTransitions"] = transitions
	claimed.Object["spec"] = spec
	return claimed
}

func holder(lease *unstructured.Unstructured) string {
	name, _, _ := unstructured.NestedString(lease.Object, "spec", "holderIdentity") // a Lease of another form has none
	return name
}

func (e *Election) observe(leader string) {
	if leader != e.observed {
		e.observed = leader
		e.Observed(leader)
	}
}

// tell tells of an error, once. That somebody else was quicker is none.
func (e *Election) tell(ctx context.Context, err error) {
	words := ""
	if err != nil && ctx.Err() == nil && !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
		words = err.Error()
	}
	if words != "" && words != e.failed && e.Failed != nil {
		e.Failed(err)
	}
	e.failed = words
}

func (e *Election) get(ctx context.Context) (*unstructured.Unstructured, error) {
	return e.Cluster.lease(ctx, e.Namespace, e.Name)
}

func (e *Election) update(ctx context.Context, lease *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	ctx, cancel := context.WithTimeout(ctx, renewDeadline/2) // one that hangs must leave time for another
	defer cancel()
	return e.Cluster.leases(e.Namespace).Update(ctx, lease, metav1.UpdateOptions{FieldManager: fieldManager})
}

func (e *Election) create(ctx context.Context, lease *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	ctx, cancel := context.WithTimeout(ctx, renewDeadline/2)
	defer cancel()
	return e.Cluster.leases(e.Namespace).Create(ctx, lease, metav1.CreateOptions{FieldManager: fieldManager})
}

// lease gives a Lease of ours; nil when there is none.
func (c *Cluster) lease(ctx context.Context, namespace, name string) (*unstructured.Unstructured, error) {
	ctx, cancel := context.WithTimeout(ctx, renewDeadline/2)
	defer cancel()
	lease, err := c.leases(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // there is none, and nothing went wrong
	}
	if err != nil {
		return nil, fmt.Errorf("get Lease %s/%s: %w", namespace, name, c.explain(err))
	}
	if lease.GetLabels()[mesh.ManagedByLabel] != mesh.ManagedByValue {
		return nil, fmt.Errorf("Lease %s/%s is not Squall's, which does not touch it; --lease-name names another", namespace, name) //nolint:staticcheck // a kind
	}
	return lease, nil
}

// newLease makes a Lease that nobody holds.
func newLease(namespace, name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": map[string]any{},
		"metadata": map[string]any{"namespace": namespace, "name": name, "labels": map[string]any{mesh.ManagedByLabel: mesh.ManagedByValue}},
	}}
}
