package reports

import (
	"fmt"
	"io"
	"strings"

	"github.com/squall-chaos/squall/internal/oneline"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// Markdown writes a summary for a pull request or a job summary.
func Markdown(w io.Writer, r Run) error {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s %s: %s\n", sign(r.news()), markdownText(r.Experiment.Metadata.Name), markdownText(r.Outcome()))
	if title := r.Experiment.Spec.Title; title != "" {
		fmt.Fprintf(&b, "\n%s\n", markdownText(title))
	}
	b.WriteString("\n| | |\n|---|---|\n")
	for _, f := range r.facts() {
		fmt.Fprintf(&b, "| %s | %s |\n", f.Name, markdownText(f.Value))
	}
	if rows := r.judgements(); len(rows) > 0 {
		b.WriteString("\n| probe | tolerance | phase | verdict | lowest | highest | last | measured |\n|---|---|---|---|---|---|---|---|\n")
		for _, j := range rows {
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s | %d |\n", markdownText(j.Probe), markdownText(j.Tolerance), j.Phase, j.verdict(), j.Lowest, j.Highest, markdownText(j.Last), j.Count)
		}
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("markdown report: %w", err)
	}
	return nil
}

// sign returns an emoji for a state.
func sign(news string) string {
	switch news {
	case steadystate.Held.String():
		return "✅"
	case steadystate.Deviated.String():
		return "❌"
	default:
		return "⚪"
	}
}

// markdownText escapes a text for a Markdown table. Names and messages come from
// files and servers.
func markdownText(s string) string {
	return markdownEscaper.Replace(strings.Join(strings.Fields(oneline.Blanked(s)), " "))
}

//nolint:gochecknoglobals // a constant table
var markdownEscaper = strings.NewReplacer(`\`, `\\`, "|", `\|`, "`", "\\`", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "<", "&lt;", ">", "&gt;", "#", `\#`, "@", "&#64;")
