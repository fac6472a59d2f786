package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var vale = flag.String("vale", "", "Vale's program; without it the tests of the rules are skipped")

func TestMessages(t *testing.T) {
	const source = `package example

import "a b"

type row struct {
	name string ` + "`json:\"name\" doc:\"the name\"`" + `
}

var word, two = "word", "two words"

func name() string { return "one" + " line" + "\nand more" }

var raw = ` + "`first line\n\nthird`\n"
	got, err := messages("example.go", []byte(source))
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Repeat("\n", 8) + "two words\n\n line |  and more\n\nfirst line\n\nthird\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got, err := messages("none.go", []byte("package none\n")); got != "" || err != nil {
		t.Errorf("got %q, %v of a file without messages", got, err)
	}
}

func TestExtract(t *testing.T) {
	root, out := t.TempDir(), t.TempDir()
	t.Chdir(root)
	source := []byte("package a\n\nvar a = \"two words\"\n")
	for _, name := range []string{"a/a.go", "a/a_test.go", "a/testdata/a.go", ".hidden/a.go"} {
		if err := os.MkdirAll(filepath.Dir(name), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, source, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := extract(".", out); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(out, "*", "*"))
	if want := []string{filepath.Join(out, "a", "a.go.txt")}; err != nil || !slices.Equal(files, want) {
		t.Errorf("wrote %q, want %q; %v", files, want, err)
	}
}

// alert is a part of what Vale reports.
type alert struct{ Check, Match string }

// check returns Vale's alerts by line of a file in the temporary directory.
func check(t *testing.T, name string, text []byte) map[int][]alert {
	t.Helper()
	if *vale == "" {
		t.Skip("needs -args -vale PROGRAM, as in make lint")
	}
	config, err := filepath.Abs(filepath.Join("..", "..", ".vale.ini"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	command := exec.CommandContext(t.Context(), *vale, "--config="+config, "--output=JSON", file)
	command.Stderr = &stderr
	output, err := command.Output()
	if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		t.Fatalf("vale: %v: %s%s", err, stderr.String(), output)
	}
	var reported map[string][]struct {
		alert
		Line int
	}
	if err := json.Unmarshal(output, &reported); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	alerts := map[int][]alert{}
	for _, a := range reported[file] {
		alerts[a.Line] = append(alerts[a.Line], a.alert)
	}
	if (len(alerts) > 0) != (err != nil) {
		t.Errorf("%d alerts, and vale's error is %v", len(alerts), err)
	}
	return alerts
}

// sentences returns the lines of a file in testdata, and Markdown in which each
// is a paragraph.
func sentences(t *testing.T, name string) ([]string, []byte) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	var text bytes.Buffer
	for _, line := range lines {
		_, sentence, found := strings.Cut(line, "\t")
		if !found {
			sentence = line
		}
		fmt.Fprintf(&text, "%s\n\n", sentence)
	}
	return lines, text.Bytes()
}

// Each rule refuses its examples, and no other rule does.
func TestRefused(t *testing.T) {
	lines, text := sentences(t, "refused.txt")
	alerts := check(t, "refused.md", text)
	tested := map[string]bool{"ClauseInComment": true} // by TestComments
	for i, line := range lines {
		rule, sentence, _ := strings.Cut(line, "\t")
		tested[rule] = true
		if found := alerts[2*i+1]; len(found) != 1 || found[0].Check != "Squall."+rule {
			t.Errorf("%q: got %v, want one alert of %s", sentence, found, rule)
		}
	}
	rules, err := filepath.Glob(filepath.Join("..", "..", ".vale", "Squall", "*.yml"))
	if err != nil || len(rules) == 0 {
		t.Fatal("there are no rules", err)
	}
	for _, file := range rules {
		if rule := strings.TrimSuffix(filepath.Base(file), ".yml"); !tested[rule] {
			t.Errorf("testdata/refused.txt has no sentence for %s", rule)
		}
	}
}

func TestAccepted(t *testing.T) {
	lines, text := sentences(t, "accepted.txt")
	alerts := check(t, "accepted.md", text)
	for i, line := range lines {
		if found := alerts[2*i+1]; len(found) != 0 {
			t.Errorf("%q: %v", line, found)
		}
	}
}

// Headings and code of Markdown are not checked for clauses, or at all.
func TestMarkdown(t *testing.T) {
	alerts := check(t, "good.md", []byte("# What to do\n\nRun `it gives up`:\n\n```\nnobody\n```\n"))
	if len(alerts) != 0 {
		t.Error(alerts)
	}
}

func TestComments(t *testing.T) {
	source, err := os.ReadFile(filepath.Join("testdata", "refused.go.txt"))
	if err != nil {
		t.Fatal(err)
	}
	got := check(t, "refused.go", source)
	want := map[int][]alert{
		1: {{Check: "Squall.Returns", Match: "gives"}},
		4: {{Check: "Squall.IsNo", Match: "is none"}},
		5: {{Check: "Squall.Pronouns", Match: "nobody"}},
		7: {{Check: "Squall.ClauseInComment", Match: "What"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	text, err := messages("refused.go", source)
	if err != nil {
		t.Fatal(err)
	}
	got = check(t, "refused.go.txt", []byte(text))
	if diff := cmp.Diff(map[int][]alert{8: {{Check: "Squall.Returns", Match: "gives"}}}, got); diff != "" {
		t.Error(diff)
	}
}
