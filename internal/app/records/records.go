// Package records is the folder in which every run has a folder of its own, with
// its journal and its reports.
package records

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

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

// Read reads a journal file.
func Read(name string) (reports.Run, error) {
	file, err := os.Open(name) //nolint:gosec // the user names the file
	if err != nil {
		return reports.Run{}, err
	}
	defer file.Close() //nolint:errcheck // opened for reading
	return Fold(file)
}

// Index reads the journals in the folders of a folder again and again, but each
// only when its file has changed. It is not safe for concurrent use.
type Index struct {
	folder string
	known  map[string]known // by the name of the run's folder
}

type known struct {
	file    fs.FileInfo // nil when the journal could not be read
	summary reports.Summary
}

// NewIndex makes the index of a folder, which need not exist yet.
func NewIndex(folder string) *Index { return &Index{folder: folder} }

// Summaries reads what has changed, and gives the runs in the order of their
// folders' names. Each is folded at once, so that memory holds the measurements
// of a few runs only.
func (x *Index) Summaries(ctx context.Context) ([]reports.Summary, error) {
	entries, err := os.ReadDir(x.folder)
	if err != nil {
		return nil, err
	}
	found := make([]*known, len(entries))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, entry := range entries {
		group.Go(func() error {
			found[i] = look(x.folder, entry.Name(), x.known[entry.Name()])
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

// Summary reads the journal in a folder of a folder; nil when there is none.
func Summary(folder, name string) *reports.Summary {
	if one := look(folder, name, known{}); one != nil {
		return &one.summary
	}
	return nil
}

// look reads a journal that is not the one that was read before.
func look(folder, name string, before known) *known {
	file := filepath.Join(folder, name, journal.FileName)
	info, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", file)
	}
	one := before
	if err != nil || !unchanged(before.file, info) {
		one = survived(name, func() known { return summarize(file, name, info, err) })
	}
	one.summary.Link = path.Join(name, journal.FileName)
	page := reports.FormatHTML.FileName()
	if info, err := os.Stat(filepath.Join(folder, name, page)); err == nil && info.Mode().IsRegular() {
		one.summary.Link = path.Join(name, page)
	}
	return &one
}

// unchanged reports whether a journal, to which lines are only added, is as it
// was.
func unchanged(before, now fs.FileInfo) bool {
	return before != nil && os.SameFile(before, now) && before.Size() == now.Size() && before.ModTime().Equal(now.ModTime())
}

// survived takes a journal that lets its reader panic for one that cannot be
// read: it must not hide the others.
func survived(name string, read func() known) (one known) {
	defer func() {
		if reason := recover(); reason != nil {
			one = known{summary: reports.Unreadable(name, fmt.Errorf("journal: it makes no sense: %v", reason))}
		}
	}()
	return read()
}

func summarize(file, name string, info fs.FileInfo, err error) known {
	var run reports.Run
	if err == nil {
		run, err = Read(file)
	}
	if err == nil && run.Run.ID == "" {
		err = errors.New("journal: it does not say which run it is of")
	}
	if err != nil { // what keeps it from being read may go without a change of the file
		return known{summary: reports.Unreadable(name, err)}
	}
	return known{file: info, summary: reports.Summarize(run)}
}

// Began gives the time in a run's id; ok is false for a name that is none.
func Began(run string) (began time.Time, ok bool) {
	if len(run) <= len(event.IDTime) {
		return time.Time{}, false
	}
	began, err := time.Parse(event.IDTime, run[:len(event.IDTime)])
	return began, err == nil && run[len(event.IDTime)] == '-'
}

// Prune removes the folders of runs beyond the newest so many, and of those that
// began before a time; 0 and the zero time remove none. A folder that is not a
// run's, and one that keep names, stays. It goes on past errors.
func Prune(folder string, newest int, before time.Time, keep func(run string) bool) (removed []string, err error) {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var runs []string
	for _, entry := range entries {
		_, named := Began(entry.Name())
		_, missing := os.Stat(filepath.Join(folder, entry.Name(), journal.FileName))
		if named && entry.IsDir() && missing == nil {
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
		failure := os.RemoveAll(filepath.Join(folder, run))
		err = errors.Join(err, failure)
		if failure == nil {
			removed = append(removed, run)
		}
	}
	return removed, err
}
