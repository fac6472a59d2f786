package steadystate_test

import (
	"strings"
	"testing"

	"github.com/squall-chaos/squall/experiments"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

func TestAnchor(t *testing.T) {
	tenth := experiments.Share(0.1)
	measured := func(values ...float64) (all []steadystate.Measurement) {
		for _, v := range values {
			all = append(all, steadystate.Measurement{Probe: "p", Value: &v}, steadystate.Measurement{Probe: "other"})
		}
		return all
	}
	for _, test := range []struct {
		name     string
		probe    experiments.Probe
		baseline []steadystate.Measurement
		low      *experiments.Bound
		high     *experiments.Bound
	}{
		{"drop", experiments.Probe{MaxDrop: &tenth}, measured(10, 30, 20), experiments.Number(18), nil},
		{"rise", experiments.Probe{MaxRise: &tenth}, measured(10, 20), nil, experiments.Number(16.5)},
		{"both, negative", experiments.Probe{MaxDrop: &tenth, MaxRise: &tenth}, measured(-10), experiments.Number(-11), experiments.Number(-9)},
		{"the stricter of two counts", experiments.Probe{MaxDrop: &tenth, MaxRise: &tenth, Min: experiments.Number(95), Max: experiments.Number(105)}, measured(100), experiments.Number(95), experiments.Number(105)},
		{"nothing relative", experiments.Probe{Min: experiments.Number(1)}, nil, experiments.Number(1), nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.probe.Name = "p"
			anchored, err := steadystate.Anchor([]experiments.Probe{test.probe}, test.baseline)
			if err != nil {
				t.Fatal(err)
			}
			same := func(a, b *experiments.Bound) bool {
				return a == nil && b == nil || a != nil && b != nil && a.Value() == b.Value()
			}
			if !same(anchored[0].Min, test.low) || !same(anchored[0].Max, test.high) {
				t.Errorf("min %v, max %v", anchored[0].Min, anchored[0].Max)
			}
		})
	}
	if _, err := steadystate.Anchor([]experiments.Probe{{Name: "q", MaxDrop: &tenth}}, measured(1)); err == nil || !strings.Contains(err.Error(), "the baseline has no value") {
		t.Errorf("error %v", err)
	}
}
