// Package lease elects one of several processes by a Lease, and stores a text in one.
package lease

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/internal/sleep"
	"github.com/squall-chaos/squall/kube"
	"github.com/squall-chaos/squall/mesh/objects"
)

// Election elects one of several processes by a Lease. client-go's package
// leaderelection imports the types of every Kubernetes API, which would increase
// the memory of each squall command by half.
//
// The clocks of processes are not compared: for a process a Lease has expired
// when it has seen the Lease unchanged for its whole duration.
type Election struct {
	Cluster         *kube.Cluster
	Namespace, Name string
	// Identity identifies this process. It must be unique.
	Identity string
	// Observed is called with the leader whenever it changes; empty if there is none.
	Observed func(leader string)
	// Failed, if not nil, is called when the Lease cannot be read or written, once
	// for each different error.
	Failed func(err error)

	observed string
	failed   string
}

// The times of an election. A leader that has not renewed the Lease for
// renewDeadline stops, before another process can acquire it.
const (
	leaseDuration = 12 * time.Second
	renewDeadline = 8 * time.Second
	retryPeriod   = 2 * time.Second
)

// errLost is the cause when leadership is lost but the process keeps running.
var errLost = errors.New("another process leads, or the Lease of the leader cannot be renewed")

// Run calls lead whenever this process holds the Lease, until ctx is done. The
// context of lead is canceled when the Lease is lost. Run waits until lead has
// returned, and then releases the Lease.
func (e *Election) Run(ctx context.Context, lead func(context.Context)) {
	for ctx.Err() == nil {
		held, since := e.acquire(ctx)
		if held == nil {
			return
		}
		e.hold(ctx, held, since, lead)
	}
}

// acquire waits until this process holds the Lease. It returns the Lease and the
// time at which it was requested, or nil if ctx is done first.
func (e *Election) acquire(ctx context.Context) (held *unstructured.Unstructured, requested time.Time) {
	var seen string // the last seen version of the Lease
	var since time.Time
	for {
		held = nil
		lease, err := e.get(ctx)
		if err == nil && lease != nil && lease.GetResourceVersion() != seen {
			seen, since = lease.GetResourceVersion(), time.Now()
		}
		requested = time.Now()
		switch {
		case err != nil:
		case lease == nil:
			held, err = e.create(ctx, e.claim(newLease(e.Namespace, e.Name), true))
		case holder(lease) == "" || holder(lease) == e.Identity || time.Since(since) >= leaseDuration:
			held, err = e.update(ctx, e.claim(lease, true))
		default:
			e.observe(holder(lease))
		}
		if e.report(ctx, err); err == nil && held != nil {
			return held, requested
		}
		if !sleep.For(ctx, retryPeriod) {
			return nil, time.Time{}
		}
	}
}

// hold leads for as long as the Lease can be renewed. The deadline counts from
// the request of a renewal, because other processes may see the renewal long
// before its response arrives.
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
		requested := time.Now()
		next, err := e.update(leading, e.claim(lease, false))
		if err == nil {
			lease = next
			deadline.Reset(time.Until(requested.Add(renewDeadline)))
			e.report(leading, nil)
			continue
		}
		e.report(leading, err)
		// Another process may hold the Lease, or it has only changed: by a request
		// whose response was lost, or by an administrator.
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

// release clears the holder of the Lease if it is still this process, so that
// another one can lead at once. Errors are ignored: the Lease expires anyway.
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

// claim returns the Lease with this process as its holder. first reports whether
// the process acquires the Lease, rather than renews it.
func (e *Election) claim(lease *unstructured.Unstructured, first bool) *unstructured.Unstructured {
	claimed := lease.DeepCopy()
	now := time.Now().UTC().Format(metav1.RFC3339Micro)
	spec := map[string]any{"holderIdentity": e.Identity, "leaseDurationSeconds": int64(leaseDuration / time.Second), "renewTime": now, "acquireTime": now}
	transitions, _, _ := unstructured.NestedInt64(lease.Object, "spec", "leaseTransitions")
	if !first {
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

// report calls Failed once for each different error. A conflict is not an
// error: another process was faster.
func (e *Election) report(ctx context.Context, err error) {
	text := ""
	if err != nil && ctx.Err() == nil && !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
		text = err.Error()
	}
	if text != "" && text != e.failed && e.Failed != nil {
		e.Failed(err)
	}
	e.failed = text
}

func (e *Election) get(ctx context.Context) (*unstructured.Unstructured, error) {
	return get(ctx, e.Cluster, e.Namespace, e.Name)
}

func (e *Election) update(ctx context.Context, lease *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	ctx, cancel := context.WithTimeout(ctx, renewDeadline/2) // leaves time for a second attempt
	defer cancel()
	return e.Cluster.Leases(e.Namespace).Update(ctx, lease, metav1.UpdateOptions{FieldManager: kube.FieldManager})
}

func (e *Election) create(ctx context.Context, lease *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	ctx, cancel := context.WithTimeout(ctx, renewDeadline/2)
	defer cancel()
	return e.Cluster.Leases(e.Namespace).Create(ctx, lease, metav1.CreateOptions{FieldManager: kube.FieldManager})
}

// get returns a Lease of Squall, or nil if there is none.
func get(ctx context.Context, c *kube.Cluster, namespace, name string) (*unstructured.Unstructured, error) {
	ctx, cancel := context.WithTimeout(ctx, renewDeadline/2)
	defer cancel()
	lease, err := c.Leases(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // a missing Lease is not an error
	}
	if err != nil {
		return nil, fmt.Errorf("get Lease %s/%s: %w", namespace, name, c.Explain(err))
	}
	if lease.GetLabels()[objects.ManagedByLabel] != objects.ManagedByValue {
		return nil, fmt.Errorf("Lease %s/%s does not belong to Squall; use another --lease-name", namespace, name) //nolint:staticcheck // a kind
	}
	return lease, nil
}

// newLease returns a Lease without a holder.
func newLease(namespace, name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": map[string]any{},
		"metadata": map[string]any{"namespace": namespace, "name": name, "labels": map[string]any{objects.ManagedByLabel: objects.ManagedByValue}},
	}}
}
