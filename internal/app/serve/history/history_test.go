package history

import (
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/reports"
	"github.com/squall-chaos/squall/runner/event"
	"github.com/squall-chaos/squall/runner/journal"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newHistory(t *testing.T, keepRuns int) *History {
	t.Helper()
	return New(Config{Directory: t.TempDir(), KeepRuns: keepRuns, Log: slog.New(slog.DiscardHandler)})
}

// begin creates the record of a run, with its first event.
func begin(t *testing.T, h *History, run string) {
	t.Helper()
	writer, err := h.Create(run)
	must(t, err)
	must(t, event.ToJournal(writer).Record(time.Now(), event.Started{
		Run: objects.Run{ID: run, Experiment: "outage"}, Experiment: experiments.Experiment{Metadata: experiments.Metadata{Name: "outage"}},
	}))
	must(t, writer.Close())
}

func ids(summaries []reports.Summary) []string {
	all := []string{}
	for _, s := range summaries {
		all = append(all, s.Run)
	}
	return all
}

const (
	oldest = "20260101-000000-outage-aaaaaa"
	middle = "20260102-000000-outage-bbbbbb"
	newest = "20260103-000000-outage-cccccc"
)

// A run is a past one from Finish on, and not before, also after a Scan. The
// oldest runs beyond KeepRuns are removed then, except for live ones.
func TestPast(t *testing.T) {
	h := newHistory(t, 1)
	check := func(when string, want ...string) {
		t.Helper()
		h.Scan(t.Context())
		if diff := cmp.Diff(append([]string{}, want...), ids(h.Past(10))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
	}
	check("in an empty directory")
	begin(t, h, oldest)
	check("while it is live")
	begin(t, h, middle)
	h.Finish(middle)
	check("while an older one is live", middle)
	begin(t, h, newest)
	h.Finish(newest)
	check("the one before is removed", newest)
	h.Finish(oldest)
	check("the older one has ended last", newest)
	if past := h.Past(0); past == nil || len(past) != 0 {
		t.Errorf("none of them: %v", past)
	}
}

// Finish writes the reports, which can be opened while they exist.
func TestOpen(t *testing.T) {
	h := newHistory(t, 0)
	report := reports.FormatHTML.FileName()
	open := func(run, name string) (string, error) {
		file, err := h.Open(run, name)
		if err != nil {
			return "", err
		}
		defer file.Close() //nolint:errcheck // opened for reading
		content, err := io.ReadAll(file)
		return string(content), err
	}
	if _, err := open(oldest, journal.FileName); !errors.Is(err, ErrUnknown) {
		t.Errorf("before it begins: error %v", err)
	}
	begin(t, h, oldest)
	if content, err := open(oldest, journal.FileName); err != nil || !strings.Contains(content, oldest) {
		t.Errorf("the journal of a live run: error %v, %q", err, content)
	}
	if _, err := open(oldest, report); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the report of a live run: error %v", err)
	}
	h.Finish(oldest)
	if content, err := open(oldest, report); err != nil || !strings.Contains(content, oldest) {
		t.Errorf("the report: error %v, %.100q", err, content)
	}
	must(t, os.WriteFile(filepath.Join(h.config.Directory, report), nil, 0o600))
	for _, run := range []string{"", ".", "..", "../" + oldest, oldest + "/", oldest + "/..", newest} {
		if _, err := open(run, report); !errors.Is(err, ErrUnknown) {
			t.Errorf("%q: error %v", run, err)
		}
	}
}

// A run whose journal cannot be created is neither live nor past.
// No link in the records leads to a file outside them.
func TestOpenDoesNotLeadOut(t *testing.T) {
	h := newHistory(t, 0)
	secret := filepath.Join(t.TempDir(), "token")
	must(t, os.WriteFile(secret, []byte("s3cr3t"), 0o600))
	begin(t, h, newest)
	h.Finish(newest)
	for _, name := range []string{"report.html", journal.FileName} {
		must(t, os.Remove(filepath.Join(h.config.Directory, newest, name)))
		must(t, os.Symlink(secret, filepath.Join(h.config.Directory, newest, name)))
		if _, err := h.Open(newest, name); err == nil || !strings.Contains(err.Error(), "leads out of the directory") {
			t.Errorf("%s: error %v", name, err)
		}
	}
	// A report is not written through a link either.
	begin(t, h, middle)
	must(t, os.Symlink(secret, filepath.Join(h.config.Directory, middle, "report.html")))
	h.Finish(middle)
	if content, err := os.ReadFile(secret); err != nil || string(content) != "s3cr3t" {
		t.Errorf("%q, error %v", content, err)
	}
}

func TestCreateThatFails(t *testing.T) {
	h := newHistory(t, 0)
	must(t, os.WriteFile(filepath.Join(h.config.Directory, oldest), nil, 0o600))
	if _, err := h.Create(oldest); err == nil {
		t.Fatal("no error")
	}
	if _, err := h.Open(oldest, journal.FileName); !errors.Is(err, ErrUnknown) {
		t.Errorf("error %v", err)
	}
}
