// Package layout_test checks that docs/ARCHITECTURE.md and the import rules in
// .golangci.yml are complete, and that links in documents lead somewhere.
package layout_test

import (
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

const root = "../.."

// packages returns the directories of all packages of the module.
func packages(t *testing.T) []string {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.Dir}}", "./...")
	command.Dir = root
	out, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	top, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for directory := range strings.FieldsSeq(string(out)) {
		relative, err := filepath.Rel(top, directory)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, filepath.ToSlash(relative))
	}
	return all
}

func read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// Every package has a line in the table of packages.
func TestEveryPackageIsDocumented(t *testing.T) {
	page := read(t, "docs/ARCHITECTURE.md")
	for _, p := range packages(t) {
		if !strings.Contains(page, "\n| `"+p+"` | ") {
			t.Errorf("docs/ARCHITECTURE.md has no line for %s", p)
		}
	}
}

// Every file of istio, mesh and runner is in a table below its package, by its
// name relative to the directory in the heading of the table.
func TestEveryFileIsDocumented(t *testing.T) {
	page := read(t, "docs/ARCHITECTURE.md")
	for _, p := range packages(t) {
		top, below, _ := strings.Cut(p, "/")
		if !slices.Contains([]string{"istio", "mesh", "runner"}, top) {
			continue
		}
		files, err := filepath.Glob(filepath.Join(root, p, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		prefix := below
		if p == "runner/effect" || p == "runner/event" { // they have separate tables
			prefix = ""
		}
		for _, file := range files {
			name := path.Join(prefix, filepath.Base(file))
			if !strings.HasSuffix(name, "_test.go") && !strings.Contains(page, "`"+name+"`") {
				t.Errorf("docs/ARCHITECTURE.md does not name %s of %s", name, top)
			}
		}
	}
}

// Every package has an import rule, and every rule a package.
func TestEveryPackageHasAnImportRule(t *testing.T) {
	var config struct {
		Linters struct {
			Settings struct {
				Depguard struct {
					Rules map[string]struct{ Files []string }
				}
			}
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, ".golangci.yml")), &config); err != nil {
		t.Fatal(err)
	}
	rules := map[string]bool{}
	for _, rule := range config.Linters.Settings.Depguard.Rules {
		for _, file := range rule.Files {
			if name, ok := strings.CutPrefix(file, "**/"); ok {
				rules[strings.TrimSuffix(name, "/*.go")] = true
			}
		}
	}
	all := packages(t)
	for _, p := range all {
		if !rules[p] {
			t.Errorf("depguard in .golangci.yml has no rule for %s", p)
		}
	}
	for name := range rules {
		if !slices.Contains(all, name) {
			t.Errorf("depguard in .golangci.yml has a rule for %s, which does not exist", name)
		}
	}
}

var (
	fenced  = regexp.MustCompile("(?s)```.*?```")
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	dropped = regexp.MustCompile(`[^\w\- ]`)
)

// Every relative link in a document leads to a file, and to a heading in it.
func TestLinks(t *testing.T) {
	command := exec.CommandContext(t.Context(), "git", "ls-files", "*.md")
	command.Dir = root
	out, err := command.Output()
	if err != nil {
		t.Skip("not a git repository: ", err)
	}
	for page := range strings.FieldsSeq(string(out)) {
		if strings.Contains(page, "testdata/") {
			continue
		}
		body := fenced.ReplaceAllString(read(t, page), "")
		for _, found := range link.FindAllStringSubmatch(body, -1) {
			if strings.Contains(found[1], "://") {
				continue
			}
			file, anchor, _ := strings.Cut(found[1], "#")
			target := page
			if file != "" {
				target = path.Join(path.Dir(page), file)
			}
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s: the link %s leads to no file", page, found[1])
			} else if anchor != "" && !slices.Contains(anchors(read(t, target)), anchor) {
				t.Errorf("%s: the link %s leads to no heading", page, found[1])
			}
		}
	}
}

// anchors returns the anchors of the headings of a document, as GitHub names them.
func anchors(document string) []string {
	var all []string
	for _, found := range heading.FindAllStringSubmatch(document, -1) {
		name := dropped.ReplaceAllString(strings.ToLower(found[1]), "")
		all = append(all, strings.ReplaceAll(strings.TrimSpace(name), " ", "-"))
	}
	return all
}

// The tests and the directories that docs/track-record.md names exist, so that a fix
// does not lose its test.
func TestTrackRecordNamesTests(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(root, "docs", "track-record.md"))
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), "git", "grep", "-hoE", `^func Test\w+`, "--", "*_test.go")
	command.Dir = root
	out, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	functions := strings.Fields(string(out))
	named := regexp.MustCompile("`(Test[A-Za-z]+|[a-z-]+/[a-z_/.-]+)`").FindAllStringSubmatch(string(content), -1)
	if len(named) < 20 {
		t.Errorf("only %d names of tests", len(named))
	}
	for _, one := range named {
		switch name := one[1]; {
		case strings.HasPrefix(name, "Test"):
			if !slices.Contains(functions, name) {
				t.Errorf("there is no test %s", name)
			}
		default:
			if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(name))); err != nil {
				t.Error(err)
			}
		}
	}
}
