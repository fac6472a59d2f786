// Package chart draws the measurements of a probe over time, as SVG for a page.
package chart

import (
	"bytes"
	"fmt"
	"html"
	"html/template"
	"image/color"
	"math"
	"strings"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/reports/words"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// shade is a color that identifies a meaning: #010101, #020202 and so on. The page
// replaces each by a color for light and dark mode.
type shade uint8

const (
	inkShade shade = iota + 1
	gridShade
	bandShade
	faultShade
	lineShade
	verdictShade // of a measurement that holds; the other verdicts follow
)

// RGBA implements color.Color.
func (s shade) RGBA() (r, g, b, a uint32) {
	return color.RGBA{uint8(s), uint8(s), uint8(s), 255}.RGBA()
}

//nolint:gochecknoglobals // a constant table
var plotColours = strings.NewReplacer(
	"#010101", "var(--ink)", "#020202", "var(--grid)", "#030303", "var(--band)", "#040404", "var(--fault)", "#050505", "var(--line)",
	"#060606", "var(--held)", "#070707", "var(--inconclusive)", "#080808", "var(--deviated)",
)

const (
	plotWidth  = 18 * vg.Centimeter
	plotHeight = 6 * vg.Centimeter
	// margin is the space of a plot above and below its values, as a share.
	margin = 0.08
	// largest is the largest value that is drawn without a change: the margin above
	// a larger one would overflow.
	largest = 1e300
	// edge is the space for the label of a tick at the right end of the axis.
	edge = 0.5 * vg.Centimeter
)

// Run is what a chart shows of a run beside its measurements.
type Run struct {
	Began, Ended time.Time
	// Active are the times in which a fault was active, from the start of the run.
	Active []experiments.Period
}

// Draw draws the measurements of a probe over time, with its tolerance and the times in
// which a fault was active. It returns an empty text if no measurement has a value.
func Draw(r Run, probe experiments.Probe, measurements []steadystate.Measurement) (template.HTML, error) {
	var points plotter.XYs
	var verdicts []steadystate.Verdict
	for _, m := range measurements {
		if m.Value != nil {
			points = append(points, plotter.XY{X: m.Time.Sub(r.Began).Seconds(), Y: drawable(*m.Value)})
			verdicts = append(verdicts, m.Verdict)
		}
	}
	if len(points) == 0 {
		return "", nil
	}
	p := plot.New()
	p.X.Label.Text = "seconds"
	p.X.Min, p.X.Max = 0, math.Max(r.Ended.Sub(r.Began).Seconds(), points[len(points)-1].X)
	low, high := bounds(points, probe)
	p.Y.Min, p.Y.Max = low, high
	paint(p)
	if err := addBands(p, r, probe); err != nil {
		return "", err
	}
	line, err := plotter.NewLine(points)
	if err != nil {
		return "", fmt.Errorf("plot of %s: %w", probe.Name, err)
	}
	line.Color = lineShade
	scatter, err := plotter.NewScatter(points)
	if err != nil {
		return "", fmt.Errorf("plot of %s: %w", probe.Name, err)
	}
	scatter.GlyphStyleFunc = func(i int) draw.GlyphStyle {
		return draw.GlyphStyle{Color: verdictShade + shade(verdicts[i]), Radius: vg.Points(2), Shape: draw.CircleGlyph{}} //nolint:gosec // a verdict is 0 to 2
	}
	p.Add(line, scatter)
	return render(p, fmt.Sprintf("%s over time, %s", probe.Name, words.Tolerance(probe)))
}

func drawable(value float64) float64 { return math.Max(-largest, math.Min(value, largest)) }

// bounds returns the range of the values of a plot: all measurements and the
// tolerance.
func bounds(points plotter.XYs, probe experiments.Probe) (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, point := range points {
		low, high = math.Min(low, point.Y), math.Max(high, point.Y)
	}
	for _, bound := range []*experiments.Bound{probe.Min, probe.Max} {
		if bound != nil {
			value := drawable(bound.Value())
			low, high = math.Min(low, value), math.Max(high, value)
		}
	}
	room := (high - low) * margin
	if room == 0 {
		room = math.Max(math.Abs(high)*margin, margin)
	}
	return low - room, high + room
}

// paint sets the colors of the axes.
func paint(p *plot.Plot) {
	p.BackgroundColor = color.Transparent
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		// The page has fonts of the same widths, so that labels fit.
		axis.Tick.Marker = plainTicks{}
		axis.Label.TextStyle.Font.Variant, axis.Tick.Label.Font.Variant = "Sans", "Sans"
		axis.Color, axis.Label.TextStyle.Color, axis.Tick.Color, axis.Tick.Label.Color = inkShade, inkShade, inkShade, inkShade
	}
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = gridShade, gridShade
	p.Add(grid)
}

// plainTicks are the default ticks without trailing zeros: 5000, not 5000.00.
type plainTicks struct{ plot.DefaultTicks }

// Ticks implements plot.Ticker.
func (t plainTicks) Ticks(low, high float64) []plot.Tick {
	ticks := t.DefaultTicks.Ticks(low, high)
	for i, tick := range ticks {
		if strings.Contains(tick.Label, ".") && !strings.Contains(tick.Label, "e") {
			ticks[i].Label = strings.TrimRight(strings.TrimRight(tick.Label, "0"), ".")
		}
	}
	return ticks
}

// band is a shaded rectangle of a plot.
type band struct {
	x0, x1, y0, y1 float64
	colour         color.Color
}

// addBands shades the healthy values, and the times in which a fault was active.
func addBands(p *plot.Plot, r Run, probe experiments.Probe) error {
	low, high := p.Y.Min, p.Y.Max
	if probe.Min != nil {
		low = drawable(probe.Min.Value())
	}
	if probe.Max != nil {
		high = drawable(probe.Max.Value())
	}
	bands := []band{{x0: p.X.Min, x1: p.X.Max, y0: low, y1: high, colour: bandShade}}
	for _, active := range r.Active {
		bands = append(bands, band{x0: active.From.Seconds(), x1: active.Until.Seconds(), y0: p.Y.Min, y1: p.Y.Max, colour: faultShade})
	}
	for _, b := range bands {
		polygon, err := plotter.NewPolygon(plotter.XYs{{X: b.x0, Y: b.y0}, {X: b.x1, Y: b.y0}, {X: b.x1, Y: b.y1}, {X: b.x0, Y: b.y1}})
		if err != nil {
			return fmt.Errorf("plot of %s: %w", probe.Name, err)
		}
		polygon.Color, polygon.Width = b.colour, 0
		p.Add(polygon)
	}
	return nil
}

// render returns a plot as an SVG element of a page.
func render(p *plot.Plot, label string) (template.HTML, error) {
	canvas := vgsvg.NewWith(vgsvg.UseWH(plotWidth, plotHeight))
	p.Draw(draw.Crop(draw.New(canvas), 0, -edge, 0, 0))
	var out bytes.Buffer
	if _, err := canvas.WriteTo(&out); err != nil {
		return "", fmt.Errorf("plot: %w", err)
	}
	_, svg, found := strings.Cut(out.String(), "<svg ")
	if !found {
		return "", fmt.Errorf("plot: no svg element")
	}
	// The library escapes its text, and the label is escaped here.
	return template.HTML(`<svg role="img" aria-label="` + html.EscapeString(label) + `" ` + plotColours.Replace(svg)), nil //nolint:gosec // see above
}
