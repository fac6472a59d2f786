package cli

import (
	"github.com/spf13/cobra"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/app/cli/args"
)

func newSchemaCommand(env Env) *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of experiment files",
		Long: `Schema prints the JSON Schema (2020-12) of an experiment document. An editor with
the YAML language server completes and checks files that begin with this line:

  # yaml-language-server: $schema=squall.schema.json`,
		Example: "  squall schema > squall.schema.json",
		Args:    args.None,
		RunE: func(*cobra.Command, []string) error {
			schema, err := experiments.Schema()
			if err != nil {
				return err
			}
			_, err = env.Stdout.Write(schema)
			return err
		},
	}
}
