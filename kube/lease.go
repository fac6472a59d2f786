package kube

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
)

type leaseClient = dynamic.ResourceInterface

func (c *Cluster) leases(namespace string) leaseClient {
	return c.objects.Resource(leases).Namespace(namespace)
}

// StateAnnotation is where a Lease keeps text.
const StateAnnotation = "squall.dev/state"

// Note keeps a text in the annotation of a Lease, which whoever elects leaders may
// write anyway.
type Note struct {
	Cluster         *Cluster
	Namespace, Name string
}

// Read gives the text; empty when there is none yet.
func (n Note) Read(ctx context.Context) (string, error) {
	lease, err := n.Cluster.lease(ctx, n.Namespace, n.Name)
	if err != nil || lease == nil {
		return "", err
	}
	return lease.GetAnnotations()[StateAnnotation], nil
}

// attempts is how often a change is tried while others change the same.
const attempts = 5

// Change changes the text that is stored, again when somebody else has changed
// it meanwhile.
func (n Note) Change(ctx context.Context, change func(string) (string, error)) error {
	for attempt := 1; ; attempt++ {
		err := n.try(ctx, change)
		if attempt < attempts && (apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err)) {
			continue
		}
		if err != nil {
			return fmt.Errorf("write Lease %s/%s: %w", n.Namespace, n.Name, n.Cluster.explain(err))
		}
		return nil
	}
}

func (n Note) try(ctx context.Context, change func(string) (string, error)) error {
	lease, err := n.Cluster.lease(ctx, n.Namespace, n.Name)
	if err != nil {
		return err
	}
	isNew := lease == nil
	if isNew {
		lease = newLease(n.Namespace, n.Name)
	}
	annotations := lease.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	if annotations[StateAnnotation], err = change(annotations[StateAnnotation]); err != nil {
		return err
	}
	lease.SetAnnotations(annotations)
	if isNew {
		_, err = n.Cluster.leases(n.Namespace).Create(ctx, lease, metav1.CreateOptions{FieldManager: fieldManager})
	} else {
		_, err = n.Cluster.leases(n.Namespace).Update(ctx, lease, metav1.UpdateOptions{FieldManager: fieldManager})
	}
	return err
}
