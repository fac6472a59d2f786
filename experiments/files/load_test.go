package files_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/experiments/files"
	"github.com/squall-chaos/squall/experiments/problem"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const minimal = `apiVersion: squall.dev/v1alpha1
kind: Experiment
metadata: {name: outage}
spec:
  target: {host: ratings.prod.svc.cluster.local}
  callers: [{namespace: shop}]
  faults:
  - abort: {httpStatus: 503}
    percentage: 50
  duration: 2m
  steadyState:
    probes: [{name: up, query: up, min: 1}]
`

func TestLoadFillsInDefaults(t *testing.T) {
	loaded, err := files.Load("minimal.yaml", strings.NewReader(minimal))
	if err != nil {
		t.Fatal(err)
	}
	half := experiments.Percentage(50)
	want := []experiments.Experiment{{
		APIVersion: experiments.APIVersion,
		Kind:       experiments.Kind,
		Metadata:   experiments.Metadata{Name: "outage"},
		Spec: experiments.Spec{
			Target:   experiments.Target{Host: "ratings.prod.svc.cluster.local"},
			Callers:  []experiments.Caller{{Namespace: "shop"}},
			Faults:   []experiments.Fault{{Abort: &experiments.Abort{HTTPStatus: 503}, Percentage: &half}},
			Duration: experiments.Duration{Duration: 2 * time.Minute},
			SteadyState: experiments.SteadyState{
				Interval: experiments.Duration{Duration: 5 * time.Second},
				Before:   experiments.Duration{Duration: 15 * time.Second},
				Probes: []experiments.Probe{{
					Name: "up", Measure: experiments.Measure{Query: "up"}, Min: experiments.Number(1), NoData: experiments.NoDataInconclusive,
					Phases: []experiments.Phase{experiments.Before, experiments.During, experiments.After},
				}},
			},
			Effect:   experiments.Effect{MinRequests: 1, MinShare: new(experiments.DefaultEffectShare)},
			Recovery: experiments.Recovery{Within: experiments.Duration{Duration: time.Minute}},
		},
	}}
	if diff := cmp.Diff(want, loaded, cmp.AllowUnexported(experiments.Bound{})); diff != "" {
		t.Error(diff)
	}
}

func TestLoadReadsWhatItShould(t *testing.T) {
	for _, test := range []struct {
		name, from, to string
		check          func(experiments.Experiment) bool
	}{
		{"percentage as Istio writes it", "percentage: 50", "percentage: {value: 12.5}", func(e experiments.Experiment) bool { return *e.Spec.Faults[0].Percentage == 12.5 }},
		{"smallest percentage", "percentage: 50", "percentage: 0.0001", func(e experiments.Experiment) bool { return *e.Spec.Faults[0].Percentage == 0.0001 }},
		{"gRPC status", "httpStatus: 503", "grpcStatus: UNAVAILABLE", func(e experiments.Experiment) bool { return e.Spec.Faults[0].Abort.GRPCStatus == "UNAVAILABLE" }},
		{"abort and delay in one fault", "  - abort:", "  - delay: {fixedDelay: 1.5s}\n    abort:", func(e experiments.Experiment) bool {
			f := e.Spec.Faults[0]
			return f.Abort.HTTPStatus == 503 && f.Delay.FixedDelay.Duration == 1500*time.Millisecond
		}},
		{"short name with namespace", "host: ratings.prod.svc.cluster.local", "host: ratings, namespace: prod", func(e experiments.Experiment) bool { return e.Spec.Target.Namespace == "prod" }},
		{"anchor and alias", "callers: [{namespace: shop}]", "callers: [&c {namespace: shop}, *c]", func(e experiments.Experiment) bool { return e.Spec.Callers[1].Namespace == "shop" }},
		{"merge", "callers: [{namespace: shop}]", "callers: [&c {namespace: shop}, {<<: *c, labels: {app: a}}]", func(e experiments.Experiment) bool {
			return e.Spec.Callers[1].Namespace == "shop" && e.Spec.Callers[1].Labels["app"] == "a"
		}},
		{"effect asks for no proof", "  duration: 2m", "  duration: 2m\n  effect: {minRequests: 0}", func(e experiments.Experiment) bool { return e.Spec.Effect.MinRequests == 0 }},
		{"header match", "  duration: 2m", "  match: [{headers: {end-user: {exact: jason}}}]\n  duration: 2m", func(e experiments.Experiment) bool { return *e.Spec.Match[0].Headers["end-user"].Exact == "jason" }},
	} {
		t.Run(test.name, func(t *testing.T) {
			content := strings.Replace(minimal, test.from, test.to, 1)
			if content == minimal {
				t.Fatalf("%q is not in the file", test.from)
			}
			loaded, err := files.Load("file.yaml", strings.NewReader(content))
			if err != nil {
				t.Fatal(err)
			}
			if !test.check(loaded[0]) {
				t.Errorf("read as %+v", loaded[0])
			}
		})
	}
}

