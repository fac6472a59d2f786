package cli

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"

	"github.com/squall-chaos/squall/internal/app/cli/flag"
	"github.com/squall-chaos/squall/internal/app/cli/serving"
)

const servePage = "../../../docs/serve.md"

var flagsBlock = regexp.MustCompile(`(?ms)^<!-- flags of squall serve -->\n(.*?)^<!-- end -->$`)

// The table of flags is the one of the command. With -update it is written again.
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
		t.Errorf("%s is not current; go test ./internal/app/cli -update writes it (-want +got):\n%s", servePage, difference)
	}
}

// serveFlagsTable leaves out kubectl's flags.
func serveFlagsTable() string {
	kubectl := pflag.NewFlagSet("", pflag.ContinueOnError)
	(&flag.Cluster{}).Add(kubectl, "any")
	var b strings.Builder
	b.WriteString("| flag | what it is | default |\n|---|---|---|\n")
	serving.New(Env{}).Flags().VisitAll(func(f *pflag.Flag) {
		if kubectl.Lookup(f.Name) != nil || f.Deprecated != "" {
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

const pipelinesPage = "../../../docs/ci.md"

var yamlBlock = regexp.MustCompile("(?ms)^```yml\n(.*?)^```$")

// A shell does not pass on the signal of a canceled job, so the script must end in
// exec. A secret in the text of a script would be run.
func TestDocumentedPipelinesEndInSquall(t *testing.T) {
	content, err := os.ReadFile(pipelinesPage)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, block := range yamlBlock.FindAllSubmatch(content, -1) {
		var pipeline any
		if err := yaml.Unmarshal(block[1], &pipeline); err != nil {
			t.Fatalf("%v\n%s", err, block[1])
		}
		eachScript(pipeline, func(script string) {
			if strings.Contains(script, "${{") {
				t.Errorf("GitHub writes into the text of the script\n%s", script)
			}
			lines := strings.Split(strings.TrimSpace(script), "\n")
			if !strings.Contains(script, "squall run") {
				return
			}
			seen++
			if last := lines[len(lines)-1]; !strings.HasPrefix(last, "exec squall run ") {
				t.Errorf("the script ends in %q", last)
			}
		})
	}
	if seen != 3 {
		t.Errorf("%d scripts run squall", seen)
	}
}

// eachScript calls found with each text that a shell runs.
func eachScript(pipeline any, found func(script string)) {
	switch node := pipeline.(type) {
	case []any:
		for _, item := range node {
			eachScript(item, found)
		}
	case map[string]any:
		for key, value := range node {
			if script, ok := value.(string); ok && (key == "run" || key == "script") {
				found(script)
			}
			eachScript(value, found)
		}
	}
}
