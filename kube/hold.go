package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/squall-chaos/squall/mesh/objects"
)

// leases is the resource of the Leases.
var leases = schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"} //nolint:gochecknoglobals // a constant

// attempts is how often a change is tried if others change the Lease too.
const attempts = 5

// Leases returns the client for the Leases of a namespace.
func (c *connection) Leases(namespace string) dynamic.ResourceInterface {
	return c.objects.Resource(leases).Namespace(namespace)
}

// Hold returns the hold on runs in some namespaces that ends last, by the time of the
// API server; nil if there is none. A hold of the whole cluster counts in any case.
func (c *Cluster) Hold(ctx context.Context, namespaces []string) (*objects.Hold, error) {
	var leases []*unstructured.Unstructured
	asked := slices.Concat([]string{objects.HoldEverywhere}, namespaces)
	slices.Sort(asked)
	for _, namespace := range slices.Compact(asked) {
		lease, err := c.Leases(namespace).Get(ctx, objects.HoldName, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			return nil, fmt.Errorf("get Lease %s/%s: %w", namespace, objects.HoldName, c.Explain(err))
		default:
			leases = append(leases, lease)
		}
	}
	if len(leases) == 0 {
		return nil, nil //nolint:nilnil // no hold is not an error
	}
	server, err := c.Server(ctx)
	if err != nil {
		return nil, err
	}
	var last *objects.Hold
	for _, lease := range leases {
		if hold, holds := objects.HoldOf(lease, server.Time); holds && (last == nil || hold.Until.After(last.Until)) {
			last = &hold
		}
	}
	return last, nil
}

// SetHold holds the runs of a namespace for a time from now. A hold that ends later
// stays. It returns the hold. Of a missing permission apierrors.IsForbidden is true.
func (c *Cluster) SetHold(ctx context.Context, namespace, by string, length time.Duration) (objects.Hold, error) {
	hold, err := c.setHold(ctx, namespace, by, length)
	for attempt := 1; attempt < attempts && (apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err)); attempt++ {
		hold, err = c.setHold(ctx, namespace, by, length)
	}
	if err != nil {
		return objects.Hold{}, fmt.Errorf("write Lease %s/%s: %w", namespace, objects.HoldName, c.Explain(err))
	}
	return hold, nil
}

func (c *Cluster) setHold(ctx context.Context, namespace, by string, length time.Duration) (objects.Hold, error) {
	server, err := c.Server(ctx)
	if err != nil {
		return objects.Hold{}, err
	}
	lease := objects.NewHold(namespace, by, server.Time, length)
	next, _ := objects.HoldOf(lease, server.Time)
	existing, err := c.Leases(namespace).Get(ctx, objects.HoldName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		_, err = c.Leases(namespace).Create(ctx, lease, metav1.CreateOptions{FieldManager: FieldManager})
	case err != nil:
	case existing.GetLabels()[objects.ManagedByLabel] != objects.ManagedByValue:
		err = errForeignHold
	default:
		if hold, holds := objects.HoldOf(existing, server.Time); holds && hold.Until.After(next.Until) {
			return hold, nil
		}
		existing.Object["spec"] = lease.Object["spec"]
		_, err = c.Leases(namespace).Update(ctx, existing, metav1.UpdateOptions{FieldManager: FieldManager})
	}
	return next, err
}

// EndHold ends the hold in a namespace, and reports whether there was a Lease.
func (c *Cluster) EndHold(ctx context.Context, namespace string) (ended bool, err error) {
	existing, err := c.Leases(namespace).Get(ctx, objects.HoldName, metav1.GetOptions{})
	if err == nil && existing.GetLabels()[objects.ManagedByLabel] != objects.ManagedByValue {
		err = errForeignHold
	}
	if err == nil {
		uid := existing.GetUID()
		err = c.Leases(namespace).Delete(ctx, objects.HoldName, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	}
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("delete Lease %s/%s: %w", namespace, objects.HoldName, c.Explain(err))
	}
	return true, nil
}

// errForeignHold is the error for a Lease that Squall does not write.
var errForeignHold = errors.New("it does not have the label of Squall")
