package records_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/internal/app/records"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner/event"
	"github.com/squall-chaos/squall/runner/journal"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ran creates the directory of a run that has ended.
func ran(t testing.TB, directory, run string) {
	t.Helper()
	w, err := journal.Create(filepath.Join(directory, run))
	must(t, err)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	journaled := event.ToJournal(w)
	must(t, journaled.Record(at, event.Started{Run: objects.Run{ID: run, Experiment: "outage"}}))
	must(t, journaled.Record(at.Add(time.Minute), event.Finished{Result: event.Result{Status: event.StatusCompleted, Finished: at.Add(time.Minute)}}))
	must(t, w.Close())
}

func left(t *testing.T, directory string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(directory)
	must(t, err)
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

const (
	jan = "20260101-000000-outage-aaaaaa"
	feb = "20260201-000000-outage-aaaaaa"
	mar = "20260301-000000-outage-aaaaaa"
	apr = "20260401-000000-outage-aaaaaa"
)

func TestPrune(t *testing.T) {
	date := func(month time.Month) time.Time { return time.Date(2026, month, 1, 0, 0, 0, 0, time.UTC) }
	for _, test := range []struct {
		name   string
		newest int
		before time.Time
		live   string
		want   []string
	}{
		{"all are kept", 0, time.Time{}, "", []string{jan, feb, mar, apr}},
		{"as many", 4, time.Time{}, "", []string{jan, feb, mar, apr}},
		{"by count", 2, time.Time{}, "", []string{mar, apr}},
		{"by age", 0, date(time.March), "", []string{mar, apr}},
		{"by both, the count less", 1, date(time.February), "", []string{apr}},
		{"by both, the age less", 3, date(time.April), "", []string{apr}},
		{"live ones stay, and count", 2, time.Time{}, jan, []string{jan, mar, apr}},
		{"none", 0, date(time.December), "", nil},
		{"live and old", 1, date(time.December), feb, []string{feb}},
	} {
		t.Run(test.name, func(t *testing.T) {
			directory := t.TempDir()
			all := []string{jan, feb, mar, apr}
			for _, run := range all {
				ran(t, directory, run)
			}
			removed, err := records.Prune(directory, test.newest, test.before, func(run string) bool { return run == test.live })
			must(t, err)
			if diff := cmp.Diff(test.want, left(t, directory)); diff != "" {
				t.Error(diff)
			}
			slices.Sort(removed)
			gone := slices.DeleteFunc(all, func(run string) bool { return slices.Contains(test.want, run) })
			if !slices.Equal(removed, gone) {
				t.Errorf("removed %v", removed)
			}
		})
	}
}

// Anything that is not of a run stays, whatever its name, and nothing outside the
// directory is touched.
func TestPruneRemovesRunsOnly(t *testing.T) {
	directory, outside := t.TempDir(), t.TempDir()
	ran(t, directory, jan)
	ran(t, outside, feb)
	must(t, os.WriteFile(filepath.Join(outside, "precious"), nil, 0o600))
	must(t, os.Symlink(filepath.Join(outside, feb), filepath.Join(directory, feb)))
	must(t, os.Symlink(outside, filepath.Join(directory, jan, "outside")))
	must(t, os.MkdirAll(filepath.Join(directory, mar), 0o750)) // without a journal
	must(t, os.WriteFile(filepath.Join(directory, apr), nil, 0o600))
	must(t, os.WriteFile(filepath.Join(directory, "starts.json"), nil, 0o600))
	for _, name := range []string{"notes", "20260101-000000", "20260101-000000x", "20261301-000000-x", "2026010-1000000-x"} {
		ran(t, directory, name)
	}
	before := left(t, directory)
	removed, err := records.Prune(directory, 1, time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC), func(string) bool { return false })
	must(t, err)
	if diff := cmp.Diff([]string{jan}, removed); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(slices.DeleteFunc(before, func(name string) bool { return name == jan }), left(t, directory)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{feb, "precious"}, left(t, outside)); diff != "" {
		t.Error(diff)
	}
}

