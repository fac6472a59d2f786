package terminal

import (
	"math"
	"strings"
	"testing"
	"time"
	"unicode"

	"pgregory.net/rapid"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/runner/event"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// The panel fits any terminal and prints only text, for any names of probes and any
// measurements.
func TestPanelFits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p panel
		e := experiments.Experiment{}
		names := rapid.SliceOfN(rapid.String(), 0, 30).Draw(t, "names")
		for _, name := range names {
			e.Spec.SteadyState.Probes = append(e.Spec.SteadyState.Probes, experiments.Probe{Name: name})
		}
		for _, h := range happened(event.Started{Experiment: e}, event.Phase{Name: event.PhaseObserve, Length: experiments.Duration{Duration: time.Minute}}) {
			p.add(h)
		}
		for range rapid.IntRange(0, 50).Draw(t, "measurements") {
			m := steadystate.Measurement{Verdict: steadystate.Verdict(rapid.IntRange(0, 2).Draw(t, "verdict")), Reason: rapid.String().Draw(t, "reason")}
			if len(names) > 0 {
				m.Probe = rapid.SampledFrom(names).Draw(t, "probe")
			}
			if value := rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{math.MaxFloat64, -math.MaxFloat64, math.SmallestNonzeroFloat64, 0})).Draw(t, "value"); !math.IsNaN(value) && !math.IsInf(value, 0) {
				m.Value = &value
			}
			p.add(happened(event.Measured{Measurement: m})[0])
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

// A panic here would end Squall before the rollback.
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

// A run that does not count hits must not show that there are none.
func TestPanelOfARunThatCountsNothing(t *testing.T) {
	e := watched(t)
	e.Spec.Effect.MinRequests = 0
	var p panel
	for _, h := range happened(event.Started{Experiment: e}, event.Phase{Name: event.PhaseObserve}) {
		p.add(h)
	}
	if got := strings.Join(p.view(start, 80, 24), "\n"); strings.Contains(got, "hit") {
		t.Error(got)
	}
}
