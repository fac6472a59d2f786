package reports_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/squall-chaos/squall/reports"
	"github.com/squall-chaos/squall/runner/journal"
)

// renders returns every report of a journal that may be cut short.
func renders(t rapid.TB, content []byte) map[reports.Format]string {
	t.Helper()
	events, err := journal.Read(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	run, err := reports.Fold(events)
	if err != nil {
		t.Fatal(err)
	}
	all := map[reports.Format]string{}
	for _, format := range reports.Formats() {
		var out strings.Builder
		if err := reports.Write(&out, format, run); err != nil {
			t.Fatalf("%s: %v", format, err)
		}
		all[format] = out.String()
	}
	return all
}

// oldJournals are journals of earlier versions, with their SHA-256. The files
// never change: they prove that a new version reads what an old one wrote.
var oldJournals = map[string]string{
	"v1-held":        "3cf1a6eb2e6589943a9e38674f7a7807453f26e8f7fc424179c6debd5391adb7",
	"v1-deviated":    "357bfae639ab503cbf9cecaa39917e143b8239ec4ee1b81d0100053e45414e8f",
	"v1-every-event": "22b240af19dc06559a527d61b8153a09b8cd55dc28ccc0082d8f483b1b78d365",
	"v1-clean":       "ec02bedc013431e9ef71e519fc351f73909436397d851428bfbf5fff86c5479f",
}

// TestJournalsOfEarlierVersions compares the reports of old journals with golden
// files: a new version renders them in the same way.
func TestJournalsOfEarlierVersions(t *testing.T) {
	for name, hash := range oldJournals {
		t.Run(name, func(t *testing.T) {
			content, err := os.ReadFile(filepath.Join("testdata", "journals", name+".jsonl"))
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprintf("%x", sha256.Sum256(content)); got != hash {
				t.Fatalf("the journal was changed: SHA-256 %s", got)
			}
			for format, text := range renders(t, content) {
				compareGolden(t, name+"-"+format.FileName(), text)
			}
			for end := range content {
				if content[end] == '\n' && end+1 < len(content) {
					checkUnfinished(t, content[:end+1])
				}
			}
			first := bytes.IndexByte(content, '\n')
			rapid.Check(t, func(t *rapid.T) {
				checkUnfinished(t, content[:rapid.IntRange(first, len(content)-2).Draw(t, "bytes")])
			})
			for end := range first {
				if _, err := journal.Read(bytes.NewReader(content[:end])); err == nil || err.Error() != "journal: no event in it" {
					t.Fatalf("%d bytes: error %v", end, err)
				}
			}
		})
	}
}

// checkUnfinished checks that every report of a journal that was cut short says so.
func checkUnfinished(t rapid.TB, content []byte) {
	t.Helper()
	says := map[reports.Format]string{reports.FormatJSON: `"status": "",`, reports.FormatJUnit: `type="unfinished"`}
	for format, text := range renders(t, content) {
		want := says[format]
		if want == "" {
			want = "unfinished: the journal ends before the end of the run"
		}
		if !strings.Contains(text, want) {
			t.Errorf("%d bytes, %s: no %q in %s", len(content), format, want, text)
		}
	}
}

// TestJUnitIsXML puts any text, including characters that XML forbids, into every
// field of users and servers.
func TestJUnitIsXML(t *testing.T) {
	whole, err := reports.Fold(wholeRun(t))
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		run, result := whole, *whole.Result
		text := rapid.OneOf(rapid.String(), rapid.StringMatching("(\x00|\x1b\\[31m|]]>|&#0;|\uffff| |\n|a){0,9}"))
		run.Run.Owner, run.Cluster = text.Draw(t, "owner"), text.Draw(t, "cluster")
		run.Experiment.Spec.Title = text.Draw(t, "title")
		run.Queries = map[string]string{"page p99": text.Draw(t, "query")}
		result.Reason = text.Draw(t, "reason")
		run.Result = &result
		var out bytes.Buffer
		if err := reports.JUnit(&out, run); err != nil {
			t.Fatal(err)
		}
		for decoder := xml.NewDecoder(&out); ; {
			if _, err := decoder.Token(); errors.Is(err, io.EOF) {
				return
			} else if err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestPlotsOfAnyValue plots every finite number that a query may return.
func TestPlotsOfAnyValue(t *testing.T) {
	whole, err := reports.Fold(wholeRun(t))
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		run := whole
		run.Measurements = slices.Clone(whole.Measurements)
		edge := rapid.SampledFrom([]float64{math.MaxFloat64, -math.MaxFloat64, math.SmallestNonzeroFloat64, 0, 1, math.Nextafter(1, 2)})
		for i := range run.Measurements {
			value := rapid.OneOf(edge, rapid.Float64()).Draw(t, "value")
			run.Measurements[i].Value = &value
		}
		var out strings.Builder
		if err := reports.HTML(&out, run); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), "<svg ") || strings.Contains(out.String(), "NaN") || strings.Contains(out.String(), "Inf") {
			t.Fatal(out.String())
		}
	})
}
