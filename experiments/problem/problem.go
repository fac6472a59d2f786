// Package problem reports what is wrong with a file: everything at once, each with
// its position and what to write instead.
package problem

import (
	"fmt"
	"strings"

	"github.com/squall-chaos/squall/internal/oneline"
)

// Problem is one mistake in a file.
type Problem struct {
	File string `json:"file"`
	// Line and Column count from 1; 0 means the file as a whole.
	Line   int `json:"line,omitempty"`
	Column int `json:"column,omitempty"`
	// Path is the field, such as spec.faults[0].percentage.
	Path    string `json:"path,omitempty"`
	Message string `json:"problem"`
	// Remedy is what to write instead, if that is known.
	Remedy string `json:"remedy,omitempty"`
}

// String returns the problem as one line: file:line:column: path: problem (remedy).
// Control characters, which may come from the file, are escaped.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	b.WriteString(": ")
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Message)
	if p.Remedy != "" {
		b.WriteString(" (" + p.Remedy + ")")
	}
	return oneline.Escaped(b.String())
}

// List is everything that is wrong with one or more files. It is never empty when it
// is returned as an error.
type List []Problem //nolint:errname // the plural of Problem

// Error returns one line per problem.
func (ps List) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}
