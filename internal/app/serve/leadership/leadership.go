// Package leadership keeps the state that replicas share: who leads, who has
// paused the schedules, and which starts were handled. A start is handled when
// it was made or skipped; it is not made again, by any replica.
package leadership

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/squall-chaos/squall/internal/clock"
	"github.com/squall-chaos/squall/internal/sleep"
)

// Timeout bounds one call to the store.
const Timeout = 5 * time.Second

// retryEvery is the pause between two attempts to take over.
const retryEvery = time.Second

// ErrNotLeading is why a replica that does not lead starts nothing.
var ErrNotLeading = errors.New("another replica leads")

// ErrTakingOver is why a replica that is to lead starts nothing yet.
var ErrTakingOver = errors.New("this replica has not taken over the state of the schedules")

// errDeposed is why a replica can store nothing when it has not noticed yet that
// another one leads.
var errDeposed = errors.New("another process has taken over")

// Config has the parts of a Leadership.
type Config struct {
	Store Store
	// Identity is the name of this process, unique among all replicas, with
	// @ADDRESS at its end if others reach it there.
	Identity string
	// Paused is called with who has paused the schedules, each time the state is
	// read; empty when they go on. The calls are in the order of the reads.
	Paused func(by string)
	Log    *slog.Logger
}

// Leadership is one replica's view of the state. It is safe for concurrent use.
type Leadership struct {
	config Config

	// reading is full while the state is read and Paused is called, so that what
	// was read before a pause does not undo it.
	reading chan struct{}
	// saving is full while handled starts are stored.
	saving chan struct{}

	mu     sync.Mutex
	leader string
	// trouble is why this process cannot take over the state, or nil.
	trouble error
	// hold is the last hold that is stored.
	hold string
	// handled are starts to be stored. They are handled in any case.
	handled map[string]time.Time
	// storing are starts that count as handled once they are stored, by calls of
	// StoreHandled that are under way.
	storing map[string]time.Time
	// experiments are the names of those that are loaded.
	experiments map[string]bool
}

// New returns a Leadership that has not read the state yet.
func New(config Config) *Leadership {
	return &Leadership{
		config: config, reading: make(chan struct{}, 1), saving: make(chan struct{}, 1),
		handled: map[string]time.Time{}, storing: map[string]time.Time{},
	}
}

// Observe sets the identity of the process that leads; empty when none does.
func (l *Leadership) Observe(leader string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leader = leader
}

// Leader returns the identity of the process that leads, as observed last; empty
// when none does.
func (l *Leadership) Leader() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leader
}

// Elsewhere returns the leader and its address if it is another process. The
// address is empty if it has none.
func (l *Leadership) Elsewhere() (leader, address string) {
	leader = l.Leader()
	if leader == l.config.Identity {
		return "", ""
	}
	_, address, _ = strings.Cut(leader, "@")
	return leader, address
}

// Trouble returns why this process cannot take over the state, or nil: the last
// attempt has failed, or the state cannot be interpreted.
func (l *Leadership) Trouble() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.trouble
}

func (l *Leadership) setTrouble(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trouble = err
}

// SetExperiments sets the names of the experiments that are loaded. The starts of
// others are removed from the store after a week.
func (l *Leadership) SetExperiments(names []string) {
	experiments := make(map[string]bool, len(names))
	for _, name := range names {
		experiments[name] = true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.experiments = experiments
}

// Claim makes this process the one that may store starts, and returns the starts
// that were handled so far. It tries until ctx ends: without the state a start
// could be made twice. The error is the cause of its end.
func (l *Leadership) Claim(ctx context.Context) (map[string]time.Time, error) {
	for {
		state, err := l.change(ctx, func(state *State) { state.Leader = l.config.Identity })
		if err == nil {
			return l.merged(state), nil
		}
		if l.Trouble() == nil || l.Trouble().Error() != err.Error() {
			l.config.Log.Error("cannot take over the state of the schedules; trying again", "error", err)
		}
		l.setTrouble(err)
		if !sleep.For(ctx, retryEvery) {
			return nil, context.Cause(ctx)
		}
	}
}

// merged returns the starts of a state, and those that are to be stored.
func (l *Leadership) merged(state State) map[string]time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	starts := make(map[string]time.Time, len(state.Starts))
	maps.Copy(starts, state.Starts)
	for name, nominal := range l.handled {
		if nominal.After(starts[name]) {
			starts[name] = nominal
		}
	}
	return starts
}

