// Package oneline makes text from files, clusters and servers safe to print. What
// it gives moves no cursor, is one line, and is no command to the runner of a
// CI job that reads along.
package oneline

import (
	"strconv"
	"strings"
	"unicode"
)

// Blanked puts blanks where a text has what no line shows: control characters move
// the cursor of a terminal, and turn text around.
func Blanked(text string) string {
	return withoutCommands(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text))
}

// Escaped puts escapes, such as \n, where a text has what no line shows. Names
// that differ still differ.
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
// the beginning of a line, also after blanks, and ##[error] anywhere.
func withoutCommands(line string) string {
	line = strings.ReplaceAll(line, "##[", "## [")
	if command := strings.TrimLeft(line, " "); strings.HasPrefix(command, "::") {
		return line[:len(line)-len(command)] + ": " + command[1:]
	}
	return line
}
