package cli

import (
	stdflag "flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/squall-chaos/squall/internal/app/cli/flag"
)

var helpFile = stdflag.String("write", "", "file to write the help texts to")

// Every command has a help with an example, and every flag a description. With
// -args -write FILE all texts are written to a file, for a check of the language.
func TestHelpTexts(t *testing.T) {
	var texts strings.Builder
	root := newRootCommand(Env{})
	for _, command := range append([]*cobra.Command{root}, root.Commands()...) {
		checkHelp(t, command)
		writeHelp(&texts, command)
	}
	if *helpFile == "" {
		return
	}
	if err := os.MkdirAll(filepath.Dir(*helpFile), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(*helpFile, []byte(texts.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

func checkHelp(t *testing.T, command *cobra.Command) {
	t.Helper()
	name := command.CommandPath()
	if command.Short == "" || strings.HasSuffix(command.Short, ".") {
		t.Errorf("%s: the summary %q is empty or ends in a full stop", name, command.Short)
	}
	if !strings.Contains(command.Example, "  squall") {
		t.Errorf("%s has no example", name)
	}
	for line := range strings.Lines(command.Long) {
		if len([]rune(line)) > 84 {
			t.Errorf("%s: a line is longer than a terminal: %q", name, line)
		}
	}
	command.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Usage == "" {
			t.Errorf("%s: --%s has no description", name, f.Name)
		}
	})
}

// writeHelp writes the texts of a command, without the flags of kubectl.
func writeHelp(texts *strings.Builder, command *cobra.Command) {
	fmt.Fprintf(texts, "%s\n\n%s.\n\n%s\n\n", command.CommandPath(), command.Short, command.Long)
	kubectl := pflag.NewFlagSet("", pflag.ContinueOnError)
	(&flag.Cluster{}).Add(kubectl, "")
	command.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if kubectl.Lookup(f.Name) == nil {
			fmt.Fprintf(texts, "--%s: %s.\n\n", f.Name, f.Usage)
		}
	})
}