// A directory that cannot be removed does not keep the others.
func TestPruneGoesOn(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("nothing is forbidden to root")
	}
	directory := t.TempDir()
	for _, run := range []string{jan, feb, mar} {
		ran(t, directory, run)
	}
	stuck := filepath.Join(directory, feb)
	must(t, os.Chmod(stuck, 0o500))
	t.Cleanup(func() { must(t, os.Chmod(stuck, 0o700)) })
	removed, err := records.Prune(directory, 0, time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC), func(string) bool { return false })
	if !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), feb) {
		t.Errorf("error %v", err)
	}
	if diff := cmp.Diff([]string{mar, jan}, removed); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{feb}, left(t, directory)); diff != "" {
		t.Error(diff)
	}
}

func TestPruneOfNoFolder(t *testing.T) {
	none := func(string) bool { return false }
	if removed, err := records.Prune(filepath.Join(t.TempDir(), "none"), 1, time.Time{}, none); removed != nil || err != nil {
		t.Errorf("%v, %v", removed, err)
	}
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	if _, err := records.Prune(file, 1, time.Time{}, none); err == nil {
		t.Error("a file is no error")
	}
}

// Each directory with a journal is listed, also one whose journal is broken.
func TestSummaries(t *testing.T) {
	directory := t.TempDir()
	ran(t, directory, jan)
	must(t, os.WriteFile(filepath.Join(directory, jan, "report.html"), nil, 0o600))
	ran(t, directory, feb)
	must(t, os.Mkdir(filepath.Join(directory, feb, "report.html"), 0o750)) // no file to link
	for name, content := range map[string]string{"broken": "{", "empty": "", "foreign": `{"schema":1,"time":"2026-01-01T00:00:00Z","type":"something"}` + "\n"} {
		must(t, os.Mkdir(filepath.Join(directory, name), 0o750))
		must(t, os.WriteFile(filepath.Join(directory, name, journal.FileName), []byte(content), 0o600))
	}
	must(t, os.Mkdir(filepath.Join(directory, "pipe"), 0o750))
	must(t, syscall.Mkfifo(filepath.Join(directory, "pipe", journal.FileName), 0o600))
	must(t, os.Mkdir(filepath.Join(directory, "other"), 0o750))
	must(t, os.WriteFile(filepath.Join(directory, "starts.json"), nil, 0o600))
	got, err := records.NewIndex(directory).Summaries(t.Context())
	must(t, err)
	type line struct {
		Run, Link string
		Status    event.Status
		Broken    bool
	}
	var lines []line
	for _, s := range got {
		lines = append(lines, line{s.Run, s.Link, s.Status, s.Error != ""})
	}
	want := []line{
		{jan, jan + "/report.html", event.StatusCompleted, false},
		{feb, feb + "/journal.jsonl", event.StatusCompleted, false},
		{"broken", "broken/journal.jsonl", "", true},
		{"empty", "empty/journal.jsonl", "", true},
		{"foreign", "foreign/journal.jsonl", "", true},
		{"pipe", "pipe/journal.jsonl", "", true},
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Error(diff)
	}
}

// A journal is read again if, and only if, its file has changed.
func TestIndexReadsWhatHasChanged(t *testing.T) {
	directory := t.TempDir()
	ran(t, directory, jan)
	index := records.NewIndex(directory)
	status := func() string {
		t.Helper()
		all, err := index.Summaries(t.Context())
		must(t, err)
		if len(all) != 1 {
			t.Fatalf("%+v", all)
		}
		if all[0].Error != "" {
			return "broken"
		}
		return string(all[0].Status) + " " + all[0].Link
	}
	file := filepath.Join(directory, jan, journal.FileName)
	content, err := os.ReadFile(file)
	must(t, err)
	other := []byte(strings.Replace(string(content), `"completed"`, `"interrupt"`, 1)) // as long
	info, err := os.Stat(file)
	must(t, err)
	write := func(content []byte, modified time.Time) {
		t.Helper()
		must(t, os.WriteFile(file, content, 0o600))
		must(t, os.Chtimes(file, modified, modified))
	}
	want := func(when, want string) {
		t.Helper()
		if got := status(); got != want {
			t.Errorf("%s: %q, want %q", when, got, want)
		}
	}
	journalOf, pageOf := jan+"/"+journal.FileName, jan+"/report.html"
	want("at first", "completed "+journalOf)
	write(other, info.ModTime())
	want("the same time and size", "completed "+journalOf)
	must(t, os.WriteFile(filepath.Join(directory, jan, "report.html"), nil, 0o600))
	want("there is a report", "completed "+pageOf)
	write(other, info.ModTime().Add(time.Second))
	want("another time", "interrupt "+pageOf)
	write([]byte("{"), info.ModTime())
	want("broken", "broken")
	write([]byte("["), info.ModTime())
	want("broken still", "broken")
	write(content, info.ModTime())
	want("mended", "completed "+pageOf)
	must(t, os.Rename(file, file+".old"))
	must(t, os.WriteFile(file, other, 0o600))
	must(t, os.Chtimes(file, info.ModTime(), info.ModTime()))
	want("another file", "interrupt "+pageOf)
	must(t, os.RemoveAll(filepath.Join(directory, jan)))
	if all, err := index.Summaries(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("%+v %v", all, err)
	}
}

