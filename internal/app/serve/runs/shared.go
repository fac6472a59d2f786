package runs

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/runner"
)

// sharedCluster is a cluster for many runs that start at the same moment. They share
// the configuration and the answers about permissions. The other questions of a
// preflight are sent a few at a time: with HTTP/2 a client opens one more connection
// whenever no stream is free.
type sharedCluster struct {
	runner.Cluster

	turns    chan struct{}
	snapshot *joined[config.Snapshot]

	mu        sync.Mutex
	permitted map[string]*joined[struct{}] // by what is asked
}

// maxTurns is the maximum number of questions of preflights at a time.
const maxTurns = 4

func share(c runner.Cluster) *sharedCluster {
	s := &sharedCluster{Cluster: c, turns: make(chan struct{}, maxTurns), permitted: map[string]*joined[struct{}]{}}
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
			return none, s.inTurn(ctx, func() error { return s.Cluster.Permitted(ctx, namespace, kinds) })
		}}
	}
	return s.permitted[key]
}

// Check implements runner.Cluster.
func (s *sharedCluster) Check(ctx context.Context, object *unstructured.Unstructured) (checked *unstructured.Unstructured, err error) {
	err = s.inTurn(ctx, func() (err error) {
		checked, err = s.Cluster.Check(ctx, object)
		return err
	})
	return checked, err
}

func (s *sharedCluster) inTurn(ctx context.Context, call func() error) error {
	select {
	case s.turns <- struct{}{}:
		defer func() { <-s.turns }()
		return call()
	case <-ctx.Done():
		return fmt.Errorf("waiting for a turn to ask the cluster: %w", context.Cause(ctx))
	}
}
