package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/squall-chaos/squall/experiments"
)

// oneStore takes a moment for a change, and refuses a second one meanwhile, as
// the API server does with a conflict.
type oneStore struct {
	mu      sync.Mutex
	state   State
	busy    bool
	changes int
}

func (o *oneStore) Load(context.Context) (State, error) { return State{}, errors.New("nobody loads") }

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

// Many runs that start at the same moment are noted together: replicas keep what
// was started in one object, and one conflict after the other would refuse most.
func TestStartsAreNotedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &oneStore{}
		s := &Server{Config: Config{Store: store, Log: slog.New(slog.DiscardHandler)}, unsaved: map[string]time.Time{}, noting: map[string]time.Time{}, saving: make(chan struct{}, 1)}
		nominal := time.Now()
		var all sync.WaitGroup
		for i := range 200 {
			all.Go(func() {
				live := &liveRun{experiment: experiments.Experiment{Metadata: experiments.Metadata{Name: fmt.Sprint(i)}}, nominal: nominal, running: t.Context()}
				if err := s.noteStart(live); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		// The first may go alone; all others wait for it.
		if store.changes > 2 || len(store.state.Starts) != 200 || len(s.noting) != 0 {
			t.Errorf("%d changes for %d starts, %d not noted", store.changes, len(store.state.Starts), len(s.noting))
		}
	})
}

// A run that is told to end does not wait for a store that does not answer.
func TestNotingEndsWithTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &oneStore{}
		s := &Server{Config: Config{Store: store, Log: slog.New(slog.DiscardHandler)}, unsaved: map[string]time.Time{}, noting: map[string]time.Time{}, saving: make(chan struct{}, 1)}
		s.saving <- struct{}{} // somebody else waits for the store
		running, stop := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { stop(errReplaced) })
		began := time.Now()
		live := &liveRun{experiment: experiments.Experiment{Metadata: experiments.Metadata{Name: "outage"}}, nominal: began, running: running}
		if err := s.noteStart(live); !errors.Is(err, errReplaced) || time.Since(began) != time.Second || len(s.noting) != 0 || store.changes != 0 {
			t.Errorf("error %v after %s, %d still to be noted, %d changes", err, time.Since(began), len(s.noting), store.changes)
		}
	})
}
