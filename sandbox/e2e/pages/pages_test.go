// Package pages_test opens Squall's reports as their readers do: the page in a
// browser, and the JUnit report by the schemas of CI systems.
package pages_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/sandbox/internal/browser"
	"github.com/squall-chaos/squall/sandbox/internal/testbed"
)

// journals returns the journals that the tests render: two as they were recorded, one
// that was cut short by a crash, one of a refused run, and a long and hostile one with
// every kind of content.
func journals(t *testing.T) map[string]string {
	t.Helper()
	held := read(t, "v1-held.jsonl")
	lines := strings.SplitAfter(held, "\n")
	return map[string]string{
		"held":      held,
		"deviated":  read(t, "v1-deviated.jsonl"),
		"hostile":   read(t, "hostile.jsonl"),
		"cut-short": held[:len(held)/2],
		"refused":   lines[0] + lines[1] + `{"time":"2026-11-23T00:11:23.46Z","type":"finished","data":{"status":"refused","verdict":"inconclusive","reason":"the mesh does not know the host","hint":"check the spelling"}}`,
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "..", "..", "reports", "testdata", "journals", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// render returns a report of a journal, as written by `squall report`.
func render(t *testing.T, journal, format string) string {
	t.Helper()
	bin, err := testbed.BinDir("squall")
	if err != nil {
		t.Fatal(err)
	}
	squall := exec.CommandContext(t.Context(), filepath.Join(bin, "squall"), "report", "-", "-o", format)
	squall.Stdin, squall.Stderr = strings.NewReader(journal), os.Stderr
	out, err := squall.Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func write(t *testing.T, content string, path ...string) string {
	t.Helper()
	file := filepath.Join(path...)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// run is what the page must show, from the JSON report.
type run struct {
	Experiment, Run, Cluster, Status, Verdict string
	Probes                                    []struct {
		Probe        string
		Measurements []struct{ Value *float64 }
	}
}

// outcome is how the page's heading ends.
func (r run) outcome() string {
	switch r.Status {
	case "":
		return "unfinished"
	case "completed":
		return r.Verdict
	default:
		return r.Verdict + " (" + r.Status + ")"
	}
}

// drawn names the probes that have a value to draw, in the order of the file.
func (r run) drawn() []string {
	names := []string{}
	for _, probe := range r.Probes {
		for _, m := range probe.Measurements {
			if m.Value != nil && !slices.Contains(names, probe.Probe) {
				names = append(names, probe.Probe)
			}
		}
	}
	return names
}

func TestHTML(t *testing.T) {
	chromium, folder := browser.Start(t), t.TempDir()
	for name, journal := range journals(t) {
		file := write(t, render(t, journal, "html"), folder, name+".html")
		var want run
		if err := json.Unmarshal([]byte(render(t, journal, "json")), &want); err != nil {
			t.Fatal(err)
		}
		for look, view := range map[string]browser.View{
			"light":      {},
			"dark":       {Dark: true},
			"narrow":     {Width: 360},
			"print":      {Print: true, Width: 700},
			"scriptless": {NoScript: true},
		} {
			t.Run(name+"/"+look, func(t *testing.T) {
				page := chromium.Open(t, "file://"+file, view)
				page.Screenshot(filepath.Join(t.ArtifactDir(), name+"-"+look+".png"))
				checkLayout(t, page, want)
				if view.Print {
					checkPrint(t, page)
				}
				if !view.NoScript {
					if diff := cmp.Diff([]string(nil), page.Axe()); diff != "" {
						t.Errorf("axe-core (-want +got):\n%s", diff)
					}
				}
				if diff := cmp.Diff([]string(nil), page.Errors()); diff != "" {
					t.Errorf("errors (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff([]string{"file://" + file}, page.Requests()); diff != "" {
					t.Errorf("requests (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// checkLayout demands that everything is there, and within the width of the page.
func checkLayout(t *testing.T, page *browser.Page, want run) {
	t.Helper()
	var scripts int
	if page.Eval(`document.scripts.length + document.images.length`, &scripts); scripts != 0 {
		t.Errorf("%d scripts and images", scripts)
	}
	var widths []int
	page.Eval(`[document.documentElement.scrollWidth, document.body.scrollWidth].filter(width => width > innerWidth)`, &widths)
	if len(widths) > 0 {
		t.Errorf("the page scrolls sideways: %v", widths)
	}
	// The content of a plot and the labels of its axes stay inside of it.
	var outside []string
	page.Eval(`[...document.querySelectorAll("svg")].flatMap(svg => {
		const box = svg.getBoundingClientRect();
		return [...svg.querySelectorAll("text, path")].map(e => [e, e.getBoundingClientRect()]).filter(([e, b]) =>
			b.left < box.left - 1 || b.right > box.right + 1 || b.top < box.top - 1 || b.bottom > box.bottom + 1,
		).map(([e, b]) => e.outerHTML.slice(0, 200) + JSON.stringify([b, box]));
	})`, &outside)
	if diff := cmp.Diff([]string{}, outside); diff != "" {
		t.Errorf("outside of plots (-want +got):\n%s", diff)
	}
	var drawn []string
	page.Eval(`[...document.querySelectorAll("svg")].filter(svg => svg.getBoundingClientRect().height > 80).map(svg => svg.getAttribute("aria-label").split(" over time")[0])`, &drawn)
	if diff := cmp.Diff(want.drawn(), drawn); diff != "" {
		t.Errorf("plots (-want +got):\n%s", diff)
	}
	text := page.Text("body")
	for _, word := range []string{want.Experiment, want.Run, want.Cluster, want.outcome()} {
		if !strings.Contains(text, word) {
			t.Errorf("the page does not say %q", word)
		}
	}
}

// checkPrint demands that nothing has to be scrolled to: paper does not.
func checkPrint(t *testing.T, page *browser.Page) {
	t.Helper()
	var hidden []string
	page.Eval(`[...document.querySelectorAll("*")].filter(e => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX !== "visible").map(e => e.outerHTML.slice(0, 100))`, &hidden)
	if diff := cmp.Diff([]string{}, hidden); diff != "" {
		t.Errorf("cut off on paper (-want +got):\n%s", diff)
	}
}

// validate checks files against the schemas of Jenkins and of Ant, and returns the
// errors.
func validate(t *testing.T, files ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "node", append([]string{filepath.Join(browser.NodeModules(t), "..", "junit.mjs")}, files...)...).CombinedOutput()
	if len(out) == 0 && err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestJUnit(t *testing.T) {
	folder := t.TempDir()
	var files []string
	for name, journal := range journals(t) {
		files = append(files, write(t, render(t, journal, "junit"), folder, name+".xml"))
	}
	if said := validate(t, files...); said != "" {
		t.Errorf("the schemas do not accept:\n%s", said)
	}
}

// TestTheSchemasRefuse breaks a report in ways that each schema must notice.
func TestTheSchemasRefuse(t *testing.T) {
	good := render(t, journals(t)["held"], "junit")
	for name, tc := range map[string]struct{ old, new, want string }{
		"no XML":       {"</testsuites>", "", "parser error"},
		"a character":  {"<![CDATA[", "<![CDATA[\x01", "parser error"},
		"Ant":          {` hostname="laptop"`, "", "\nJUnit.xsd: "},
		"the duration": {`time="0.000"`, `time="soon"`, "\nJUnit.xsd: "},
		"Jenkins":      {`<testcase `, `<testcase colour="blue" `, "\njenkins-junit.xsd: "},
	} {
		t.Run(name, func(t *testing.T) {
			bad := strings.Replace(good, tc.old, tc.new, 1)
			if bad == good {
				t.Fatalf("%q is not in the report", tc.old)
			}
			if said := validate(t, write(t, bad, t.TempDir(), "bad.xml")); !strings.Contains("\n"+said, tc.want) {
				t.Errorf("want %q, got %s", tc.want, said)
			}
		})
	}
}