func TestLoadReadsSeveralDocuments(t *testing.T) {
	content := minimal + "---\n# nothing here\n---\n" + strings.Replace(minimal, "name: outage", "name: second", 1)
	loaded, err := files.Load("two.yaml", strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	if len(loaded) != 2 || loaded[1].Metadata.Name != "second" {
		t.Errorf("loaded %+v", loaded)
	}
}

// TestLoadExplainsProblems holds every message against a golden one. Each
// archive pairs NAME.yaml with NAME.want.
func TestLoadExplainsProblems(t *testing.T) {
	archives, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatalf("no archives: %v", err)
	}
	for _, path := range archives {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i+1 < len(archive.Files); i += 2 {
			input, golden := &archive.Files[i], &archive.Files[i+1]
			t.Run(filepath.Base(path)+"/"+input.Name, func(t *testing.T) {
				if want := strings.TrimSuffix(input.Name, ".yaml") + ".want"; golden.Name != want {
					t.Fatalf("%s is followed by %s instead of %s", input.Name, golden.Name, want)
				}
				loaded, err := files.Load(input.Name, strings.NewReader(string(input.Data)))
				var problems problem.List
				if !errors.As(err, &problems) || len(problems) == 0 {
					t.Fatalf("loaded %+v with error %v", loaded, err)
				}
				got := problems.Error() + "\n"
				if *update {
					golden.Data = []byte(got)
				} else if diff := cmp.Diff(string(golden.Data), got); diff != "" {
					t.Error(diff)
				}
			})
		}
		if *update {
			if err := os.WriteFile(path, txtar.Format(archive), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestLoadIsBounded(t *testing.T) {
	var labels strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&labels, "k%d: v, ", i)
	}
	var documents strings.Builder
	for i := range 1001 {
		documents.WriteString("---\n" + strings.Replace(minimal, "outage", fmt.Sprintf("outage-%d", i), 1))
	}
	caller := "{namespace: shop, labels: {" + labels.String() + "}}"
	replace := func(callers string) string {
		return strings.Replace(minimal, "callers: [{namespace: shop}]", "callers: "+callers, 1)
	}
	var probes []string
	for i := range 60 {
		probes = append(probes, fmt.Sprintf("{name: p%d, min: 0, query: '%sup'}", i, strings.Repeat("-", 15_900)))
	}
	deep := strings.Replace(minimal, "{name: up, query: up, min: 1}", strings.Join(probes, ", "), 1)
	for _, test := range []struct{ name, content, want string }{
		{"deep queries", deep, "probes[0].query: is 15900 levels deep; Squall takes at most 200"},
		{"many queries", strings.ReplaceAll(deep, "-----", "     "), "probes[59].query: makes the queries of the file longer than 262144 bytes together"},
		{"too large", strings.Repeat("#", 1<<20+1), "larger than 1024 KiB"},
		{"binary", "\x00\x01\x02", "is not text"},
		{"not UTF-8", "name: \xff", "is not text"},
		{"empty", "", "has no experiment"},
		{"comment only", "# nothing\n", "has no experiment"},
		{"deep", strings.Repeat("[", 9999) + strings.Repeat("]", 9999), "want fields, found a list"},
		{"alias bomb", replace("[&c " + caller + strings.Repeat(", *c", 500) + "]"), "once aliases are expanded"},
		{"merge bomb", replace("[&c {<<: [*c, *c]}]"), "callers"},
		{"merges of merges", replace("[&c " + caller + strings.Repeat(", {<<: [*c, *c, *c, *c, *c, *c, *c, *c]}", 500) + "]"), "once aliases are expanded"},
		{"many problems", replace("[" + strings.Repeat("x, ", 100_000) + "]"), "more than 200 problems"},
		{"documents", documents.String(), "more than 1000 documents"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := files.Load("file.yaml", strings.NewReader(test.content))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %.300v does not say %q", err, test.want)
			}
		})
	}
}

