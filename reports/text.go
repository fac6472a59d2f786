package reports

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/squall-chaos/squall/internal/oneline"
)

// Text writes a summary for a terminal, plain enough to paste into a chat.
func Text(w io.Writer, run Run) error {
	var b strings.Builder
	e := run.Experiment
	fmt.Fprintf(&b, "%s: %s\n", oneline.Cell(e.Metadata.Name), oneline.Cell(run.Outcome()))
	if e.Spec.Title != "" {
		fmt.Fprintf(&b, "  %s\n", oneline.Cell(e.Spec.Title))
	}
	b.WriteString("\n")
	facts := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, f := range run.facts() {
		fmt.Fprintf(facts, "  %s\t%s\n", f.Name, oneline.Cell(f.Value))
	}
	if err := facts.Flush(); err != nil {
		return fmt.Errorf("text report: %w", err)
	}
	probeTable(&b, run)
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("text report: %w", err)
	}
	return nil
}

// probeTable writes a line for each probe and for each phase in which it was measured.
// The numbers fit a terminal of 80 columns; why there is no number has another line.
func probeTable(b *strings.Builder, run Run) {
	const columns = "    %-6s  %-12s  %9s  %9s  %9s  %8v\n"
	rows := run.judgements()
	for i, row := range rows {
		if i == 0 {
			fmt.Fprintf(b, "\n"+columns, "PHASE", "VERDICT", "LOWEST", "HIGHEST", "LAST", "MEASURED")
		}
		if i == 0 || row.Probe != rows[i-1].Probe {
			fmt.Fprintf(b, "  %s: %s\n", oneline.Cell(row.Probe), row.Tolerance)
		}
		last := row.Last
		if row.missing != "" {
			last = "-"
		}
		fmt.Fprintf(b, columns, row.Phase, row.verdict(), row.Lowest, row.Highest, last, row.Count)
		if row.missing != "" {
			fmt.Fprintf(b, "      last: %s\n", oneline.Cell(row.missing))
		}
	}
}
