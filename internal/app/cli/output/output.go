// Package output prints the results and the errors of commands.
package output

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/internal/oneline"
)

// Line prints one line. It may contain text of a cluster, a server or a file.
func Line(out io.Writer, format string, args ...any) {
	fmt.Fprintln(out, oneline.Blanked(fmt.Sprintf(format, args...)))
}

// JSON prints one document.
func JSON[T any](out io.Writer, document T) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(document)
}

// YAML prints one document.
func YAML[T any](out io.Writer, document T) error {
	text, err := yaml.Marshal(document)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s", text)
	return err
}

// Counted returns a number of things in words: "1 argument", "2 arguments".
func Counted(number int, thing string) string {
	if number == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", number, thing)
}

// Error prints an error, and its hint on another line.
func Error(w io.Writer, err error) {
	fmt.Fprintf(w, "squall: %s\n", lined(err.Error()))
	if text := hint.Of(err); text != "" {
		fmt.Fprintf(w, "hint: %s\n", lined(text))
	}
}

// lined removes the control characters of a text but keeps its lines: errors contain
// text of servers. Lines after the first are indented, so that they do not look like
// messages of Squall.
func lined(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = oneline.Blanked(line)
		if i > 0 && line != "" {
			lines[i] = "  " + lines[i]
		}
	}
	return strings.Join(lines, "\n")
}
