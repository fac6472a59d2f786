// Package args checks the arguments of commands.
package args

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/squall-chaos/squall/internal/hint"
)

// None rejects arguments of a command that takes none.
func None(command *cobra.Command, arguments []string) error {
	if len(arguments) > 0 {
		return fmt.Errorf("%s takes no arguments, got %q", command.CommandPath(), arguments[0])
	}
	return nil
}

// Exactly rejects any other number of arguments. The error says what is wanted, and the
// hint is an example.
func Exactly(number int, wanted, example string) cobra.PositionalArgs {
	return func(_ *cobra.Command, arguments []string) error {
		if got := len(arguments); got != number {
			return hint.With(fmt.Errorf("want %s, got %d", wanted, got), example)
		}
		return nil
	}
}

// Files rejects commands without a file.
func Files(command string) cobra.PositionalArgs {
	return func(_ *cobra.Command, files []string) error {
		if len(files) == 0 {
			return hint.With(errors.New("no experiment file is named"), command+" FILE...; squall init writes a first file")
		}
		return nil
	}
}
