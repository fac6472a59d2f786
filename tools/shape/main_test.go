package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/analysistest"
)

func TestKeyed(t *testing.T) {
	analysistest.Run(t, analysistest.TestData(), keyed(), module+"/example")
}

// sized writes a package whose size is one more or one less than the limits.
func sized(t *testing.T, over int, want string) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("package sized" + wanted(want, "package sized has") + "\n\n")
	fmt.Fprintf(&b, "func long() {%s\n%s}\n\n", wanted(want, "long has"), strings.Repeat("\t_ = 0\n", maxFunction-2+over))
	b.WriteString("type big struct{}" + wanted(want, "big has") + "\n\n")
	for i := range maxMethods + over {
		fmt.Fprintf(&b, "func (big) m%d() {}\n", i)
	}
	for strings.Count(b.String(), "\n") < maxLines+over {
		b.WriteString("//\n")
	}
	root := t.TempDir()
	directory := filepath.Join(root, "src", "sized")
	if err := os.MkdirAll(directory, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(directory, "sized.go"), []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return root
}

func wanted(want, message string) string {
	if want == "" || !strings.HasPrefix(message, want) {
		return ""
	}
	return " // want \"" + message + "\""
}

func TestSizes(t *testing.T) {
	for want, analyzer := range map[string]*analysis.Analyzer{"long": functions(), "big": methods(), "package": lines()} {
		analysistest.Run(t, sized(t, 0, ""), analyzer, "sized")
		analysistest.Run(t, sized(t, 1, want), analyzer, "sized")
	}
}
