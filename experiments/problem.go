package experiments

import (
	"fmt"
	"strings"

	"github.com/squall-chaos/squall/internal/oneline"
)

// Problem is one thing that is wrong with an experiment file.
type Problem struct {
	File string `json:"file"`
	// Line and Column count from 1; 0 means that the file as a whole is meant.
	Line   int `json:"line,omitempty"`
	Column int `json:"column,omitempty"`
	// Path is the field, such as spec.faults[0].percentage.
	Path    string `json:"path,omitempty"`
	Message string `json:"problem"`
	// Remedy says what to write instead, where that is known.
	Remedy string `json:"remedy,omitempty"`
}

// String gives the problem in one line: file:line:column: path: problem (remedy).
// It repeats what the file says, so it escapes what a terminal would obey.
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

// Problems is everything that is wrong with one or more experiment files. It
// is never empty when returned as an error.
type Problems []Problem //nolint:errname // the word that users and docs have for it

// Error gives one line per problem.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}
