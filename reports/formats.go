package reports

import (
	"fmt"
	"io"
	"slices"
	"strings"
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

// ParseFormat reads the name of a form.
func ParseFormat(name string) (Format, error) {
	if f := Format(name); slices.Contains(Formats(), f) {
		return f, nil
	}
	var names []string
	for _, f := range Formats() {
		names = append(names, string(f))
	}
	return "", fmt.Errorf("report format %q is not known: %s", name, strings.Join(names, ", "))
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
