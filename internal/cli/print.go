package cli

import (
	"encoding/json"
	"fmt"
	"io"

	"sigs.k8s.io/yaml"
)

// printJSON prints one document.
func printJSON[T any](out io.Writer, document T) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(document)
}

// printYAML prints what printJSON does, as YAML.
func printYAML[T any](out io.Writer, document T) error {
	text, err := yaml.Marshal(document)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s", text)
	return err
}
