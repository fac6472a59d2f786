package cli

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

const servePage = "../../docs/serve.md"

var flagsBlock = regexp.MustCompile(`(?ms)^<!-- flags of squall serve -->\n(.*?)^<!-- end -->$`)

// The table of flags is that of the command. With -update it is written anew.
func TestDocumentedServeFlagsAreCurrent(t *testing.T) {
	content, err := os.ReadFile(servePage)
	if err != nil {
		t.Fatal(err)
	}
	if !flagsBlock.Match(content) {
		t.Fatalf("%s has no place for the flags", servePage)
	}
	want := flagsBlock.ReplaceAllLiteralString(string(content), "<!-- flags of squall serve -->\n\n"+serveFlagsTable()+"\n<!-- end -->")
	if *update {
		if err := os.WriteFile(servePage, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	} else if difference := cmp.Diff(want, string(content)); difference != "" {
		t.Errorf("%s is not current; go test ./internal/cli -update writes it (-want +got):\n%s", servePage, difference)
	}
}

// serveFlagsTable leaves out kubectl's flags.
func serveFlagsTable() string {
	kubectl := pflag.NewFlagSet("", pflag.ContinueOnError)
	(&kubeconfig{}).add(kubectl)
	var b strings.Builder
	b.WriteString("| flag | what it is | default |\n|---|---|---|\n")
	newServeCommand(Env{}, new(int)).Flags().VisitAll(func(f *pflag.Flag) {
		if kubectl.Lookup(f.Name) != nil {
			return
		}
		fallback := ""
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" {
			fallback = "`" + f.DefValue + "`"
		}
		fmt.Fprintf(&b, "| `--%s` | %s | %s |\n", f.Name, f.Usage, fallback)
	})
	return b.String()
}
