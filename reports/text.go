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
	if err := probeTable(&b, run); err != nil {
		return err
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("text report: %w", err)
	}
	return nil
}

// probeTable writes a line for each probe and phase that was measured.
func probeTable(b *strings.Builder, run Run) error {
	rows := run.judgements()
	if len(rows) == 0 {
		return nil
	}
	b.WriteString("\n")
	table := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "  PROBE\tTOLERANCE\tPHASE\tVERDICT\tLOWEST\tHIGHEST\tLAST\tMEASURED")
	for _, row := range rows {
		fmt.Fprintf(table, "  %s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\n", oneline.Cell(row.Probe), row.Tolerance, row.Phase, row.verdict(), row.Lowest, row.Highest, oneline.Cell(row.Last), row.Count)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("text report: %w", err)
	}
	return nil
}
