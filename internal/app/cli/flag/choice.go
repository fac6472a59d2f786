// Package flag has the flags that several commands of the command line share.
package flag

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// Format is an output format, the value of -o.
type Format string

// The formats of plans, live faults and checks.
const (
	Text Format = "text"
	YAML Format = "yaml"
	JSON Format = "json"
)

// choice is a flag with a fixed set of values.
type choice[T ~string] struct {
	value   *T
	allowed []T
}

// Choice adds a flag that takes one of the allowed values. The value that it has
// is the default. The description ends with the list of the values.
func Choice[T ~string](flags *pflag.FlagSet, value *T, name, shorthand, description string, allowed ...T) {
	flags.VarP(choice[T]{value: value, allowed: allowed}, name, shorthand, fmt.Sprintf("%s (%s)", description, alternatives(allowed)))
}

// Output adds the flag -o. The first format is the default.
func Output[T ~string](flags *pflag.FlagSet, value *T, allowed ...T) {
	*value = allowed[0]
	Choice(flags, value, "output", "o", "output format", allowed...)
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

// choices is a flag with values of a fixed set, separated by commas.
type choices[T ~string] struct {
	values  *[]T
	allowed []T
}

// Choices adds a flag that takes some of the allowed values, separated by commas. The
// description ends with the list of the values.
func Choices[T ~string](flags *pflag.FlagSet, values *[]T, name, description string, allowed ...T) {
	flags.Var(choices[T]{values: values, allowed: allowed}, name, fmt.Sprintf("%s, separated by commas (%s)", description, alternatives(allowed)))
}

// Set implements pflag.Value.
func (c choices[T]) Set(text string) error {
	for name := range strings.SplitSeq(text, ",") {
		value := T(strings.TrimSpace(name))
		if !slices.Contains(c.allowed, value) {
			return errors.New("must be " + alternatives(c.allowed))
		}
		*c.values = append(*c.values, value)
	}
	return nil
}

// String implements pflag.Value.
func (c choices[T]) String() string {
	if c.values == nil { // pflag calls it on the zero value
		return ""
	}
	texts := make([]string, len(*c.values))
	for i, value := range *c.values {
		texts[i] = string(value)
	}
	return strings.Join(texts, ",")
}

// Type implements pflag.Value.
func (c choices[T]) Type() string { return "list" }
