package refusal_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/squall-chaos/squall/mesh/refusal"
)

// Each cause of a refusal has a page, and each page a cause.
func TestEveryCauseHasAPage(t *testing.T) {
	known := map[string]bool{"README.md": true}
	index, err := os.ReadFile("../../docs/refusals/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, cause := range refusal.Causes() {
		page := string(cause) + ".md"
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