// BenchmarkIndex reads a thousand small journals, twice.
func BenchmarkIndex(b *testing.B) {
	directory := b.TempDir()
	for i := range 1000 {
		ran(b, directory, fmt.Sprintf("20260101-000000-outage-%06d", i))
	}
	index := records.NewIndex(directory)
	read := func(b *testing.B) {
		if all, err := index.Summaries(b.Context()); err != nil || len(all) != 1000 {
			b.Fatal(len(all), err)
		}
	}
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			index = records.NewIndex(directory)
			read(b)
		}
	})
	b.Run("again", func(b *testing.B) {
		for b.Loop() {
			read(b)
		}
	})
}

func TestSummariesOfNoFolder(t *testing.T) {
	if _, err := records.NewIndex(filepath.Join(t.TempDir(), "none")).Summaries(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
	directory := t.TempDir()
	ran(t, directory, jan)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := records.NewIndex(directory).Summaries(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// Nothing outside the directory of runs is read or removed: a link that leads out is
// a run that cannot be read.
func TestLinksDoNotLeadOut(t *testing.T) {
	base := t.TempDir()
	directory, other := filepath.Join(base, "runs"), filepath.Join(base, "other")
	must(t, os.MkdirAll(directory, 0o750))
	ran(t, other, "20260101-000000-x-aaaaaa")
	ran(t, directory, "20260102-000000-x-bbbbbb")
	for name, target := range map[string]string{
		"latest":                   "20260102-000000-x-bbbbbb",
		"20260103-000000-x-cccccc": "../other/20260101-000000-x-aaaaaa",
	} {
		must(t, os.Symlink(target, filepath.Join(directory, name)))
	}
	must(t, os.Mkdir(filepath.Join(directory, "20260104-000000-x-dddddd"), 0o750))
	must(t, os.Symlink("../../other/20260101-000000-x-aaaaaa/journal.jsonl", filepath.Join(directory, "20260104-000000-x-dddddd", "journal.jsonl")))
	must(t, os.Symlink("runs", filepath.Join(base, "linked")))
	summaries, err := records.NewIndex(filepath.Join(base, "linked")).Summaries(t.Context())
	must(t, err)
	readable := map[string]bool{}
	for _, summary := range summaries {
		readable[summary.Run] = readable[summary.Run] || summary.Error == ""
	}
	if diff := cmp.Diff(map[string]bool{"20260102-000000-x-bbbbbb": true, "20260103-000000-x-cccccc": false, "20260104-000000-x-dddddd": false}, readable); diff != "" {
		t.Errorf("readable (-want +got):\n%s", diff)
	}
	if _, err := records.Read(filepath.Join(directory, "20260104-000000-x-dddddd")); err == nil || !strings.Contains(err.Error(), "leads out of the directory") {
		t.Errorf("error %v", err)
	}
	if _, err := records.Prune(directory, 0, time.Now(), func(string) bool { return false }); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(other, "20260101-000000-x-aaaaaa", "journal.jsonl")); err != nil {
		t.Errorf("pruned outside the directory: %v", err)
	}
}

func TestBegan(t *testing.T) {
	for name, want := range map[string]bool{
		jan: true, "20260101-000000-": true, "20260101-000000": false, "20260101-000000_x": false, "": false, "../../../../etc": false, "20269901-000000-x": false, "notes": false,
	} {
		if _, ok := records.Began(name); ok != want {
			t.Errorf("%q: %t", name, ok)
		}
	}
}
