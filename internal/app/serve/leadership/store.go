package leadership

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/squall-chaos/squall/internal/clock"
)

// State is what outlives a process.
type State struct {
	// Starts holds, for each experiment, the nominal time of the last start by
	// schedule that was handled: made or skipped.
	Starts map[string]time.Time `json:"starts,omitempty"`
	// Paused is who has paused all schedules; empty when they go on.
	Paused string `json:"paused,omitempty"`
	// Hold is the last hold on all runs that has paused the schedules. Each pauses them
	// once, so that a user can let them go on.
	Hold string `json:"hold,omitempty"`
	// Leader is the process that may store starts. A process that takes over
	// writes its identity here first, so that a former leader that was suspended
	// starts nothing when it goes on.
	Leader string `json:"leader,omitempty"`
}

// forgetAfter is how long the starts of an experiment that is gone are stored.
const forgetAfter = 7 * 24 * time.Hour

// store stores handled starts, and removes the starts of experiments that are
// gone: a Lease holds a limited number.
func (s *State) store(starts map[string]time.Time, known map[string]bool, now time.Time) {
	if s.Starts == nil {
		s.Starts = map[string]time.Time{}
	}
	for name, nominal := range starts {
		if nominal.After(s.Starts[name]) || clock.IsAhead(s.Starts[name], now) {
			s.Starts[name] = nominal
		}
	}
	maps.DeleteFunc(s.Starts, func(name string, last time.Time) bool { return !known[name] && now.Sub(last).Abs() > forgetAfter })
}

// Store stores the state.
type Store interface {
	Load(ctx context.Context) (State, error)
	// Change applies a change to what is stored, and returns the result. It may
	// call change more than once, when another process changes the state as well.
	Change(ctx context.Context, change func(*State)) (State, error)
}

// Text is a text that several processes read and change.
type Text interface {
	Read(ctx context.Context) (string, error)
	// Change may call change more than once, as Store.Change does.
	Change(ctx context.Context, change func(string) (string, error)) error
}

// TextStore stores the state as JSON in a Text: for replicas.
type TextStore struct {
	Text Text
	// Name is the name of the Text in errors.
	Name string
}

var _ Store = TextStore{}

// Load implements Store.
func (t TextStore) Load(ctx context.Context) (State, error) {
	text, err := t.Text.Read(ctx)
	if err != nil {
		return State{}, err
	}
	return decode(t.Name, text)
}

// Change implements Store.
func (t TextStore) Change(ctx context.Context, change func(*State)) (state State, err error) {
	err = t.Text.Change(ctx, func(text string) (string, error) {
		if state, err = decode(t.Name, text); err != nil {
			return "", err
		}
		change(&state)
		encoded, err := json.Marshal(state)
		return string(encoded), err
	})
	return state, err
}

// BrokenError is the error for a stored state that cannot be interpreted. It stays
// until the place is repaired or removed.
type BrokenError struct {
	// Place is the file or the Lease.
	Place string
	Cause error
}

// Error implements error.
func (b *BrokenError) Error() string {
	return fmt.Sprintf("%s does not hold the state of the schedules: %v", b.Place, b.Cause)
}

// Unwrap returns the cause.
func (b *BrokenError) Unwrap() error { return b.Cause }

func decode(place, text string) (state State, err error) {
	if text == "" {
		return state, nil
	}
	if err := json.Unmarshal([]byte(text), &state); err != nil {
		return state, &BrokenError{Place: place, Cause: err}
	}
	return state, nil
}

// File stores the state in a file: for a process without replicas.
type File struct {
	path string
	mu   sync.Mutex
}

var _ Store = (*File)(nil)

// NewFile returns the store in the file at path, which need not exist.
func NewFile(path string) *File { return &File{path: path} }

// Load implements Store. The state is empty when there is no file.
func (f *File) Load(context.Context) (State, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.load()
}

func (f *File) load() (State, error) {
	content, err := os.ReadFile(f.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return State{}, fmt.Errorf("state of the schedules: %w", err)
	}
	return decode(f.path, string(content))
}

// Change implements Store. It replaces the file as a whole: after a crash it is
// the old one or the new one.
func (f *File) Change(_ context.Context, change func(*State)) (State, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	state, err := f.load()
	if err != nil {
		return state, err
	}
	change(&state)
	content, err := json.Marshal(state)
	if err == nil {
		err = replace(f.path, content)
	}
	if err != nil {
		return state, fmt.Errorf("state of the schedules: %w", err)
	}
	return state, nil
}

// replace writes a new file, syncs it to disk, and renames it to name.
func replace(name string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o750); err != nil {
		return err
	}
	file, err := os.Create(name + ".new") //nolint:gosec // the user names the directory
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}
