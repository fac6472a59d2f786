package reports

import (
	"fmt"
	"io"
)

// Format is a form of report.
type Format string

// The forms of reports.
const (
	FormatText     Format = "text"
	FormatJSON     Format = "json"
	FormatMarkdown Format = "md"
	FormatJUnit    Format = "junit"
	FormatHTML     Format = "html"
)

// Formats lists the forms of reports.
func Formats() []Format {
	return []Format{FormatText, FormatJSON, FormatMarkdown, FormatJUnit, FormatHTML}
}

// FileName is the name of a report of the form in a run's folder.
func (f Format) FileName() string {
	switch f {
	case FormatText:
		return "report.txt"
	case FormatJUnit:
		return "junit.xml"
	case FormatJSON, FormatMarkdown, FormatHTML:
		return "report." + string(f)
	default:
		return "report"
	}
}

// Write renders a report.
func Write(w io.Writer, f Format, run Run) error {
	switch f {
	case FormatText:
		return Text(w, run)
	case FormatJSON:
		return JSON(w, run)
	case FormatMarkdown:
		return Markdown(w, run)
	case FormatJUnit:
		return JUnit(w, run)
	case FormatHTML:
		return HTML(w, run)
	default:
		return fmt.Errorf("report format %q is not known", f)
	}
}
