package refusal_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/squall-chaos/squall/mesh/refusal"
)

var declared = regexp.MustCompile(`(?m)^\t\w+\s+Cause = "([a-z-]+)"`)

// causes reads the causes from their declarations.
func causes(t *testing.T) []string {
	t.Helper()
	source, err := os.ReadFile("refusal.go")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, found := range declared.FindAllSubmatch(source, -1) {
		all = append(all, string(found[1]))
	}
	if len(all) < 20 || !slices.Contains(all, string(refusal.NoCallers)) {
		t.Fatalf("only %q", all)
	}
	return all
}

// Each cause of a refusal has a page, and each page a cause.
func TestEveryCauseHasAPage(t *testing.T) {
	known := map[string]bool{"README.md": true}
	index, err := os.ReadFile("../../docs/refusals/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, cause := range causes(t) {
		page := cause + ".md"
		known[page] = true
		if _, err := os.Stat(filepath.Join("../../docs/refusals", page)); err != nil {
			t.Error(err)
		}
		if !strings.Contains(string(index), "]("+page+")") {
			t.Errorf("the index does not name %s", page)
		}
	}
	pages, err := os.ReadDir("../../docs/refusals")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		if !known[page.Name()] {
			t.Errorf("no refusal has the cause of %s", page.Name())
		}
	}
}
