package reports

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/squall-chaos/squall/internal/oneline"
)

// WriteBatch writes a table of runs that followed one another, for a terminal.
func WriteBatch(w io.Writer, runs []Summary) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "EXPERIMENT\tVERDICT\tSTATUS\tACTIVE\tHIT")
	for _, s := range runs {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", oneline.Cell(s.Experiment), s.State(), s.Status, s.Active(), s.Hit())
	}
	fmt.Fprintf(table, "\n%s\n", countInWords(runs))
	return table.Flush()
}
