package runs

import (
	"context"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner"
)

// sharedCluster is a cluster for many runs that start at the same moment. They share
// the configuration and the answers about permissions. The other questions of a
// preflight are sent a few at a time: with HTTP/2 a client opens one more connection
// whenever no stream is free.
type sharedCluster struct {
	runner.Cluster

	asking   *turns
	deleting *turns
	snapshot *joined[config.Snapshot]

	mu        sync.Mutex
	permitted map[string]*joined[struct{}] // by what is asked
}

// The maximum numbers of questions of preflights, and of deletions, at a time.
const (
	maxTurns     = 4
	maxDeletions = 16
)

func share(c runner.Cluster) *sharedCluster {
	s := &sharedCluster{Cluster: c, asking: newTurns(maxTurns), deleting: newTurns(maxDeletions), permitted: map[string]*joined[struct{}]{}}
	s.snapshot = &joined[config.Snapshot]{subject: "the mesh configuration", ask: func(ctx context.Context) (config.Snapshot, error) { return s.Cluster.Snapshot(ctx) }}
	return s
}

// Snapshot implements runner.Cluster.
func (s *sharedCluster) Snapshot(ctx context.Context) (config.Snapshot, error) {
	return s.snapshot.get(ctx)
}

// Permitted implements runner.Cluster.
func (s *sharedCluster) Permitted(ctx context.Context, namespace string, kinds []string) error {
	_, err := s.permissions(namespace, kinds).get(ctx)
	return err
}

// permissions returns the question whether objects of some kinds may be created in a
// namespace.
func (s *sharedCluster) permissions(namespace string, kinds []string) *joined[struct{}] {
	kinds = slices.Clone(kinds)
	key := namespace + " " + strings.Join(kinds, " ")
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.permitted[key] == nil {
		s.permitted[key] = &joined[struct{}]{subject: "the answer about permissions", ask: func(ctx context.Context) (none struct{}, err error) {
			return none, s.asking.do(ctx, false, func() error { return s.Cluster.Permitted(ctx, namespace, kinds) })
		}}
	}
	return s.permitted[key]
}

// Check implements runner.Cluster.
func (s *sharedCluster) Check(ctx context.Context, object *unstructured.Unstructured) (checked *unstructured.Unstructured, err error) {
	err = s.asking.do(ctx, false, func() (err error) {
		checked, err = s.Cluster.Check(ctx, object)
		return err
	})
	return checked, err
}

// Delete implements runner.Cluster. When many runs roll back at the same moment, their
// VirtualServices, which carry the faults, are deleted first.
func (s *sharedCluster) Delete(ctx context.Context, object objects.Ref, run string) error {
	return s.deleting.do(ctx, object.Kind == objects.KindVirtualService, func() error { return s.Cluster.Delete(ctx, object, run) })
}