// Handled marks a start as handled. Save stores it.
func (l *Leadership) Handled(experiment string, nominal time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if last := l.handled[experiment]; nominal.After(last) || clock.IsAhead(last, nominal) {
		l.handled[experiment] = nominal
	}
}

// StoreHandled stores a start as handled. After an error the start is not handled:
// the next leader may make it.
func (l *Leadership) StoreHandled(ctx context.Context, experiment string, nominal time.Time) error {
	l.mu.Lock()
	l.storing[experiment] = nominal
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.storing[experiment].Equal(nominal) {
			delete(l.storing, experiment)
		}
	}()
	return l.Save(ctx)
}

// Save stores all starts that are not stored yet. Those marked by Handled stay
// for the next call after an error.
func (l *Leadership) Save(ctx context.Context) error {
	// One call at a time: replicas keep the state in one object, where two
	// writes at a time are a conflict. A call that has waited here stores the
	// starts of all others that wait.
	select {
	case l.saving <- struct{}{}:
		defer func() { <-l.saving }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	starts, experiments := l.unsaved()
	if len(starts) == 0 {
		return nil
	}
	if err := l.save(ctx, starts, experiments); err != nil {
		l.config.Log.Error("cannot store which starts were handled", "error", err)
		return err
	}
	l.saved(starts)
	return nil
}

// unsaved returns the starts that are not stored yet, and the experiments that
// are loaded.
func (l *Leadership) unsaved() (starts map[string]time.Time, experiments map[string]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	starts = maps.Clone(l.handled)
	for name, nominal := range l.storing {
		if nominal.After(starts[name]) {
			starts[name] = nominal
		}
	}
	return starts, l.experiments
}

// save writes starts to the store, unless another process has claimed it.
func (l *Leadership) save(ctx context.Context, starts map[string]time.Time, experiments map[string]bool) error {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	deposed := false
	_, err := l.config.Store.Change(ctx, func(state *State) {
		if deposed = state.Leader != l.config.Identity; !deposed {
			state.store(starts, experiments, time.Now())
		}
	})
	if err == nil && deposed {
		err = errDeposed
	}
	return err
}

// saved removes starts that are stored now.
func (l *Leadership) saved(starts map[string]time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, nominal := range starts {
		for _, list := range []map[string]time.Time{l.handled, l.storing} {
			if !list[name].After(nominal) {
				delete(list, name)
			}
		}
	}
}

// Refresh reads the state: another replica may have been asked to pause.
func (l *Leadership) Refresh(ctx context.Context) error {
	_, err := l.read(ctx, l.config.Store.Load)
	return err
}

// Pause pauses all starts by schedule in every replica, on behalf of by; empty
// lets them go on.
func (l *Leadership) Pause(ctx context.Context, by string) error {
	_, err := l.change(ctx, func(state *State) { state.Paused = by })
	return err
}

// Held pauses all starts by schedule on behalf of by, but only once for each hold.
func (l *Leadership) Held(ctx context.Context, hold, by string) error {
	l.mu.Lock()
	known := l.hold == hold
	l.mu.Unlock()
	if known {
		return nil
	}
	_, err := l.change(ctx, func(state *State) {
		if state.Hold != hold {
			state.Hold, state.Paused = hold, by
		}
	})
	if err == nil {
		l.mu.Lock()
		l.hold = hold
		l.mu.Unlock()
	}
	return err
}

// change changes the state.
func (l *Leadership) change(ctx context.Context, change func(*State)) (State, error) {
	return l.read(ctx, func(ctx context.Context) (State, error) { return l.config.Store.Change(ctx, change) })
}

// read gets the state from the store and calls Paused.
func (l *Leadership) read(ctx context.Context, get func(context.Context) (State, error)) (State, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	select {
	case l.reading <- struct{}{}:
	case <-ctx.Done():
		return State{}, ctx.Err()
	}
	defer func() { <-l.reading }()
	state, err := get(ctx)
	if _, broken := errors.AsType[*BrokenError](err); broken || err == nil {
		l.setTrouble(err)
	}
	if err == nil {
		l.config.Paused(state.Paused)
	}
	return state, err
}
