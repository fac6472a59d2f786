package serve

import (
	"context"
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/runner"
)

// sharing is a mesh that many runs ask at the same moment, as when a schedule
// starts them together. One read of the configuration at a time serves all who
// have asked before it began, so that nobody is given what is older than the
// question; it must not be changed. What else a run asks before it begins is asked
// for a few at a time: HTTP/2 opens a connection for each request that finds no
// free stream.
type sharing struct {
	runner.Cluster

	asking  chan struct{}
	mu      sync.Mutex
	next    *reading // it has not begun
	reading bool
}

// asked is for how many runs the cluster is asked at a time.
const asked = 4

func newSharing(shared runner.Cluster) *sharing {
	return &sharing{Cluster: shared, asking: make(chan struct{}, asked)}
}

// Permitted implements runner.Mesh.
func (s *sharing) Permitted(ctx context.Context, namespace string, kinds []string) error {
	return s.inTurn(ctx, func() error { return s.Cluster.Permitted(ctx, namespace, kinds) })
}

// Check implements runner.Mesh.
func (s *sharing) Check(ctx context.Context, object *unstructured.Unstructured) error {
	return s.inTurn(ctx, func() error { return s.Cluster.Check(ctx, object) })
}

func (s *sharing) inTurn(ctx context.Context, ask func() error) error {
	select {
	case s.asking <- struct{}{}:
		defer func() { <-s.asking }()
		return ask()
	case <-ctx.Done():
		return fmt.Errorf("waiting for a turn to ask the cluster: %w", context.Cause(ctx))
	}
}

// reading is one read of the configuration. It ends when nobody waits for it any
// more.
type reading struct {
	ctx      context.Context //nolint:containedctx // it is nobody's own
	stop     context.CancelFunc
	waiting  int
	done     chan struct{}
	snapshot mesh.Snapshot
	err      error
}

// Snapshot implements runner.Mesh.
func (s *sharing) Snapshot(ctx context.Context) (mesh.Snapshot, error) {
	mine := s.join(ctx)
	defer s.leave(mine)
	select {
	case <-mine.done:
		return mine.snapshot, mine.err
	case <-ctx.Done():
		return mesh.Snapshot{}, fmt.Errorf("waiting for the mesh configuration: %w", context.Cause(ctx))
	}
}

// join gives the next read, and has it made if nobody else does.
func (s *sharing) join(ctx context.Context) *reading {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next == nil {
		s.next = &reading{done: make(chan struct{})}
		s.next.ctx, s.next.stop = context.WithCancel(context.WithoutCancel(ctx))
	}
	mine := s.next
	mine.waiting++
	if !s.reading {
		s.reading = true
		go s.read()
	}
	return mine
}

// leave ends a read that nobody waits for.
func (s *sharing) leave(r *reading) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.waiting--; r.waiting > 0 {
		return
	}
	r.stop()
	if s.next == r {
		s.next = nil
	}
}

// read makes reads until nobody waits for one.
func (s *sharing) read() {
	for r := s.take(); r != nil; r = s.take() {
		r.snapshot, r.err = s.Cluster.Snapshot(r.ctx)
		close(r.done)
	}
}

func (s *sharing) take() *reading {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.next
	s.next, s.reading = nil, r != nil
	return r
}
