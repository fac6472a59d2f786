package reports

import (
	"fmt"
	"io"
)

// Format is a format of reports.
type Format string

// The formats of reports.
const (
	FormatText     Format = "text"
	FormatJSON     Format = "json"
	FormatMarkdown Format = "md"
	FormatJUnit    Format = "junit"
	FormatHTML     Format = "html"
)

// Formats returns the formats of reports.
func Formats() []Format {
	return []Format{FormatText, FormatJSON, FormatMarkdown, FormatJUnit, FormatHTML}
}

// FileName returns the name of a report of the format in a run's directory.
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

// Write renders the report of a run. It returns an error if w fails, or if the
// format is unknown.
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
