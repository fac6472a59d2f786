package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/squall-chaos/squall/internal/app/cli/args"
	"github.com/squall-chaos/squall/internal/app/cli/process"
)

func newVersionCommand(env Env) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  squall version",
		Args:    args.None,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(env.Stdout, "squall", process.Version())
			return err
		},
	}
}
