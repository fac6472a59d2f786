package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/app/doctor"
	"github.com/squall-chaos/squall/internal/oneline"
	"github.com/squall-chaos/squall/runner"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// Whatever the probes are named, whatever they measure and however small the
// terminal is: the picture fits, and says nothing to the terminal but text.
func TestPanelFits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p panel
		e := experiments.Experiment{}
		names := rapid.SliceOfN(rapid.String(), 0, 30).Draw(t, "names")
		for _, name := range names {
			e.Spec.SteadyState.Probes = append(e.Spec.SteadyState.Probes, experiments.Probe{Name: name})
		}
		for _, h := range happened(runner.Started{Experiment: e}, runner.Phase{Name: runner.PhaseObserve, Length: experiments.Duration{Duration: time.Minute}}) {
			p.take(h)
		}
		for range rapid.IntRange(0, 50).Draw(t, "measurements") {
			m := steadystate.Measurement{Verdict: steadystate.Verdict(rapid.IntRange(0, 2).Draw(t, "verdict")), Reason: rapid.String().Draw(t, "reason")}
			if len(names) > 0 {
				m.Probe = rapid.SampledFrom(names).Draw(t, "probe")
			}
			if value := rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{math.MaxFloat64, -math.MaxFloat64, math.SmallestNonzeroFloat64, 0})).Draw(t, "value"); !math.IsNaN(value) && !math.IsInf(value, 0) {
				m.Value = &value
			}
			p.take(happened(m)[0])
		}
		width, height := rapid.IntRange(1, 100).Draw(t, "width"), rapid.IntRange(1, 40).Draw(t, "height")
		s := screen{out: &strings.Builder{}, size: func() (int, int) { return width, height }}
		s.draw("", p.view(start.Add(time.Second), width, height))
		if s.height(width) >= height && len(s.drawn) > 0 {
			t.Fatalf("%d rows on a terminal of %dx%d", s.height(width), width, height)
		}
		for _, line := range s.drawn {
			if widthOf(line) > width || strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Fatalf("%q on a terminal of %dx%d", line, width, height)
			}
		}
	})
}

// A panic of the picture would end Squall before the rollback.
func TestSparklineOfExtremes(t *testing.T) {
	p := panel{}
	for want, values := range map[string][]float64{
		"▁█":  {-math.MaxFloat64, math.MaxFloat64},
		"█▁":  {math.SmallestNonzeroFloat64, 0},
		"▁▄█": {-math.MaxFloat64, 0, math.MaxFloat64},
		"▅▅":  {math.MaxFloat64, math.MaxFloat64},
	} {
		var points []point
		for _, value := range values {
			points = append(points, point{value: value})
		}
		if got := p.sparkline(points, len(points)); got != want {
			t.Errorf("%v: %s, want %s", values, got, want)
		}
	}
}

// Where nobody counts, nobody knows that no request is hit.
func TestPanelOfARunThatCountsNothing(t *testing.T) {
	e := watched(t)
	e.Spec.Effect.MinRequests = 0
	var p panel
	for _, h := range happened(runner.Started{Experiment: e}, runner.Phase{Name: runner.PhaseObserve}) {
		p.take(h)
	}
	if got := strings.Join(p.view(start, 80, 24), "\n"); strings.Contains(got, "hit") {
		t.Error(got)
	}
}

// commands are what a terminal and the runner of a CI job obey.
const commands = "\x1b[2J\n::error::x ##[error]\u009b2J\n\nsquall: held\a"

// obeyed gives the lines that a terminal or the runner of a CI job obeys.
func obeyed(text string) (lines []string) {
	for line := range strings.Lines(text) {
		if line = strings.TrimSuffix(line, "\n"); line != oneline.Blanked(line) {
			lines = append(lines, line)
		}
	}
	return lines
}

func TestErrorsCommandNoTerminal(t *testing.T) {
	var out strings.Builder
	printError(&out, &hintedError{errors.New("the server says " + commands), "\x1b]0;title\a"})
	if diff := cmp.Diff([]string{
		"squall: the server says  [2J", "  : :error::x ## [error] 2J", "", "  squall: held ", "hint:  ]0;title ", "",
	}, strings.Split(out.String(), "\n")); diff != "" {
		t.Error(diff)
	}
}

func TestAnswersCommandNoTerminal(t *testing.T) {
	answers := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnprocessableEntity)
		_ = json.NewEncoder(w).Encode(map[string]string{"status": "error", "errorType": "execution", "error": commands})
	}))
	defer answers.Close()
	_, _, stderr := squall(t, nil, "plan", "--mesh", "testdata/plan/mesh.yaml", "--prometheus", answers.URL, write(t, "metadata: {name: details-delay}"))
	if !strings.Contains(stderr, "is unknown: ") || !strings.Contains(stderr, "[2J") || obeyed(stderr) != nil {
		t.Errorf("%q", stderr)
	}
	var out strings.Builder
	printCheck(&out, doctor.Check{Status: doctor.Failure, Name: "prometheus", Detail: commands, Hint: commands})
	if strings.Count(out.String(), "[2J") != 2 || strings.Count(out.String(), "\n") != 2 || obeyed(out.String()) != nil {
		t.Errorf("%q", &out)
	}
}

// A folder of experiments may hold files and keys of any name.
func TestFilesCommandNoTerminal(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("has no such names")
	}
	bad := filepath.Join(t.TempDir(), "::error::\n::error::x.yaml")
	if err := os.WriteFile(bad, fmt.Appendf(nil, "apiVersion: squall.dev/v1alpha1\nkind: Experiment\nmetadata: {name: a}\nspec: {%q: 1}\n", "x"+commands), 0o600); err != nil {
		t.Fatal(err)
	}
	good := filepath.Join(t.TempDir(), "a\n::error::x.yaml")
	if err := os.Rename(write(t, "metadata: {name: details-delay}"), good); err != nil {
		t.Fatal(err)
	}
	for _, arguments := range [][]string{
		{"validate", bad},
		{"validate", good},
		{"run", bad},
		{"plan", bad},
	} {
		_, stdout, stderr := squall(t, nil, arguments...)
		if text := stdout + stderr; !strings.Contains(text, `\n::error::x.yaml:`) || obeyed(text) != nil {
			t.Errorf("%s: %q", arguments[0], text)
		}
	}
}
