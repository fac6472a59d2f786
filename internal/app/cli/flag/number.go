package flag

import (
	"errors"
	"strconv"

	"github.com/spf13/pflag"
)

// number is a flag with a number.
type number struct{ value *float64 }

// Number adds a flag that takes a number. The value that it has is the default.
func Number(flags *pflag.FlagSet, value *float64, name, description string) {
	flags.Var(number{value: value}, name, description)
}

// Set implements pflag.Value.
func (n number) Set(text string) error {
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return errors.New("want a number, such as 10")
	}
	*n.value = value
	return nil
}

// String implements pflag.Value.
func (n number) String() string {
	if n.value == nil { // pflag calls it on the zero value
		return ""
	}
	return strconv.FormatFloat(*n.value, 'f', -1, 64)
}

// Type implements pflag.Value.
func (n number) Type() string { return "float" }
