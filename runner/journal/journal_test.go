package journal_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/runner/journal"
)

func write(t *testing.T, directory string, types ...string) {
	t.Helper()
	w, err := journal.Create(directory)
	if err != nil {
		t.Fatal(err)
	}
	for i, eventType := range types {
		line, err := journal.NewLine(time.Date(2026, 1, 2, 3, 4, 5, i*1_000_000+999, time.FixedZone("", 3600)), eventType, map[string]int{"n": i})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Append(line); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "a", "run")
	write(t, directory, "started", "finished")
	content, err := os.ReadFile(filepath.Join(directory, journal.FileName))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"schema":1,"time":"2026-01-02T02:04:05Z","type":"started","data":{"n":0}}
{"time":"2026-01-02T02:04:05.001Z","type":"finished","data":{"n":1}}
`
	if diff := cmp.Diff(want, string(content)); diff != "" {
		t.Error(diff)
	}
	lines, err := journal.Read(strings.NewReader(want))
	if err != nil || len(lines) != 2 || lines[1].Type != "finished" || string(lines[1].Data) != `{"n":1}` {
		t.Errorf("lines %+v, error %v", lines, err)
	}
	cut, err := journal.Read(strings.NewReader(want[:len(want)-10]))
	if err != nil || len(cut) != 1 {
		t.Errorf("of a journal cut short %d lines are read, error %v", len(cut), err)
	}
}

func TestARunNeverWritesIntoAnothersRecord(t *testing.T) {
	directory := t.TempDir()
	write(t, directory, "started")
	if _, err := journal.Create(directory); err == nil {
		t.Error("a second journal was made in the same directory")
	}
}

func TestReadRefuses(t *testing.T) {
	for _, test := range []struct{ name, content, want string }{
		{"nothing", "", "no event"},
		{"a newer schema", `{"schema":2,"type":"started"}`, "schema 2"},
		{"no schema", `{"type":"started"}`, "the beginning is missing"},
		{"junk in the middle", "{\"schema\":1}\njunk\n{}\n", "line 2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := journal.Read(strings.NewReader(test.content)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v", err)
			}
		})
	}
}