// The time and memory for a file of nearly the largest size, with queries that would take
// minutes to parse.
func BenchmarkLoadDeepQueries(b *testing.B) { benchmarkLoad(b, strings.Repeat("-", 15_900)+"up") }

// The time and memory for a file with the worst queries that are accepted.
func BenchmarkLoadWorstQueries(b *testing.B) {
	benchmarkLoad(b, strings.Repeat("abs(", 100)+"1"+strings.Repeat("^1", 99)+strings.Repeat(")", 100))
}

func benchmarkLoad(b *testing.B, query string) {
	b.Helper()
	var probes []string
	for i := range min(100, 950_000/len(query)) {
		probes = append(probes, fmt.Sprintf("{name: p%d, min: 0, query: '%s'}", i, query))
	}
	document := strings.Replace(minimal, "{name: up, query: up, min: 1}", strings.Join(probes, ", "), 1)
	var file strings.Builder
	for i := 0; file.Len()+len(document) < 1<<20; i++ {
		file.WriteString("---\n" + strings.Replace(document, "outage", fmt.Sprintf("outage-%d", i), 1))
	}
	b.ReportAllocs()
	b.ReportMetric(float64(file.Len()), "B/file")
	for b.Loop() {
		_, _ = files.Load("file.yaml", strings.NewReader(file.String()))
	}
}

// roundTrip encodes experiments and loads them again.
func roundTrip(t *testing.T, loaded []experiments.Experiment) {
	t.Helper()
	var encoded bytes.Buffer
	if err := experiments.Encode(&encoded, loaded...); err != nil {
		t.Fatal(err)
	}
	again, err := files.Load("encoded.yaml", bytes.NewReader(encoded.Bytes()))
	if err != nil {
		t.Fatalf("%v\n%s", err, &encoded)
	}
	if diff := cmp.Diff(loaded, again, cmp.AllowUnexported(experiments.Bound{}, experiments.Window{}, experiments.Dates{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s\n%s", diff, &encoded)
	}
}

func TestWhatLoadsReadsBackTheSame(t *testing.T) {
	file, err := os.Open("testdata/everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // opened for reading
	loaded, err := files.Load("everything.yaml", file)
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, loaded)
}

// Text survives whatever it looks like.
func TestTextReadsBackTheSame(t *testing.T) {
	for _, text := range []string{"yes", "on", "12:30:45", "<<", "~", "null", "1e3", "0x10", "\na", "\n", " a ", "a\n", "a\n\nb\n", "\u007f", "\u0085x", "\u009f", "\ufeff", "\u2028", "ü", "a: b", "# a", "- a", "*a", "&a", "!a", "%a", "\"", "'", "a\tb", "\t", "a\r\nb", "2026-01-01", ".5", "true"} {
		loaded, err := files.Load("minimal.yaml", strings.NewReader(minimal))
		if err != nil {
			t.Fatal(err)
		}
		loaded[0].Spec.Description, loaded[0].Spec.SteadyState.Probes[0].Name = text, text+"."
		roundTrip(t, loaded)
	}
}

// FuzzLoad looks for input that crashes the loader, that it accepts without an
// experiment, whose problems say too little, or that does not read back as it
// was read.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(minimal))
	everything, err := os.ReadFile("testdata/everything.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(everything)
	archives, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range archives {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range archive.Files {
			if strings.HasSuffix(file.Name, ".yaml") {
				f.Add(file.Data)
			}
		}
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		loaded, err := files.Load("fuzz.yaml", strings.NewReader(string(content)))
		var problems problem.List
		switch {
		case err == nil && len(loaded) == 0:
			t.Error("neither an experiment nor an error")
		case err == nil:
			roundTrip(t, loaded)
		case !errors.As(err, &problems) || len(problems) == 0 || len(loaded) > 0:
			t.Errorf("error %v with %d experiments", err, len(loaded))
		}
		for _, p := range problems {
			if p.Message == "" || p.File == "" {
				t.Errorf("problem %+v says too little", p)
			}
		}
	})
}

// A problem repeats names of the file's, and stays one line that commands nothing.
func TestProblemIsALine(t *testing.T) {
	p := problem.Problem{File: "::error::a\n.yaml", Line: 1, Column: 2, Path: "spec.\x1b[2J", Message: "unknown\r\n::add-mask::held", Remedy: "did you mean ##[error]?"}
	const want = `: :error::a\n.yaml:1:2: spec.\x1b[2J: unknown\r\n::add-mask::held (did you mean ## [error]?)`
	if got := p.String(); got != want {
		t.Errorf("%q", got)
	}
}
