package reports

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/reports/words"
	"github.com/squall-chaos/squall/runner/event"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// JSONSchema is the version of the JSON report. It increases when a field is
// removed or changes its meaning, but not when fields are added.
const JSONSchema = 1

// document is the JSON report.
type document struct {
	Schema     int    `json:"schema"`
	Run        string `json:"run"`
	Experiment string `json:"experiment"`
	Title      string `json:"title,omitempty"`
	// Labels are the labels of the experiment.
	Labels map[string]string `json:"labels,omitempty"`
	// Status is empty, and the verdict inconclusive, if the journal was cut
	// short.
	Status   event.Status        `json:"status"`
	Verdict  steadystate.Verdict `json:"verdict"`
	Reason   string              `json:"reason,omitempty"`
	Hint     string              `json:"hint,omitempty"`
	Began    time.Time           `json:"began"`
	Finished time.Time           `json:"finished,omitzero"`

	Version    string `json:"version"`
	Owner      string `json:"owner"`
	Cluster    string `json:"cluster"`
	Prometheus string `json:"prometheus"`
	Heartbeat  bool   `json:"heartbeat"`

	Faults    []string        `json:"faults"`
	Decisions []mesh.Decision `json:"decisions"`
	Phases    []Phase         `json:"phases"`
	Probes    []probeReport   `json:"probes"`
	Effect    *event.Effect   `json:"effect,omitempty"`
	Clean     *event.Clean    `json:"clean,omitempty"`
	Changes   []Change        `json:"changes"`

	// InjectedSecondsMost is the upper bound if the time is not known to a second, and
	// InjectedSeconds is the lower one.
	InjectedSeconds     float64        `json:"injectedSeconds"`
	InjectedSecondsMost float64        `json:"injectedSecondsMost,omitempty"`
	RollbackSeconds     float64        `json:"rollbackSeconds"`
	RecoverySeconds     float64        `json:"recoverySeconds,omitempty"`
	Left                []objects.Left `json:"left"`
}

type probeReport struct {
	judgement
	Measurements []steadystate.Measurement `json:"measurements"`
}

// JSON writes the run for other programs.
func JSON(w io.Writer, r Run) error {
	d := document{
		Schema: JSONSchema, Run: r.Run.ID, Experiment: r.Experiment.Metadata.Name, Title: r.Experiment.Spec.Title, Labels: r.Experiment.Metadata.Labels,
		Verdict: steadystate.Inconclusive, Began: r.Began,
		Version: r.Version, Owner: r.Run.Owner, Cluster: r.Cluster, Prometheus: r.Prometheus, Heartbeat: !r.WithoutHeartbeat,
		Faults: []string{}, Decisions: notNil(r.Plan.Decisions), Phases: notNil(r.Phases), Probes: []probeReport{}, Effect: r.Effect, Clean: r.Clean, Changes: notNil(r.Changes), Left: []objects.Left{},
	}
	for i, f := range r.Experiment.Spec.Faults {
		d.Faults = append(d.Faults, words.FaultOf(r.decisionFor(i), f))
	}
	for _, j := range r.judgements() {
		d.Probes = append(d.Probes, probeReport{judgement: j, Measurements: notNil(j.measurements)})
	}
	if result := r.Result; result != nil {
		d.Status, d.Verdict, d.Reason, d.Hint, d.Finished = result.Status, result.Verdict, result.Reason, result.Hint, result.Finished
		d.InjectedSeconds, d.RollbackSeconds, d.RecoverySeconds = result.Injected.Seconds(), result.Rollback.Seconds(), result.Recovery.Seconds()
		d.InjectedSecondsMost = result.InjectedMost.Seconds()
		d.Left = notNil(result.Left)
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(d); err != nil {
		return fmt.Errorf("JSON report: %w", err)
	}
	return nil
}

// notNil returns an empty list instead of nil, which JSON would encode as null.
func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
