// Package records reads the directory that has a directory for each run, with its
// journal and its reports.
package records

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/squall-chaos/squall/internal/confined"
	"github.com/squall-chaos/squall/reports"
	"github.com/squall-chaos/squall/runner/event"
	"github.com/squall-chaos/squall/runner/journal"
)

// Fold reads a journal.
func Fold(content io.Reader) (reports.Run, error) {
	events, err := journal.Read(content)
	if err != nil {
		return reports.Run{}, err
	}
	return reports.Fold(events)
}

// Read reads a journal, or the journal in a directory, which is not followed out of
// it.
func Read(name string) (reports.Run, error) {
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		root, err := os.OpenRoot(name)
		if err != nil {
			return reports.Run{}, err
		}
		defer root.Close() //nolint:errcheck // opened for reading
		return ReadIn(root, ".")
	}
	file, err := os.Open(name) //nolint:gosec // the user names the file
	if err != nil {
		return reports.Run{}, err
	}
	defer file.Close() //nolint:errcheck // opened for reading
	return Fold(file)
}

// ReadIn reads the journal of a run in a directory of runs.
func ReadIn(directory *os.Root, run string) (reports.Run, error) {
	file, err := confined.Open(directory, path.Join(run, journal.FileName))
	if err != nil {
		return reports.Run{}, err
	}
	defer file.Close() //nolint:errcheck // opened for reading
	return Fold(file)
}

// Index reads the journals of a directory of runs. It reads a journal again only
// if its file has changed. It is not safe for concurrent use.
type Index struct {
	// Suites makes summaries with what a JUnit report of the list needs.
	Suites bool

	directory string
	known     map[string]known // by the name of the run's directory
}

type known struct {
	file    fs.FileInfo // nil if the journal could not be read
	summary reports.Summary
}

// NewIndex returns the index of a directory of runs, which need not exist yet.
func NewIndex(directory string) *Index { return &Index{directory: directory} }

// Summaries reads the journals that are new or have changed, and returns all runs,
// sorted by the names of their directories. It holds the measurements of a few
// runs at a time. The error is from os.ReadDir or from ctx.
func (x *Index) Summaries(ctx context.Context) ([]reports.Summary, error) {
	entries, err := os.ReadDir(x.directory)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(x.directory)
	if err != nil {
		return nil, err
	}
	defer root.Close() //nolint:errcheck // opened for reading
	found := make([]*known, len(entries))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, entry := range entries {
		group.Go(func() error {
			found[i] = look(root, entry.Name(), x.known[entry.Name()], x.Suites)
			return ctx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	x.known = make(map[string]known, len(entries))
	runs := make([]reports.Summary, 0, len(entries))
	for i, one := range found {
		if one != nil {
			x.known[entries[i].Name()] = *one
			runs = append(runs, one.summary)
		}
	}
	return runs, nil
}

// Summary reads the journal of a run in a directory of runs; it returns nil if
// there is none.
func Summary(directory *os.Root, run string) *reports.Summary {
	if one := look(directory, run, known{}, false); one != nil {
		return &one.summary
	}
	return nil
}

// look reads the journal of a run, unless its file is the same as before. It
// returns nil if there is no journal. A link that leads out of the directory is a
// run that cannot be read.
func look(directory *os.Root, name string, before known, suites bool) *known {
	info, err := confined.Stat(directory, path.Join(name, journal.FileName))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	one := before
	if err != nil || !unchanged(before.file, info) {
		one = survived(name, func() known { return summarize(directory, name, info, err, suites) })
	}
	one.summary.Link = path.Join(name, journal.FileName)
	if page := path.Join(name, reports.FormatHTML.FileName()); exists(directory, page) {
		one.summary.Link = page
	}
	return &one
}

func exists(directory *os.Root, name string) bool {
	_, err := confined.Stat(directory, name)
	return err == nil
}

// unchanged reports whether a journal is the same as before: lines are only added
// to it.
func unchanged(before, now fs.FileInfo) bool {
	return before != nil && os.SameFile(before, now) && before.Size() == now.Size() && before.ModTime().Equal(now.ModTime())
}

// survived recovers from a panic of a reader: a journal that causes one counts as
// one that cannot be read, and does not hide the others.
func survived(name string, read func() known) (one known) {
	defer func() {
		if reason := recover(); reason != nil {
			one = known{summary: reports.Unreadable(name, fmt.Errorf("journal: it cannot be interpreted: %v", reason))}
		}
	}()
	return read()
}

func summarize(directory *os.Root, name string, info fs.FileInfo, err error, suites bool) known {
	var run reports.Run
	if err == nil {
		run, err = ReadIn(directory, name)
	}
	if err == nil && run.Run.ID == "" {
		err = errors.New("journal: it has no id of a run")
	}
	if err != nil { // without file, so that it is read again: the cause may go away
		return known{summary: reports.Unreadable(name, err)}
	}
	summary := reports.Summarize(run)
	if suites {
		summary = summary.WithSuite(run)
	}
	return known{file: info, summary: summary}
}

// Began returns the time in the id of a run. It returns false for a name that is
// not an id.
func Began(run string) (began time.Time, ok bool) {
	if len(run) <= len(event.IDTime) {
		return time.Time{}, false
	}
	began, err := time.Parse(event.IDTime, run[:len(event.IDTime)])
	return began, err == nil && run[len(event.IDTime)] == '-'
}

// Prune removes the directories of the oldest runs in a directory of runs: beyond
// the newest ones, and if they began before a time. 0 and the zero time set no
// limit. Runs for which keep returns true stay, and so do directories that are not
// of runs. It goes on after an error, and returns the runs that it has removed
// together with all errors.
func Prune(directory string, newest int, before time.Time, keep func(run string) bool) (removed []string, err error) {
	entries, err := os.ReadDir(directory)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(directory)
	if err != nil {
		return nil, err
	}
	defer root.Close() //nolint:errcheck // opened for reading
	var runs []string
	for _, entry := range entries {
		_, named := Began(entry.Name())
		if named && entry.IsDir() && exists(root, path.Join(entry.Name(), journal.FileName)) {
			runs = append(runs, entry.Name())
		}
	}
	slices.Sort(runs)
	slices.Reverse(runs)
	for i, run := range runs {
		began, _ := Began(run)
		if keep(run) || (newest <= 0 || i < newest) && !began.Before(before) {
			continue
		}
		failure := root.RemoveAll(run)
		err = errors.Join(err, failure)
		if failure == nil {
			removed = append(removed, run)
		}
	}
	return removed, err
}
