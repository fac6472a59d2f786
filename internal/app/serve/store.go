package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// State is what outlives a process.
type State struct {
	// Starts holds, for each experiment, the nominal time of the last start by
	// schedule that was dealt with.
	Starts map[string]time.Time `json:"starts,omitempty"`
	// Paused is who has paused all schedules; empty when nobody has.
	Paused string `json:"paused,omitempty"`
	// Leader is the process that may note starts. Whoever takes over writes its
	// name here first, so that a leader that has slept through its own end
	// starts nothing.
	Leader string `json:"leader,omitempty"`
}

// Store keeps the state.
type Store interface {
	Load(ctx context.Context) (State, error)
	// Change applies a change to what is stored, again when somebody else has
	// changed it meanwhile, and gives the result.
	Change(ctx context.Context, change func(*State)) (State, error)
}

// Note is a text that the cluster keeps.
type Note interface {
	Read(ctx context.Context) (string, error)
	// Change changes what is stored, again when somebody else has changed it
	// meanwhile.
	Change(ctx context.Context, change func(string) (string, error)) error
}

// NotedState keeps the state in a note: for replicas.
type NotedState struct{ Note }

var _ Store = NotedState{}

// Load implements Store.
func (n NotedState) Load(ctx context.Context) (State, error) {
	text, err := n.Read(ctx)
	if err != nil {
		return State{}, err
	}
	return decodeState(text)
}

// Change implements Store.
func (n NotedState) Change(ctx context.Context, change func(*State)) (state State, err error) {
	err = n.Note.Change(ctx, func(text string) (string, error) {
		if state, err = decodeState(text); err != nil {
			return "", err
		}
		change(&state)
		encoded, err := json.Marshal(state)
		return string(encoded), err
	})
	return state, err
}

func decodeState(text string) (state State, err error) {
	if text == "" {
		return state, nil
	}
	if err := json.Unmarshal([]byte(text), &state); err != nil {
		return state, fmt.Errorf("state of the schedules: %w", err)
	}
	return state, nil
}

// StateFile keeps the state in a file: for one process that is nobody's replica.
type StateFile struct {
	Path string
	mu   sync.Mutex
}

var _ Store = (*StateFile)(nil)

// Load implements Store.
func (s *StateFile) Load(context.Context) (State, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.load()
}

func (s *StateFile) load() (State, error) {
	content, err := os.ReadFile(s.Path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return State{}, fmt.Errorf("state of the schedules: %w", err)
	}
	return decodeState(string(content))
}

// Change implements Store. The file is replaced as a whole, so that a crash
// leaves the old one or the new one.
func (s *StateFile) Change(_ context.Context, change func(*State)) (State, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	state, err := s.load()
	if err != nil {
		return state, err
	}
	change(&state)
	content, err := json.Marshal(state)
	if err == nil {
		err = replace(s.Path, content)
	}
	if err != nil {
		return state, fmt.Errorf("state of the schedules: %w", err)
	}
	return state, nil
}

func replace(name string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o750); err != nil {
		return err
	}
	if err := writeFile(name+".new", func(w io.Writer) error { _, err := w.Write(content); return err }); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}

// writeFile writes a file and syncs it to disk.
func writeFile(name string, write func(io.Writer) error) (err error) {
	file, err := os.Create(name) //nolint:gosec // the folder is the user's choice
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := write(file); err != nil {
		return err
	}
	return file.Sync()
}
