package cli

import (
	"encoding/json"
	"fmt"
	"io"

	"sigs.k8s.io/yaml"

	"github.com/squall-chaos/squall/internal/oneline"
)

// printLine prints one line. It may contain text of a cluster, a server or a file.
func printLine(out io.Writer, format string, args ...any) {
	fmt.Fprintln(out, oneline.Blanked(fmt.Sprintf(format, args...)))
}

// printJSON prints one document.
func printJSON[T any](out io.Writer, document T) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(document)
}

// printYAML prints one document.
func printYAML[T any](out io.Writer, document T) error {
	text, err := yaml.Marshal(document)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s", text)
	return err
}

// counted returns a number of things in words: "1 argument", "2 arguments".
func counted(number int, thing string) string {
	if number == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", number, thing)
}
