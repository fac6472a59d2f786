package mesh_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	"sigs.k8s.io/yaml"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/experiments/files"
	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/mesh/meshtest"
)

var update = flag.Bool("update", false, "write the plans that come out into the golden files")

// Each file in testdata/plans holds the mesh, the spec of an experiment, the
// options if any, and the plan that must come out.
func TestPlans(t *testing.T) {
	files, err := filepath.Glob("testdata/plans/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { checkPlan(t, file) })
	}
}

func checkPlan(t *testing.T, file string) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for _, f := range archive.Files {
		sections[f.Name] = string(f.Data)
	}
	var options mesh.Options
	if err := yaml.UnmarshalStrict([]byte(sections["options"]), &options); err != nil {
		t.Fatal(err)
	}
	got := describe(t, mesh.Decide(goldenSnapshot(t, sections["mesh"]), goldenExperiment(t, sections["spec"]), options))
	if *update {
		writeGolden(t, file, archive, got)
		return
	}
	if diff := cmp.Diff(sections["plan"], got); diff != "" {
		t.Error(diff)
	}
}

func writeGolden(t *testing.T, file string, archive *txtar.Archive, got string) {
	t.Helper()
	kept := archive.Files[:0]
	for _, f := range archive.Files {
		if f.Name != "plan" {
			kept = append(kept, f)
		}
	}
	archive.Files = append(kept, txtar.File{Name: "plan", Data: []byte(got)})
	if err := os.WriteFile(file, txtar.Format(archive), 0o600); err != nil {
		t.Fatal(err)
	}
}

// goldenSnapshot is snapshot with the namespaces shop, prod, other and chaos,
// and the Service prod/ratings with the ports 9080 (gRPC) and 3306 (TCP).
func goldenSnapshot(t *testing.T, documents string) config.Snapshot {
	t.Helper()
	var manifests []string
	for document := range strings.SplitSeq(documents, "---\n") {
		if strings.TrimSpace(document) != "" {
			manifests = append(manifests, document)
		}
	}
	s := meshtest.Snapshot(t, manifests...)
	s.Namespaces["other"], s.Namespaces["chaos"] = map[string]string{}, map[string]string{}
	s.Services[0].Ports = []config.Port{
		{Number: 9080, Name: "grpc", Declared: "TCP", OfService: true},
		{Number: 3306, Name: "mysql", Declared: "TCP", OfService: true},
	}
	s.Services = append(s.Services, config.Service{Namespace: "prod", Name: "db", Ports: []config.Port{{Number: 5432, Name: "tcp-pg", OfService: true}}})
	return s
}

func goldenExperiment(t *testing.T, spec string) experiments.Experiment {
	t.Helper()
	var lines []string
	for line := range strings.Lines(spec) {
		lines = append(lines, "  "+line)
	}
	loaded, err := files.Load("spec", strings.NewReader(`apiVersion: squall.dev/v1alpha1
kind: Experiment
metadata: {name: outage}
spec:
  duration: 2m
  steadyState: {probes: [{name: up, query: up, min: 1}]}
`+strings.Join(lines, "")))
	if err != nil {
		t.Fatal(err)
	}
	return loaded[0]
}

// describe writes a plan as a person would read it.
func describe(t *testing.T, plan mesh.Plan) string {
	t.Helper()
	var b strings.Builder
	write := func(title string, value any) {
		encoded, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		text, err := yaml.JSONToYAML(encoded)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "# %s\n%s", title, text)
	}
	for _, d := range plan.Decisions {
		write(fmt.Sprintf("%s: calls from %s", d.Placement, d.Callers), d)
		if d.Placement != mesh.Refused {
			fmt.Fprintf(&b, "# trace: %+v\n", d.Signature)
		}
	}
	for _, o := range plan.Objects {
		write(o.GetKind()+" "+o.GetNamespace()+"/"+o.GetName(), o.Object["spec"])
	}
	for _, step := range plan.Steps {
		write("after "+step.After.String()+": "+step.Object.GetName(), step.Object.Object["spec"])
	}
	return b.String()
}
