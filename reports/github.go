package reports

import (
	"fmt"
	"io"
	"strings"

	"github.com/squall-chaos/squall/runner/event"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// Annotation writes a workflow command of GitHub Actions that shows the result on
// the page of the job.
func Annotation(w io.Writer, run Run) error {
	level, reason := "warning", ""
	if result := run.Result; result != nil {
		reason = result.Reason
		switch {
		case len(result.Left) > 0 || result.StillHit || result.Verdict == steadystate.Deviated:
			level = "error"
		case result.Verdict == steadystate.Held && result.Status == event.StatusCompleted:
			level = "notice"
		}
	}
	_, err := fmt.Fprintf(w, "::%s title=%s::%s\n", level, workflowProperty.Replace("squall "+run.Experiment.Metadata.Name), workflowText.Replace(strings.Trim(run.Outcome()+": "+reason, ": ")))
	return err
}

// FileAnnotation writes the workflow command by which GitHub Actions shows an error at a
// place in a file. A line of 0 is the file as a whole.
func FileAnnotation(w io.Writer, file string, line, column int, message string) error {
	place := "file=" + workflowProperty.Replace(file)
	if line > 0 {
		place += fmt.Sprintf(",line=%d,col=%d", line, column)
	}
	_, err := fmt.Fprintf(w, "::error %s,title=squall::%s\n", place, workflowText.Replace(message))
	return err
}

// A workflow command ends at the end of the line, and its properties at a comma or
// a colon. See toolkit/packages/core/src/command.ts of GitHub Actions.
//
//nolint:gochecknoglobals // constant tables
var (
	workflowText     = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	workflowProperty = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
)
