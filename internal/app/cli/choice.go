package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// outputFormat is the value of -o.
type outputFormat string

// The formats of plans, live faults and checks.
const (
	outputText outputFormat = "text"
	outputYAML outputFormat = "yaml"
	outputJSON outputFormat = "json"
)

// choice is a flag with a fixed set of values.
type choice[T ~string] struct {
	value   *T
	allowed []T
}

// addChoice adds a flag that takes one of the allowed values. The value that it has
// is the default. The description ends with the list of the values.
func addChoice[T ~string](flags *pflag.FlagSet, value *T, name, shorthand, description string, allowed ...T) {
	flags.VarP(choice[T]{value: value, allowed: allowed}, name, shorthand, fmt.Sprintf("%s (%s)", description, alternatives(allowed)))
}

// addOutput adds the flag -o. The first format is the default.
func addOutput[T ~string](flags *pflag.FlagSet, value *T, allowed ...T) {
	*value = allowed[0]
	addChoice(flags, value, "output", "o", "output format", allowed...)
}

// Set implements pflag.Value.
func (c choice[T]) Set(text string) error {
	if !slices.Contains(c.allowed, T(text)) {
		return errors.New("must be " + alternatives(c.allowed))
	}
	*c.value = T(text)
	return nil
}

// String implements pflag.Value.
func (c choice[T]) String() string {
	if c.value == nil { // pflag calls it on the zero value
		return ""
	}
	return string(*c.value)
}

// Type implements pflag.Value.
func (c choice[T]) Type() string { return "string" }

// alternatives returns the values as a list in words: "text, yaml or json".
func alternatives[T ~string](values []T) string {
	texts := make([]string, len(values))
	for i, value := range values {
		texts[i] = string(value)
	}
	last := len(texts) - 1
	if last < 1 {
		return strings.Join(texts, "")
	}
	return strings.Join(texts[:last], ", ") + " or " + texts[last]
}
