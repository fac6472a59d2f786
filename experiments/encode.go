package experiments

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// Encode writes experiments as a file that loads as the same experiments, with fields
// in the order of the format.
func Encode(w io.Writer, all ...Experiment) error {
	encoder := yaml.NewEncoder(w)
	encoder.SetIndent(2)
	for _, e := range all {
		// JSON keeps the order of the fields, and is YAML in another style.
		var plain bytes.Buffer
		asJSON := json.NewEncoder(&plain)
		asJSON.SetEscapeHTML(false)
		if err := asJSON.Encode(e); err != nil {
			return fmt.Errorf("encode experiment %s: %w", e.Metadata.Name, err)
		}
		var document yaml.Node
		if err := yaml.Unmarshal(escapeControls(plain.String()), &document); err != nil {
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

// readsBack reports whether text reads back unchanged in every YAML tool if the
// encoder quotes it where YAML 1.2 requires: a word or a line, a duration, or several
// lines. Some tools read yes, on and 12:30 as other types.
func readsBack(text string) bool {
	return (plainText.MatchString(text) || blockText.MatchString(text)) && !oldTruth.MatchString(text)
}

var (
	plainText = regexp.MustCompile(`^[A-Za-z_/@*"'{(\[][ -~]*$|^[0-9.]+(ms|s|m|h)[0-9smh.]*$`)
	blockText = regexp.MustCompile(`^[!-~][ -~\n]*\n[!-~][ -~\n]*$`)
	oldTruth  = regexp.MustCompile(`^(?i)(y|n|yes|no|on|off)$`)
)

// escapeControls escapes the characters that JSON allows unescaped and YAML does
// not.
func escapeControls(text string) []byte {
	escaped := make([]byte, 0, len(text))
	for _, r := range text {
		if r >= 0x7f && r < 0xa0 || r == 0xfeff {
			escaped = fmt.Appendf(escaped, `\u%04x`, r)
		} else {
			escaped = utf8.AppendRune(escaped, r)
		}
	}
	return escaped
}

// restyle lets the encoder choose how to write each value.
func restyle(node *yaml.Node) {
	if node.Kind == yaml.SequenceNode && len(node.Content) == 0 {
		return
	}
	node.Style = 0
	if node.Kind == yaml.ScalarNode && node.Tag == "!!str" && !readsBack(node.Value) {
		node.Style = yaml.DoubleQuotedStyle
	}
	for _, child := range node.Content {
		restyle(child)
	}
}
