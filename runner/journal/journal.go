// Package journal reads and writes the append-only record of one run: one JSON
// object per line, written and synced as things happen. An action is recorded
// before it is taken, so a journal that was cut short by a crash still names
// every object that may exist.
//
// The package does not know what the lines mean; package event does.
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

// FileName is the name of the journal in a run's directory.
const FileName = "journal.jsonl"

// Line is one line of a journal.
type Line struct {
	// Schema is set on the first line only.
	Schema int       `json:"schema,omitempty"`
	Time   time.Time `json:"time"`
	Type   string    `json:"type"`
	// Data depends on the type.
	Data json.RawMessage `json:"data,omitempty"`
}

// Writer appends lines to a file. It is safe for concurrent use.
type Writer struct {
	mu     sync.Mutex
	file   *os.File
	failed error
	wrote  bool
}

// Create makes the directory and a new journal in it. It returns an error if the
// directory has one already: a run never writes into another run's record.
func Create(directory string) (*Writer, error) {
	if err := os.MkdirAll(directory, 0o750); err != nil {
		return nil, fmt.Errorf("journal directory: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(directory, FileName), os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o640) //nolint:gosec // reports are for the team; the directory is the user's choice
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	return &Writer{file: file}, nil
}

// NewLine returns a line with data as JSON. The time is in UTC and truncated to
// milliseconds.
func NewLine(at time.Time, eventType string, data any) (Line, error) {
	encoded, err := json.Marshal(data)
	if err != nil {
		return Line{}, fmt.Errorf("journal event %s: %w", eventType, err)
	}
	return Line{Time: at.UTC().Truncate(time.Millisecond), Type: eventType, Data: encoded}, nil
}

// Append writes one line and syncs it to disk. After an error every further call
// returns the same error, so a journal never has a gap.
func (w *Writer) Append(line Line) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed != nil {
		return w.failed
	}
	if !w.wrote {
		line.Schema = Schema
	}
	encoded, err := json.Marshal(line)
	if err == nil {
		_, err = w.file.Write(append(encoded, '\n'))
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

// maxLine is the longest line in bytes; the longest lines have a whole plan.
const maxLine = 64 << 20

// Read returns the lines of a journal. It drops a last line that was cut short
// by a crash.
func Read(r io.Reader) ([]Line, error) {
	var lines []Line
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, maxLine)
	var broken error
	for number := 1; scanner.Scan(); number++ {
		if broken != nil {
			return nil, broken
		}
		var line Line
		if err := json.Unmarshal(scanner.Bytes(), &line); err != nil {
			broken = fmt.Errorf("journal line %d: %w", number, err)
			continue
		}
		if number == 1 && line.Schema == 0 {
			return nil, errors.New("journal: the beginning is missing")
		}
		if number == 1 && (line.Schema < 1 || line.Schema > Schema) {
			return nil, fmt.Errorf("journal schema %d is not known to this version, which reads up to %d", line.Schema, Schema)
		}
		lines = append(lines, line)
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	if len(lines) == 0 {
		return nil, errors.New("journal: no event in it")
	}
	return lines, nil
}
