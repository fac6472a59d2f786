package strictyaml

import (
	"encoding"
	"fmt"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/squall-chaos/squall/internal/nearest"
)

// Number returns the value of a node that is a finite decimal number; ok is false for
// other nodes.
func Number(node *yaml.Node) (n float64, ok bool) {
	if node.Kind != yaml.ScalarNode || node.Tag != "!!int" && node.Tag != "!!float" {
		return 0, false
	}
	value, err := strconv.ParseFloat(node.Value, 64)
	return value, err == nil && decimal.MatchString(node.Value)
}

// Text decodes a node into a value that reads itself from text. In messages, want is
// the name of the value's form.
func (l *Decoder) Text(node *yaml.Node, path string, into encoding.TextUnmarshaler, want, remedy string) {
	if node.Kind != yaml.ScalarNode || node.Tag != "!!str" && node.Tag != "!!timestamp" {
		l.Report(path, fmt.Sprintf("want %s, found %s", want, Describe(node)), remedy)
		return
	}
	if err := into.UnmarshalText([]byte(node.Value)); err != nil {
		l.Report(path, err.Error(), remedy)
	}
}

// Suggest returns a remedy for an unknown name: the known one that it resembles most,
// or all of them if it resembles none.
func Suggest(unknown string, names []string) string {
	if best := nearest.Of(unknown, names); best != "" {
		return fmt.Sprintf("did you mean %s?", best)
	}
	return "known here: " + strings.Join(names, ", ")
}
