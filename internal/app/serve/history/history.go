// Package history keeps the records of past runs: their directories, reports and
// summaries, and how many of them are kept.
package history

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/squall-chaos/squall/internal/app/records"
	"github.com/squall-chaos/squall/internal/confined"
	"github.com/squall-chaos/squall/reports"
	"github.com/squall-chaos/squall/runner/journal"
)

// ErrUnknown is why a file of a run that is not recorded here cannot be opened.
var ErrUnknown = errors.New("there is no such run")

// Config configures a History.
type Config struct {
	// Directory holds a directory for each run.
	Directory string
	// KeepRuns is the maximum number of runs that are kept; 0 keeps all.
	KeepRuns int
	// KeepFor is the maximum age of runs that are kept; 0 keeps all.
	KeepFor time.Duration
	Log     *slog.Logger
}

// History holds the records of runs. It is safe for concurrent use, except for
// Scan.
type History struct {
	config Config
	index  *records.Index // of Scan

	mu        sync.Mutex
	recording map[string]bool            // by run
	past      map[string]reports.Summary // by run
	// fresh are the runs that have ended since Scan began to read.
	fresh map[string]bool
}

// New returns a History that has not read its directory yet.
func New(config Config) *History {
	return &History{
		config: config, index: records.NewIndex(config.Directory),
		recording: map[string]bool{}, past: map[string]reports.Summary{}, fresh: map[string]bool{},
	}
}

// Create begins the record of a run, which Finish ends.
func (h *History) Create(run string) (*journal.Writer, error) {
	h.mu.Lock()
	h.recording[run] = true
	h.mu.Unlock()
	writer, err := journal.Create(filepath.Join(h.config.Directory, run))
	if err != nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.recording, run)
	}
	return writer, err
}

// Finish writes the reports of a run whose journal is closed, and removes the
// oldest runs. Errors are logged.
func (h *History) Finish(run string) {
	summary, err := h.report(run)
	if err != nil {
		h.config.Log.Error("cannot write the report; squall report makes it from the journal", "run", run, "error", err)
	}
	h.mu.Lock()
	delete(h.recording, run)
	if summary != nil {
		h.past[run], h.fresh[run] = *summary, true
	}
	h.mu.Unlock()
	h.prune()
}

// report writes the reports of a run into its directory. It returns the summary, or
// nil if the journal cannot be read.
func (h *History) report(run string) (*reports.Summary, error) {
	root, err := os.OpenRoot(h.config.Directory)
	if err != nil {
		return nil, err
	}
	defer root.Close() //nolint:errcheck // each file is synced
	content, err := records.ReadIn(root, run)
	if err != nil {
		return records.Summary(root, run), err
	}
	var failures []error
	for _, format := range []reports.Format{reports.FormatHTML, reports.FormatJSON} {
		failures = append(failures, writeReport(root, path.Join(run, format.FileName()), format, content))
	}
	return records.Summary(root, run), errors.Join(failures...)
}

// writeReport writes a report and syncs it to disk.
func writeReport(root *os.Root, name string, format reports.Format, run reports.Run) (err error) {
	file, err := root.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := reports.Write(file, format, run); err != nil {
		return err
	}
	return file.Sync()
}

// Scan reads the directory: another replica may write to it as well. Only one
// call at a time may be under way.
func (h *History) Scan(ctx context.Context) {
	h.mu.Lock()
	clear(h.fresh)
	h.mu.Unlock()
	summaries, err := h.index.Summaries(ctx)
	if err != nil {
		return // the directory does not exist yet, or ctx has ended
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(h.past, func(run string, _ reports.Summary) bool { return !h.fresh[run] })
	for _, summary := range summaries {
		if !h.recording[summary.Run] && !h.fresh[summary.Run] {
			h.past[summary.Run] = summary
		}
	}
}

// prune removes the oldest runs.
func (h *History) prune() {
	before := time.Time{}
	if h.config.KeepFor > 0 {
		before = time.Now().Add(-h.config.KeepFor)
	}
	removed, err := records.Prune(h.config.Directory, h.config.KeepRuns, before, func(run string) bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.recording[run]
	})
	if err != nil {
		h.config.Log.Error("cannot remove old runs", "error", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, run := range removed {
		delete(h.past, run)
	}
}

// Past returns at most limit summaries of past runs, the newest first.
func (h *History) Past(limit int) []reports.Summary {
	h.mu.Lock()
	defer h.mu.Unlock()
	past := slices.AppendSeq(make([]reports.Summary, 0, len(h.past)), maps.Values(h.past))
	slices.SortFunc(past, func(a, b reports.Summary) int { return cmp.Compare(b.Run, a.Run) })
	return past[:min(limit, len(past))]
}

// Open opens a file in the directory of a run. The error is ErrUnknown for a run
// that is not recorded here, so that no name leads out of the directory; it
// wraps fs.ErrNotExist or another error when the file cannot be read. No link leads
// out of the directory.
func (h *History) Open(run, name string) (fs.File, error) {
	if _, named := records.Began(run); !named || filepath.Base(run) != run || !h.has(run) {
		return nil, ErrUnknown
	}
	root, err := os.OpenRoot(h.config.Directory)
	if err != nil {
		return nil, fmt.Errorf("record of run %s: %w", run, err)
	}
	defer root.Close() //nolint:errcheck // the file stays open
	file, err := confined.Open(root, path.Join(run, name))
	if err != nil {
		return nil, fmt.Errorf("record of run %s: %w", run, err)
	}
	return file, nil
}

// has reports whether a run is recorded here.
func (h *History) has(run string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, past := h.past[run]
	return past || h.recording[run]
}
