package runs

import (
	"context"
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/runner"
)

// sharedCluster is a cluster for many runs that start at the same moment. A read of the
// configuration serves all runs that have asked for one before it began, so no
// run gets a snapshot that is older than its call; they must not change it. The
// other questions of a preflight are sent a few at a time: with HTTP/2 a client
// opens one more connection whenever no stream is free.
type sharedCluster struct {
	runner.Cluster

	turns   chan struct{}
	mu      sync.Mutex
	next    *snapshotRead // not begun
	reading bool
}

// maxTurns is the maximum number of questions of preflights at a time.
const maxTurns = 4

func share(c runner.Cluster) *sharedCluster {
	return &sharedCluster{Cluster: c, turns: make(chan struct{}, maxTurns)}
}

// Permitted implements runner.Cluster.
func (s *sharedCluster) Permitted(ctx context.Context, namespace string, kinds []string) error {
	return s.inTurn(ctx, func() error { return s.Cluster.Permitted(ctx, namespace, kinds) })
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

// snapshotRead is one read of the configuration. It is canceled when no run waits
// for it any more.
type snapshotRead struct {
	ctx      context.Context //nolint:containedctx // it outlives the call that begins it
	cancel   context.CancelFunc
	waiting  int
	done     chan struct{}
	snapshot config.Snapshot
	err      error
}

// Snapshot implements runner.Cluster.
func (s *sharedCluster) Snapshot(ctx context.Context) (config.Snapshot, error) {
	read := s.join(ctx)
	defer s.leave(read)
	select {
	case <-read.done:
		return read.snapshot, read.err
	case <-ctx.Done():
		return config.Snapshot{}, fmt.Errorf("waiting for the mesh configuration: %w", context.Cause(ctx))
	}
}

// join returns the next read, and starts it unless another one is under way.
func (s *sharedCluster) join(ctx context.Context) *snapshotRead {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next == nil {
		s.next = &snapshotRead{done: make(chan struct{})}
		s.next.ctx, s.next.cancel = context.WithCancel(context.WithoutCancel(ctx))
	}
	read := s.next
	read.waiting++
	if !s.reading {
		s.reading = true
		go s.readAll()
	}
	return read
}

// leave cancels a read when no other run waits for it.
func (s *sharedCluster) leave(read *snapshotRead) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if read.waiting--; read.waiting > 0 {
		return
	}
	read.cancel()
	if s.next == read {
		s.next = nil
	}
}

// readAll reads until no run waits for a read that has not begun.
func (s *sharedCluster) readAll() {
	for read := s.take(); read != nil; read = s.take() {
		read.snapshot, read.err = s.Cluster.Snapshot(read.ctx)
		close(read.done)
	}
}

func (s *sharedCluster) take() *snapshotRead {
	s.mu.Lock()
	defer s.mu.Unlock()
	read := s.next
	s.next, s.reading = nil, read != nil
	return read
}
