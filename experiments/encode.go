package experiments

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"gopkg.in/yaml.v3"
)

// Encode writes experiments as a file that loads to the same experiments, in
// the order of the format's fields.
func Encode(w io.Writer, all ...Experiment) error {
	encoder := yaml.NewEncoder(w)
	encoder.SetIndent(2)
	for _, e := range all {
		// JSON has the fields in order, and is YAML in another style.
		var plain bytes.Buffer
		asJSON := json.NewEncoder(&plain)
		asJSON.SetEscapeHTML(false)
		if err := asJSON.Encode(e); err != nil {
			return fmt.Errorf("encode experiment %s: %w", e.Metadata.Name, err)
		}
		var document yaml.Node
		if err := yaml.Unmarshal(plain.Bytes(), &document); err != nil {
			return fmt.Errorf("encode experiment %s: %w", e.Metadata.Name, err)
		}
		restyle(&document)
		if err := encoder.Encode(&document); err != nil {
			return fmt.Errorf("encode experiment %s: %w", e.Metadata.Name, err)
		}
	}
	if err := encoder.Close(); err != nil {
		return fmt.Errorf("encode experiments: %w", err)
	}
	return nil
}

// restyle lets the encoder choose how to write each value.
func restyle(node *yaml.Node) {
	if node.Kind == yaml.SequenceNode && len(node.Content) == 0 {
		return
	}
	node.Style = 0
	for _, child := range node.Content {
		restyle(child)
	}
}
