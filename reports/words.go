package reports

import (
	"cmp"
	"fmt"
	"math"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/oneline"
	"github.com/squall-chaos/squall/runner/event"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// FaultInWords says what a fault does: "abort with HTTP 503, 100 % of requests".
func FaultInWords(f experiments.Fault) string {
	var parts []string
	if f.Blackhole != nil {
		parts = append(parts, fmt.Sprintf("blackhole (%s)", f.Blackhole.Mode))
	}
	if f.Delay != nil {
		parts = append(parts, fmt.Sprintf("delay of %s", f.Delay.FixedDelay))
	}
	if f.Abort != nil && f.Abort.GRPCStatus != "" {
		parts = append(parts, "abort with gRPC "+f.Abort.GRPCStatus)
	} else if f.Abort != nil {
		parts = append(parts, fmt.Sprintf("abort with HTTP %d", f.Abort.HTTPStatus))
	}
	return strings.Join(parts, " and ") + percentageInWords(f) + timesInWords(f)
}

// percentageInWords says how many requests are hit. A journal from elsewhere may
// leave it out.
func percentageInWords(f experiments.Fault) string {
	switch {
	case f.Percentage == nil:
		return ""
	case f.Delay != nil && f.Abort != nil && *f.Percentage < 100:
		// As Envoy does it: a request may be hit by both, by one, or by none.
		return fmt.Sprintf(", each on %g %% of requests, independently", float64(*f.Percentage))
	default:
		return fmt.Sprintf(", %g %% of requests", float64(*f.Percentage))
	}
}

// timesInWords says when a fault is in force, where that is not all the time.
func timesInWords(f experiments.Fault) string {
	words := ""
	if f.StartAfter.Duration > 0 {
		words += fmt.Sprintf(", after %s", f.StartAfter)
	}
	if f.Duration.Duration > 0 {
		words += fmt.Sprintf(", for %s", f.Duration)
	}
	return words
}

// CallersInWords names the callers: "shop (app=reviews), prod".
func CallersInWords(callers []experiments.Caller) string {
	words := make([]string, len(callers))
	for i, c := range callers {
		words[i] = c.Namespace
		if len(c.Labels) > 0 {
			words[i] += " (" + labels.FormatLabels(c.Labels) + ")"
		}
	}
	return strings.Join(words, ", ")
}

// ToleranceInWords says which values are healthy: "from 0.99", "up to 1".
func ToleranceInWords(p experiments.Probe) string {
	var words []string
	switch {
	case p.Min != nil && p.Max != nil:
		words = append(words, fmt.Sprintf("%s to %s", steadystate.FormatValue(p.Min.Value()), steadystate.FormatValue(p.Max.Value())))
	case p.Min != nil:
		words = append(words, "at least "+steadystate.FormatValue(p.Min.Value()))
	case p.Max != nil:
		words = append(words, "at most "+steadystate.FormatValue(p.Max.Value()))
	}
	if p.MaxDrop != nil {
		words = append(words, fmt.Sprintf("at most %g %% below the baseline", float64(*p.MaxDrop)*100))
	}
	if p.MaxRise != nil {
		words = append(words, fmt.Sprintf("at most %g %% above the baseline", float64(*p.MaxRise)*100))
	}
	return strings.Join(words, ", ")
}

// HitInWords says how many requests a fault has hit: "at least 731 requests".
func HitInWords(e event.Effect) string {
	if e.Complete {
		return fmt.Sprintf("%.0f requests", e.Requests)
	}
	return fmt.Sprintf("at least %.0f requests", e.Requests)
}

// doubt is how many standard deviations a share may be off by chance.
const doubt = 4

// ShareInWords compares the share of the requests that was hit with the one that
// was asked for, and says when chance does not explain the difference.
func ShareInWords(s event.Share) string {
	words := fmt.Sprintf("%.1f %% of %.0f requests; asked for %.1f %%", 100*s.Achieved, s.Requests, 100*s.Wanted)
	// At either end chance has no part, but a request on its way while the
	// counters were read has.
	chance := math.Sqrt(math.Max(s.Wanted*(1-s.Wanted), 1/s.Requests) / s.Requests)
	switch off := s.Achieved - s.Wanted; {
	case off < -doubt*chance:
		words += ": more were spared than chance explains; perhaps not every proxy has the fault"
	case off > doubt*chance:
		words += ": more were hit than chance explains; perhaps another fault hits too"
	}
	return words
}

// OneLine makes a text from a cluster or a journal safe for a line of a table.
func OneLine(text string) string { return cmp.Or(oneline.Blanked(text), "-") }
