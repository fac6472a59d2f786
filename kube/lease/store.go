package lease

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/squall-chaos/squall/kube"
)

// StateAnnotation is the annotation of a Lease that holds the text of a Store.
const StateAnnotation = "squall.dev/state"

// Store stores a text in the annotation of a Lease. Leader election needs
// permissions for Leases anyway.
type Store struct {
	Cluster         *kube.Cluster
	Namespace, Name string
}

// Read returns the text, or an empty one if the Lease does not exist.
func (s Store) Read(ctx context.Context) (string, error) {
	lease, err := get(ctx, s.Cluster, s.Namespace, s.Name)
	if err != nil || lease == nil {
		return "", err
	}
	return lease.GetAnnotations()[StateAnnotation], nil
}

// attempts limits how often a change is tried if others change the Lease too.
const attempts = 5

// Change replaces the text by the result of change. It is repeated if the Lease
// has changed meanwhile.
func (s Store) Change(ctx context.Context, change func(string) (string, error)) error {
	for attempt := 1; ; attempt++ {
		err := s.try(ctx, change)
		if attempt < attempts && (apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err)) {
			continue
		}
		if err != nil {
			return fmt.Errorf("write Lease %s/%s: %w", s.Namespace, s.Name, s.Cluster.Explain(err))
		}
		return nil
	}
}

func (s Store) try(ctx context.Context, change func(string) (string, error)) error {
	lease, err := get(ctx, s.Cluster, s.Namespace, s.Name)
	if err != nil {
		return err
	}
	isNew := lease == nil
	if isNew {
		lease = newLease(s.Namespace, s.Name)
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
		_, err = s.Cluster.Leases(s.Namespace).Create(ctx, lease, metav1.CreateOptions{FieldManager: kube.FieldManager})
	} else {
		_, err = s.Cluster.Leases(s.Namespace).Update(ctx, lease, metav1.UpdateOptions{FieldManager: kube.FieldManager})
	}
	return err
}
