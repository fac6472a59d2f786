// Package oneline makes text from files, clusters and servers safe to print. Its
// results are a single line, do not move the cursor of a terminal, and contain no
// workflow command for a CI job.
package oneline

import (
	"cmp"
	"strconv"
	"strings"
	"unicode"
)

// Blanked replaces non-printable characters by spaces. Control and bidi characters
// could move the cursor or reorder the text.
func Blanked(text string) string {
	return withoutCommands(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text))
}

// Cell makes a text safe for a cell of a table. An empty text becomes a dash.
func Cell(text string) string { return cmp.Or(Blanked(text), "-") }

// Escaped replaces non-printable characters by escapes, such as \n. Different
// names remain different.
func Escaped(text string) string {
	var b strings.Builder
	for _, r := range text {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		}
	}
	return withoutCommands(b.String())
}

// withoutCommands breaks the workflow commands of GitHub Actions: ::error:: at
// the beginning of a line, also after spaces, and ##[error] anywhere.
func withoutCommands(line string) string {
	line = strings.ReplaceAll(line, "##[", "## [")
	if command := strings.TrimLeft(line, " "); strings.HasPrefix(command, "::") {
		return line[:len(line)-len(command)] + ": " + command[1:]
	}
	return line
}
