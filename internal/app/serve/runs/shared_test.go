package runs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner/runnertest"
)

// busyCluster takes a second for each answer, and keeps when it was asked. Any other
// call is unexpected.
type busyCluster struct {
	runnertest.Unexpected

	mu          sync.Mutex
	began       []time.Time // of the reads
	permissions []string
	asked, most int
	err         error
}

func (m *busyCluster) Snapshot(context.Context) (config.Snapshot, error) {
	m.mu.Lock()
	m.began = append(m.began, time.Now())
	m.mu.Unlock()
	time.Sleep(time.Second)
	return config.Snapshot{APIVersion: time.Now().String()}, m.err
}

func (m *busyCluster) Check(context.Context, *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	m.mu.Lock()
	m.asked++
	m.most = max(m.most, m.asked)
	m.mu.Unlock()
	time.Sleep(time.Second)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked--
	return nil, m.err
}

func (m *busyCluster) Permitted(_ context.Context, namespace string, kinds []string) error {
	m.mu.Lock()
	m.permissions = append(m.permissions, namespace+" "+strings.Join(kinds, " "))
	m.mu.Unlock()
	time.Sleep(time.Second)
	return m.err
}

// Runs that start together share the answers about permissions, each for its namespace
// and kinds.
func TestPermissionsAreShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		busy := &busyCluster{Unexpected: runnertest.Unexpected{T: t}, err: errors.New("no")}
		shared := share(busy)
		var all sync.WaitGroup
		for i := range 200 {
			all.Go(func() {
				if err := shared.Permitted(t.Context(), []string{"shop", "cart"}[i%2], []string{"Job"}); !errors.Is(err, busy.err) {
					t.Errorf("%v instead of %v", err, busy.err)
				}
			})
		}
		all.Wait()
		slices.Sort(busy.permissions)
		// The first question of each may have been sent before the others asked.
		if asked := slices.Compact(slices.Clone(busy.permissions)); len(busy.permissions) > 4 || !slices.Equal(asked, []string{"cart Job", "shop Job"}) {
			t.Errorf("asked %q", busy.permissions)
		}
	})
}

func TestSnapshotsAreShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		busy := &busyCluster{Unexpected: runnertest.Unexpected{T: t}}
		shared := share(busy)
		var all sync.WaitGroup
		for i := range 200 {
			all.Go(func() {
				time.Sleep(time.Duration(i) * 10 * time.Millisecond) // for 2 s in all
				asked := time.Now()
				snapshot, err := shared.Snapshot(t.Context())
				if err != nil {
					t.Error(err)
				}
				if waited := time.Since(asked); waited < time.Second || waited > 2*time.Second {
					t.Errorf("an answer %s after the question, and a read takes a second", waited)
				}
				if snapshot.APIVersion != time.Now().String() {
					t.Error("not the snapshot of the last read")
				}
			})
		}
		all.Wait()
		if len(busy.began) != 3 {
			t.Errorf("%d reads", len(busy.began))
		}
	})
}

// A caller that stops waiting does not end the read for those that still wait.
func TestSharedSnapshotOutlivesItsFirstCaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shared := share(&busyCluster{Unexpected: runnertest.Unexpected{T: t}})
		ctx, cancel := context.WithCancelCause(t.Context())
		leave := errors.New("enough")
		var all sync.WaitGroup
		for range 2 { // one of them waits for the second read
			all.Go(func() {
				if _, err := shared.Snapshot(ctx); !errors.Is(err, leave) {
					t.Errorf("%v instead of %v", err, leave)
				}
			})
		}
		synctest.Wait()
		all.Go(func() {
			if _, err := shared.Snapshot(t.Context()); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		cancel(leave)
		all.Wait()
	})
}

func TestSharedSnapshotFailsForAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		busy := &busyCluster{Unexpected: runnertest.Unexpected{T: t}, err: errors.New("no")}
		shared := share(busy)
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				if _, err := shared.Snapshot(t.Context()); !errors.Is(err, busy.err) {
					t.Errorf("%v instead of %v", err, busy.err)
				}
			})
		}
		all.Wait()
	})
}

func TestChecksTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		busy := &busyCluster{Unexpected: runnertest.Unexpected{T: t}}
		shared := share(busy)
		var all sync.WaitGroup
		for range 3 * maxTurns {
			all.Go(func() {
				if _, err := shared.Check(t.Context(), nil); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		ctx, cancel := context.WithCancelCause(t.Context())
		leave := errors.New("enough")
		cancel(leave)
		if _, err := shared.Check(ctx, nil); !errors.Is(err, leave) {
			t.Errorf("%v instead of %v", err, leave)
		}
		all.Wait()
		if busy.most != maxTurns {
			t.Errorf("%d at a time instead of %d", busy.most, maxTurns)
		}
	})
}

// deletions takes a second for each deletion, and keeps their order.
type deletions struct {
	runnertest.Unexpected

	mu      sync.Mutex
	kinds   []string
	now, at int
}

func (d *deletions) Delete(_ context.Context, ref objects.Ref, _ string) error {
	d.mu.Lock()
	d.kinds = append(d.kinds, ref.Kind)
	d.now++
	d.at = max(d.at, d.now)
	d.mu.Unlock()
	time.Sleep(time.Second)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now--
	return nil
}

// All runs that roll back at the same moment delete their VirtualServices first, a few
// at a time.
func TestFaultsAreDeletedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster := &deletions{Unexpected: runnertest.Unexpected{T: t}}
		shared := share(cluster)
		var all sync.WaitGroup
		for i := range 200 {
			all.Go(func() {
				for _, kind := range []string{objects.KindVirtualService, objects.KindServiceEntry, objects.KindJob} {
					if err := shared.Delete(t.Context(), objects.Ref{Kind: kind, Name: fmt.Sprint(i)}, "run"); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		if cluster.at != maxDeletions {
			t.Errorf("%d deletions at a time", cluster.at)
		}
		last := 0
		for i, kind := range cluster.kinds {
			if kind == objects.KindVirtualService {
				last = i
			}
		}
		// Only deletions that were under way when the last ones came may be before them.
		if early := last + 1 - 200; early > maxDeletions {
			t.Errorf("%d other deletions were before the last VirtualService", early)
		}
	})
}

func TestATurnThatIsNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns(1)
		held, release := make(chan struct{}), make(chan struct{})
		go func() { _ = turns.do(t.Context(), false, func() error { close(held); <-release; return nil }) }()
		<-held
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := turns.do(ctx, true, func() error { t.Error("called without a turn"); return nil }); err == nil {
			t.Error("no error")
		}
		close(release)
		if err := turns.do(t.Context(), false, func() error { return nil }); err != nil {
			t.Error(err)
		}
	})
}
