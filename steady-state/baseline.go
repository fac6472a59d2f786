package steadystate

import (
	"fmt"
	"math"
	"slices"

	"github.com/squall-chaos/squall/experiments"
)

// Anchor returns the probes with relative tolerances replaced by absolute ones,
// which follow from the median of the baseline. It returns an error if a probe
// with a relative tolerance has no value in the baseline.
func Anchor(probes []experiments.Probe, baseline []Measurement) ([]experiments.Probe, error) {
	anchored := slices.Clone(probes)
	for i := range anchored {
		p := &anchored[i]
		if p.MaxDrop == nil && p.MaxRise == nil {
			continue
		}
		median, ok := medianOf(p.Name, baseline)
		if !ok {
			return nil, fmt.Errorf("%s: the baseline has no value, so maxDrop and maxRise cannot be checked", p.Name)
		}
		if p.MaxDrop != nil {
			low := median - math.Abs(median)*float64(*p.MaxDrop)
			if p.Min != nil {
				low = math.Max(low, p.Min.Value())
			}
			p.Min = experiments.Number(low)
		}
		if p.MaxRise != nil {
			high := median + math.Abs(median)*float64(*p.MaxRise)
			if p.Max != nil {
				high = math.Min(high, p.Max.Value())
			}
			p.Max = experiments.Number(high)
		}
	}
	return anchored, nil
}

// medianOf returns the median of a probe's values. For an even number of values it
// is the mean of the two in the middle. The result is false if there are none.
func medianOf(probe string, measurements []Measurement) (float64, bool) {
	var values []float64
	for _, m := range measurements {
		if m.Probe == probe && m.Value != nil {
			values = append(values, *m.Value)
		}
	}
	if len(values) == 0 {
		return 0, false
	}
	slices.Sort(values)
	middle := len(values) / 2
	if len(values)%2 == 1 {
		return values[middle], true
	}
	return (values[middle-1] + values[middle]) / 2, true
}
