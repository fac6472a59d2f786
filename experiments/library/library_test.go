package library_test

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/squall-chaos/squall/experiments/files"
	"github.com/squall-chaos/squall/experiments/library"
)

func TestEveryFileLoads(t *testing.T) {
	names, err := fs.Glob(library.Files, "*.yaml")
	if err != nil || len(names) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			file, err := library.Files.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close() //nolint:errcheck // embedded
			loaded, err := files.Load(name, file)
			if err != nil {
				t.Fatal(err)
			}
			// The two experiments of the demo are for the sandbox; the others are for
			// unknown meshes.
			demo := name == "ratings-outage.yaml" || name == "details-delay.yaml"
			content, err := fs.ReadFile(library.Files, name)
			if err != nil {
				t.Fatal(err)
			}
			if marked := strings.Contains(string(content), "# CHANGE"); marked == demo {
				t.Errorf("lines to change are marked: %v", marked)
			}
			for _, e := range loaded {
				if e.Metadata.Name+".yaml" != name || e.Spec.Title == "" || e.Spec.Description == "" {
					t.Errorf("experiment %q in %s has another name, or no title or description", e.Metadata.Name, name)
				}
			}
		})
	}
}
