package cli

import (
	"github.com/spf13/cobra"

	"github.com/squall-chaos/squall/internal/app/selection"
	"github.com/squall-chaos/squall/internal/app/starter"
)

func newInitCommand(env Env) *cobra.Command {
	var from string
	var list bool
	command := &cobra.Command{
		Use:   "init [FILE]",
		Short: "Write a first experiment file, or one of the library",
		Long: `Init writes an experiment with comments, to experiment.yaml or to the named file,
or to the standard output for -. It does not overwrite files. Lines that need
your names are marked ` + starter.ChangeMark + `.`,
		Example: `  squall init
  squall init --list
  squall init --from-library dependency-outage outage.yaml`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, arguments []string) error {
			if list {
				return starter.List(env.Stdout)
			}
			content, name, err := starter.Content(from)
			if err != nil {
				return err
			}
			if len(arguments) == 1 {
				name = arguments[0]
			}
			if name == selection.Stdin {
				_, err := env.Stdout.Write(content)
				return err
			}
			return starter.Write(env.Stdout, name, content)
		},
	}
	command.Flags().StringVar(&from, "from-library", "", "write this experiment of the library")
	command.Flags().BoolVar(&list, "list", false, "list the experiments of the library")
	return command
}
