// Package journal is the append-only record of one run: one JSON object per
// line, written and synced as things happen. What is about to be done stands
// in it before it is done, so that a journal cut short by a crash still says
// what may exist.
//
// The package knows nothing of the events' contents; package runner does.
package journal

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Schema is the version of the format that Create writes.
const Schema = 1

// FileName is the name of the journal in a run's folder.
const FileName = "journal.jsonl"

// Event is one line of a journal.
type Event struct {
	// Schema stands on the first line only.
	Schema int       `json:"schema,omitempty"`
	Time   time.Time `json:"time"`
	Type   string    `json:"type"`
	// Data depends on the type.
	Data json.RawMessage `json:"data,omitempty"`
}

// Writer appends events to a file. It is safe for concurrent use.
type Writer struct {
	mu     sync.Mutex
	file   *os.File
	failed error
	wrote  bool
}

// Create makes the folder and a new journal in it. It fails when the folder
// holds one already: a run never writes into another run's record.
func Create(folder string) (*Writer, error) {
	if err := os.MkdirAll(folder, 0o750); err != nil {
		return nil, fmt.Errorf("journal folder: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(folder, FileName), os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o640) //nolint:gosec // reports are for the team; the folder is the user's choice
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	return &Writer{file: file}, nil
}

// NewEvent makes the event of something that happened, with data as JSON.
func NewEvent(at time.Time, eventType string, data any) (Event, error) {
	encoded, err := json.Marshal(data)
	if err != nil {
		return Event{}, fmt.Errorf("journal event %s: %w", eventType, err)
	}
	return Event{Time: at.UTC().Truncate(time.Millisecond), Type: eventType, Data: encoded}, nil
}

// Append writes one event and syncs it to disk. After an error every further
// call fails with the same error, because a record with a gap is no record.
func (w *Writer) Append(event Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed != nil {
		return w.failed
	}
	if !w.wrote {
		event.Schema = Schema
	}
	line, err := json.Marshal(event)
	if err == nil {
		_, err = w.file.Write(append(line, '\n'))
	}
	if err == nil {
		err = w.file.Sync()
	}
	if err != nil {
		w.failed = fmt.Errorf("journal: %w", err)
		return w.failed
	}
	w.wrote = true
	return nil
}

// Close closes the file.
func (w *Writer) Close() error {
	if err := w.file.Close(); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

// maxLine bounds one line of a journal; the largest hold a whole plan.
const maxLine = 64 << 20

// Read gives the events of a journal. A last line that is cut short, as a
// crash leaves it, is dropped.
func Read(r io.Reader) ([]Event, error) {
	var events []Event
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	var broken error
	for number := 1; lines.Scan(); number++ {
		if broken != nil {
			return nil, broken
		}
		var event Event
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			broken = fmt.Errorf("journal line %d: %w", number, err)
			continue
		}
		if number == 1 && (event.Schema < 1 || event.Schema > Schema) {
			return nil, fmt.Errorf("journal schema %d is not known to this version, which reads up to %d", event.Schema, Schema)
		}
		events = append(events, event)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	if len(events) == 0 {
		return nil, errors.New("journal: no event in it")
	}
	return events, nil
}
