package files_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/experiments/files"
)

// pages lists the documentation.
func pages(t *testing.T) []string {
	t.Helper()
	found := []string{"../../README.md"}
	for _, pattern := range []string{"../../docs/*.md", "../../docs/*/*.md"} {
		more, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, more...)
	}
	if len(found) < 5 {
		t.Fatalf("only %v", found)
	}
	return found
}

// fenced is a snippet of the documentation.
type fenced struct{ where, text string }

var fence = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")

// snippets returns the documentation's snippets in a language.
func snippets(t *testing.T, language string) []fenced {
	t.Helper()
	var all []fenced
	for _, page := range pages(t) {
		content, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range fence.FindAllSubmatchIndex(content, -1) {
			if string(content[found[2]:found[3]]) == language {
				where := fmt.Sprintf("%s:%d", page, 1+strings.Count(string(content[:found[0]]), "\n"))
				all = append(all, fenced{where, string(content[found[4]:found[5]])})
			}
		}
	}
	if len(all) < 10 {
		t.Errorf("only %d snippets in %s", len(all), language)
	}
	return all
}

// Every YAML snippet of the documentation loads: as it is, or, when it shows
// only a part, in the spec of a minimal experiment.
func TestSnippetsLoad(t *testing.T) {
	for _, s := range snippets(t, "yaml") {
		if !strings.Contains(s.text, "apiVersion:") {
			s.text = inMinimal(t, s.where, s.text)
		}
		if _, err := files.Load(s.where, strings.NewReader(s.text)); err != nil {
			t.Errorf("%v", err)
		}
	}
}

// Every PromQL snippet of the documentation can be the query of a probe.
func TestQueriesLoad(t *testing.T) {
	for _, s := range snippets(t, "promql") {
		probe := fmt.Sprintf("steadyState: {probes: [{name: a query, min: 1, query: %q}]}", s.text)
		if _, err := files.Load(s.where, strings.NewReader(inMinimal(t, s.where, probe))); err != nil {
			t.Errorf("%v", err)
		}
	}
}

// inMinimal puts parts of a spec into a minimal experiment.
func inMinimal(t *testing.T, where, parts string) string {
	t.Helper()
	var whole, part map[string]any
	if err := yaml.Unmarshal([]byte(minimal), &whole); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(parts), &part); err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	spec, ok := whole["spec"].(map[string]any)
	if !ok {
		t.Fatal("the minimal experiment has no spec")
	}
	maps.Copy(spec, part)
	encoded, err := yaml.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	return string(encoded)
}

var table = regexp.MustCompile(`(?ms)^<!-- fields of (\w+) -->\n(.*?)^<!-- end -->$`)

// The tables of the reference pages match the types. With -update they are
// written again.
func TestReferenceTablesAreCurrent(t *testing.T) {
	text, err := experiments.Schema()
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Definitions map[string]definition `json:"$defs"`
	}
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, page := range pages(t) {
		content, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		current := table.ReplaceAllFunc(content, func(block []byte) []byte {
			name := string(table.FindSubmatch(block)[1])
			d, known := schema.Definitions[name]
			if !known {
				t.Errorf("%s: there is no type %s", page, name)
			}
			documented[name] = true
			return fmt.Appendf(nil, "<!-- fields of %s -->\n%s<!-- end -->", name, d.table())
		})
		if *update {
			if err := os.WriteFile(page, current, 0o600); err != nil {
				t.Fatal(err)
			}
		} else if diff := cmp.Diff(string(content), string(current)); diff != "" {
			t.Errorf("%s is not current; go test ./experiments -update writes it: %s", page, diff)
		}
	}
	for name := range schema.Definitions {
		if !documented[name] {
			t.Errorf("no reference page has the fields of %s", name)
		}
	}
}

// definition is a type in the schema.
type definition struct {
	Properties map[string]struct {
		Description string `json:"description"`
		Type        string `json:"type"`
		Ref         string `json:"$ref"`
		Default     any    `json:"default"`
		Enum        []any  `json:"enum"`
	} `json:"properties"`
	Required []string `json:"required"`
}

func (d definition) table() string {
	var b strings.Builder
	b.WriteString("\n| field | what it is | default |\n|---|---|---|\n")
	var names []string
	for name := range d.Properties {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		p := d.Properties[name]
		fallback := ""
		switch {
		case slices.Contains(d.Required, name):
			fallback = "required"
		case p.Default != nil:
			fallback = fmt.Sprintf("`%v`", p.Default)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", name, p.Description, fallback)
	}
	b.WriteString("\n")
	return b.String()
}
