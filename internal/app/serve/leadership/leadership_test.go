package leadership

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// oneStore takes a moment for a change, and refuses a second one meanwhile, as
// the API server does with a conflict.
type oneStore struct {
	mu      sync.Mutex
	state   State
	busy    bool
	changes int
}

func (o *oneStore) Load(context.Context) (State, error) { return State{}, errors.New("not expected") }

func (o *oneStore) Change(_ context.Context, change func(*State)) (State, error) {
	o.mu.Lock()
	if o.busy {
		o.mu.Unlock()
		return State{}, errors.New("conflict")
	}
	o.busy = true
	o.changes++
	o.mu.Unlock()
	time.Sleep(50 * time.Millisecond)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.busy = false
	change(&o.state)
	return o.state, nil
}

func newLeadership(store Store) *Leadership {
	return New(Config{Store: store, Paused: func(string) {}, Log: slog.New(slog.DiscardHandler)})
}

// Many starts at the same moment are stored together: replicas keep the state in
// one object, and most of many separate writes would be refused as conflicts.
func TestStartsAreStoredTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &oneStore{}
		l := newLeadership(store)
		nominal := time.Now()
		var all sync.WaitGroup
		for i := range 200 {
			all.Go(func() {
				if err := l.StoreHandled(t.Context(), fmt.Sprint(i), nominal); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		// The first may be alone; all others wait for it.
		if store.changes > 2 || len(store.state.Starts) != 200 || len(l.storing) != 0 {
			t.Errorf("%d changes for %d starts, %d not stored", store.changes, len(store.state.Starts), len(l.storing))
		}
	})
}

// A run that must end does not wait for a store that does not answer.
func TestStoringEndsWithTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &oneStore{}
		l := newLeadership(store)
		l.saving <- struct{}{} // another call waits for the store
		running, stop := context.WithCancelCause(t.Context())
		enough := errors.New("enough")
		time.AfterFunc(time.Second, func() { stop(enough) })
		began := time.Now()
		if err := l.StoreHandled(running, "outage", began); !errors.Is(err, enough) || time.Since(began) != time.Second || len(l.storing) != 0 || store.changes != 0 {
			t.Errorf("error %v after %s, %d still to be stored, %d changes", err, time.Since(began), len(l.storing), store.changes)
		}
	})
}
