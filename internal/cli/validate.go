package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/squall-chaos/squall/experiments"
)

// validation is what `squall validate -o json` prints.
type validation struct {
	Valid       bool                 `json:"valid"`
	Experiments []validExperiment    `json:"experiments"`
	Problems    experiments.Problems `json:"problems"`
}

type validExperiment struct {
	File string `json:"file"`
	Name string `json:"name"`
}

func newValidateCommand(env Env, code *int) *cobra.Command {
	var output string
	var quiet bool
	command := &cobra.Command{
		Use:   "validate FILE...",
		Short: "Check experiment files, without any cluster",
		Long: `Validate checks files, the .yaml and .yml files of directories, and the standard
input (-). It needs no cluster and no network. Each problem is one line on
stderr:

  FILE:LINE:COLUMN: PATH: PROBLEM (REMEDY)

Exit codes: 0 all are valid, 2 any is not.`,
		Example: `  squall validate experiments/
  cat outage.yaml | squall validate -
  squall validate -o json outage.yaml`,
		Args: needFiles("squall validate"),
		RunE: func(_ *cobra.Command, arguments []string) error {
			if output != "text" && output != "json" {
				return fmt.Errorf("-o %s is neither text nor json", output)
			}
			all, problems := loadFiles(env, arguments)
			if len(problems) > 0 {
				*code = exitUsage
			}
			if output == "json" {
				return printValidation(env, all, problems)
			}
			if len(problems) > 0 {
				fmt.Fprintln(env.Stderr, problems.Error())
			}
			if !quiet && len(problems) == 0 {
				for _, l := range all {
					fmt.Fprintf(env.Stdout, "%s: %s is valid\n", l.file, l.Metadata.Name)
				}
			}
			return nil
		},
	}
	command.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	command.Flags().BoolVarP(&quiet, "quiet", "q", false, "print problems only")
	return command
}

func printValidation(env Env, all []loaded, problems experiments.Problems) error {
	result := validation{Valid: len(problems) == 0, Experiments: []validExperiment{}, Problems: problems}
	if problems == nil {
		result.Problems = experiments.Problems{}
	}
	for _, l := range all {
		result.Experiments = append(result.Experiments, validExperiment{l.file, l.Metadata.Name})
	}
	return printJSON(env.Stdout, result)
}

func newSchemaCommand(env Env) *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of experiment files",
		Long: `Schema prints the JSON Schema (2020-12) of an experiment document. An editor with
the YAML language server completes and checks files that begin with

  # yaml-language-server: $schema=squall.schema.json`,
		Example: "  squall schema > squall.schema.json",
		Args:    cobra.NoArgs,
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
