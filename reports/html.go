package reports

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/reports/chart"
	"github.com/squall-chaos/squall/reports/words"
	"github.com/squall-chaos/squall/runner/event"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

//go:embed report.html
var pageText string

//nolint:gochecknoglobals // a constant template
var page = template.Must(template.New("report").Parse(pageText))

// pageData is the data of the page.
type pageData struct {
	Name, Title, Description string
	Outcome, Class           string
	Facts                    []fact
	Phases                   []pagePhase
	Probes                   []pageProbe
	Effect                   *pageEffect
	Objects                  []pageObject
	Changes                  []pageChange
	Environment              []fact
	Experiment               string
}

// pagePhase is a phase on the timeline, with its position in percent.
type pagePhase struct {
	Name, Reason, At, Lasted string
	Left, Width              float64
}

type pageProbe struct {
	Name, Tolerance, Query string
	Plot                   template.HTML
	Rows                   []judgement
}

type pageEffect struct {
	event.Effect
	Hit, Share string
}

type pageObject struct{ Name, Manifest string }

type pageChange struct{ At, What, Object, Error string }

// HTML writes a self-contained page without scripts.
func HTML(w io.Writer, r Run) error {
	data := pageData{
		Name: r.Experiment.Metadata.Name, Title: r.Experiment.Spec.Title, Description: r.Experiment.Spec.Description,
		Outcome: r.Outcome(), Class: r.news(), Facts: r.facts(),
	}
	if r.Effect != nil {
		data.Effect = &pageEffect{Effect: *r.Effect, Hit: words.Hit(*r.Effect)}
		if r.Effect.Share != nil {
			data.Effect.Share = words.Share(*r.Effect.Share)
		}
	}
	data.Phases = r.timeline()
	rows := map[string][]judgement{}
	for _, j := range r.judgements() {
		rows[j.Probe] = append(rows[j.Probe], j)
	}
	for _, probe := range r.Experiment.Spec.Measured() {
		shown, err := r.pageProbe(probe, rows[probe.Name])
		if err != nil {
			return err
		}
		data.Probes = append(data.Probes, shown)
	}
	for _, object := range r.Plan.Objects {
		if object == nil { // a journal of another program
			continue
		}
		manifest, err := yaml.Marshal(object.Object)
		if err != nil {
			return fmt.Errorf("HTML report: %w", err)
		}
		data.Objects = append(data.Objects, pageObject{Name: object.GetKind() + " " + object.GetNamespace() + "/" + object.GetName(), Manifest: string(manifest)})
	}
	for _, c := range r.Changes {
		data.Changes = append(data.Changes, pageChange{At: r.at(c.Time), What: c.What, Object: c.Object.String(), Error: c.Error})
	}
	data.Environment = []fact{
		{Name: "began", Value: r.Began.UTC().Format("2006-01-02 15:04:05 MST")},
		{Name: "cluster", Value: r.Cluster},
		{Name: "Prometheus", Value: r.Prometheus},
		{Name: "owner", Value: r.Run.Owner},
		{Name: "Squall", Value: r.Version},
	}
	var file strings.Builder
	if err := experiments.Encode(&file, r.Experiment); err != nil {
		return fmt.Errorf("HTML report: %w", err)
	}
	data.Experiment = file.String()
	if err := page.Execute(w, data); err != nil {
		return fmt.Errorf("HTML report: %w", err)
	}
	return nil
}

func (r Run) pageProbe(probe experiments.Probe, rows []judgement) (pageProbe, error) {
	var measurements []steadystate.Measurement
	for _, row := range rows {
		measurements = append(measurements, row.measurements...)
	}
	drawn, err := chart.Draw(chart.Run{Began: r.Began, Ended: r.Last, Active: r.faultPeriods()}, probe, measurements)
	if err != nil {
		return pageProbe{}, err
	}
	return pageProbe{Name: probe.Name, Tolerance: words.Tolerance(probe), Query: r.Queries[probe.Name], Plot: drawn, Rows: rows}, nil
}

// timeline returns the phases of the run with their positions on a line.
func (r Run) timeline() []pagePhase {
	whole := r.Last.Sub(r.Began).Seconds()
	var phases []pagePhase
	for i, p := range r.Phases {
		end := r.Last
		if i+1 < len(r.Phases) {
			end = r.Phases[i+1].Began
		}
		shown := pagePhase{Name: string(p.Name), Reason: p.Reason, At: r.at(p.Began), Lasted: end.Sub(p.Began).Round(time.Millisecond).String()}
		if whole > 0 {
			shown.Left, shown.Width = 100*p.Began.Sub(r.Began).Seconds()/whole, 100*end.Sub(p.Began).Seconds()/whole
		}
		phases = append(phases, shown)
	}
	return phases
}

// at formats a time as seconds since the start of the run.
func (r Run) at(t time.Time) string { return fmt.Sprintf("%.1f s", t.Sub(r.Began).Seconds()) }

// VerdictName returns the verdict of a row, for its style.
func (j judgement) VerdictName() string { return j.verdict() }

// faultPeriods returns the times in which a fault was active, from the start of
// the run: the times of the experiment, until the end of the run.
func (r Run) faultPeriods() []experiments.Period {
	for i, phase := range r.Phases {
		if phase.Name != event.PhaseObserve {
			continue
		}
		end := r.Last
		if i+1 < len(r.Phases) {
			end = r.Phases[i+1].Began
		}
		start, length := phase.Began.Sub(r.Began), end.Sub(phase.Began)
		var periods []experiments.Period
		for _, p := range r.Experiment.Spec.Injections().Periods() {
			until := min(p.Until, length)
			if p.Until >= r.Experiment.Spec.Duration.Duration {
				until = length // until the rollback
			}
			if p.From < until {
				periods = append(periods, experiments.Period{From: start + p.From, Until: start + until})
			}
		}
		return periods
	}
	return nil
}
