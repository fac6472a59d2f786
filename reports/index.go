package reports

import (
	"cmp"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/squall-chaos/squall/internal/oneline"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

//go:embed index.html
var indexText string

//nolint:gochecknoglobals // a constant template; it takes the style of the page
var indexPage = template.Must(template.Must(page.Clone()).New("index").Parse(indexText))

// WriteIndex renders a list of runs, newest first. A JUnit report needs summaries
// WithSuite.
func WriteIndex(w io.Writer, f Format, runs []Summary) error {
	runs = slices.SortedStableFunc(slices.Values(runs), func(a, b Summary) int {
		return cmp.Or(b.Began.Compare(a.Began), cmp.Compare(b.Run, a.Run))
	})
	var err error
	switch f {
	case FormatText:
		err = textIndex(w, runs)
	case FormatJSON:
		err = jsonIndex(w, runs)
	case FormatMarkdown:
		err = markdownIndex(w, runs)
	case FormatJUnit:
		err = junitIndex(w, runs)
	case FormatHTML:
		err = htmlIndex(w, runs)
	default:
		err = fmt.Errorf("format %q is not known", f)
	}
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	return nil
}

// indexColumns has the columns of the tables.
//
//nolint:gochecknoglobals // a constant table
var indexColumns = []string{"run", "began (UTC)", "experiment", "verdict", "status", "active", "hit", "reason"}

// cells returns the columns of a run.
func (s Summary) cells() []string {
	return []string{s.Run, s.Start(), s.Experiment, s.State(), string(s.Status), s.Active(), s.Hit(), s.Why()}
}

func textIndex(w io.Writer, runs []Summary) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, strings.ToUpper(strings.Join(indexColumns, "\t")))
	for _, s := range runs {
		cells := s.cells()
		for i, cell := range cells {
			cells[i] = oneline.Cell(cell)
		}
		fmt.Fprintln(table, strings.Join(cells, "\t"))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s\n", countInWords(runs))
	return err
}

// indexEntry is a run in the JSON index. Its fields have the names of the JSON
// report.
type indexEntry struct {
	Schema int `json:"schema"`
	Summary
	InjectedSeconds     float64 `json:"injectedSeconds"`
	InjectedSecondsMost float64 `json:"injectedSecondsMost,omitempty"`
}

func jsonIndex(w io.Writer, runs []Summary) error {
	entries := []indexEntry{}
	for _, s := range runs {
		entries = append(entries, indexEntry{Schema: JSONSchema, Summary: s, InjectedSeconds: s.Injected.Seconds(), InjectedSecondsMost: s.InjectedMost.Seconds()})
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(entries)
}

func markdownIndex(w io.Writer, runs []Summary) error {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n\n| | %s |\n|%s\n", countInWords(runs), strings.Join(indexColumns, " | "), strings.Repeat("---|", 1+len(indexColumns)))
	for _, s := range runs {
		cells := s.cells()
		for i, cell := range cells {
			cells[i] = markdownText(cell)
		}
		fmt.Fprintf(&b, "| %s | %s |\n", sign(s.News()), strings.Join(cells, " | "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func htmlIndex(w io.Writer, runs []Summary) error {
	return indexPage.Execute(w, struct {
		Words   string
		Counts  []stateCount
		Left    int
		Columns []string
		Runs    []Summary
	}{countInWords(runs), countStates(runs), countLeft(runs), indexColumns, runs})
}

// Href returns the link, escaped for a page.
func (s Summary) Href() string {
	if s.Link == "" {
		return ""
	}
	return (&url.URL{Path: s.Link}).String()
}

// stateCount is the number of runs in a state.
type stateCount struct {
	State string
	Runs  int
}

// countStates counts the runs in each state, best states first. States without
// runs are left out.
func countStates(runs []Summary) []stateCount {
	var counts []stateCount
	for _, state := range []string{steadystate.Held.String(), steadystate.Deviated.String(), steadystate.Inconclusive.String(), stateUnfinished, stateUnreadable} {
		count := stateCount{State: state}
		for _, s := range runs {
			if s.State() == state {
				count.Runs++
			}
		}
		if count.Runs > 0 {
			counts = append(counts, count)
		}
	}
	return counts
}

// countLeft counts the runs that have left objects behind.
func countLeft(runs []Summary) (count int) {
	for _, s := range runs {
		if len(s.Left) > 0 {
			count++
		}
	}
	return count
}

// countInWords returns the number of runs in each state: "3 runs: 2 held, 1
// deviated; 1 with objects left behind".
func countInWords(runs []Summary) string {
	words := fmt.Sprintf("%d runs", len(runs))
	if len(runs) == 1 {
		words = "1 run"
	}
	separator := ": "
	for _, count := range countStates(runs) {
		words += fmt.Sprintf("%s%d %s", separator, count.Runs, count.State)
		separator = ", "
	}
	if left := countLeft(runs); left > 0 {
		words += fmt.Sprintf("; %d with objects left behind", left)
	}
	return words
}
