package leadership

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestFile(t *testing.T) {
	out := t.TempDir()
	store := NewFile(filepath.Join(out, "deep", "starts.json"))
	at := time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC)
	state, err := store.Load(t.Context())
	if diff := cmp.Diff(State{}, state); diff != "" || err != nil {
		t.Errorf("%s %v", diff, err)
	}
	want := State{Starts: map[string]time.Time{"x": at}, Paused: "me", Leader: "a"}
	if _, err := store.Change(t.Context(), func(s *State) { *s = want }); err != nil {
		t.Fatal(err)
	}
	state, err = NewFile(store.path).Load(t.Context())
	if diff := cmp.Diff(want, state); diff != "" || err != nil {
		t.Errorf("%s %v", diff, err)
	}
	// A full disk does not damage the file.
	must(t, os.Symlink("/dev/full", store.path+".new"))
	if _, err := store.Change(t.Context(), func(s *State) { s.Paused = "" }); err == nil {
		t.Error("a full disk is no error")
	}
	state, err = store.Load(t.Context())
	if diff := cmp.Diff(want, state); diff != "" || err != nil {
		t.Errorf("%s %v", diff, err)
	}
	// A broken file does not count as empty, and is not overwritten.
	must(t, os.WriteFile(store.path, []byte("{"), 0o600))
	if _, err := store.Load(t.Context()); err == nil {
		t.Error("a broken state is no error")
	}
	if _, err := store.Change(t.Context(), func(*State) { t.Error("a broken state was changed") }); err == nil {
		t.Error("a broken state is no error")
	}
}

// brokenText is a Text that does not hold a state.
type brokenText struct{}

func (brokenText) Read(context.Context) (string, error) { return "{", nil }

func (brokenText) Change(_ context.Context, change func(string) (string, error)) error {
	_, err := change("{")
	return err
}

func TestBrokenText(t *testing.T) {
	store := TextStore{Text: brokenText{}}
	if _, err := store.Load(t.Context()); err == nil {
		t.Error("a broken state is no error")
	}
	if _, err := store.Change(t.Context(), func(*State) { t.Error("a broken state was changed") }); err == nil {
		t.Error("a broken state is no error")
	}
}

// The state keeps the starts of known and of recent experiments, and no time goes
// back.
func TestStateForgets(t *testing.T) {
	now := time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC)
	day := func(n int) time.Time { return now.AddDate(0, 0, -n) }
	state := State{Starts: map[string]time.Time{"known": day(30), "gone": day(8), "lately": day(6), "back": day(1)}}
	state.store(map[string]time.Time{"back": day(2), "new": day(0)}, map[string]bool{"known": true}, now)
	want := map[string]time.Time{"known": day(30), "lately": day(6), "back": day(1), "new": day(0)}
	if diff := cmp.Diff(want, state.Starts); diff != "" {
		t.Error(diff)
	}
}
