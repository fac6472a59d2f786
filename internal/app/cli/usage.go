package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/squall-chaos/squall/internal/app/cli/flag"
)

// printUsage prints the usage of a command: its own flags first, and the flags of kubectl
// in a group below.
func printUsage(command *cobra.Command) error {
	out := command.OutOrStderr()
	fmt.Fprintf(out, "Usage:\n  %s\n", command.UseLine())
	if command.HasExample() {
		fmt.Fprintf(out, "\nExamples:\n%s\n", command.Example)
	}
	if command.HasAvailableSubCommands() {
		fmt.Fprintf(out, "\nCommands:\n")
		for _, one := range command.Commands() {
			if one.IsAvailableCommand() {
				fmt.Fprintf(out, "  %-10s  %s\n", one.Name(), one.Short)
			}
		}
		fmt.Fprintf(out, "\n%s COMMAND --help describes a command.\n", command.CommandPath())
	}
	own, kubectl := pflag.NewFlagSet("", pflag.ContinueOnError), pflag.NewFlagSet("", pflag.ContinueOnError)
	command.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if flag.OfKubectl(f) {
			kubectl.AddFlag(f)
		} else {
			own.AddFlag(f)
		}
	})
	printFlags(out, "Flags", own)
	printFlags(out, "Flags that choose the cluster, as for kubectl", kubectl)
	return nil
}

func printFlags(out io.Writer, title string, flags *pflag.FlagSet) {
	if usages := strings.TrimRight(flags.FlagUsages(), "\n"); usages != "" {
		fmt.Fprintf(out, "\n%s:\n%s\n", title, usages)
	}
}
