package oracle_test

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
	"sigs.k8s.io/yaml"
)

// goldenObject begins an object in the golden plans of package mesh, or a later
// state of one.
var goldenObject = regexp.MustCompile(`(?m)^# (?:(VirtualService|ServiceEntry) \S+/(\S+)|after \S+: (\S+))\n((?:[^#].*\n)+)`)

// Istiod's own validation accepts what the golden plans show.
func TestGoldenPlansAreValid(t *testing.T) {
	files, err := filepath.Glob("../../../mesh/testdata/plans/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden plans: %v", err)
	}
	checked := 0
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, section := range archive.Files {
			if section.Name != "plan" {
				continue
			}
			objects := goldenObject.FindAllSubmatch(section.Data, -1)
			if len(objects) == 0 && !strings.Contains(string(section.Data), "placement: refused") {
				t.Errorf("%s has no object", file)
			}
			for i, found := range objects {
				kind, name := string(found[1]), string(found[2])+string(found[3])
				if kind == "" {
					kind = "VirtualService"
				}
				var spec m
				if err := yaml.Unmarshal(found[4], &spec); err != nil {
					t.Fatalf("%s, object %d: %v", file, i+1, err)
				}
				if err := bed.validate(t.Context(), withSpec(manifest(networking, kind, "default", name), spec)); err != nil {
					t.Errorf("%s: %s %s: %v", filepath.Base(file), kind, name, err)
				}
				checked++
			}
		}
	}
	t.Log(fmt.Sprint(checked, " objects"))
	if checked == 0 {
		t.Error("no golden plan has an object")
	}
}
