package experiments

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"github.com/squall-chaos/squall/internal/yamlerr"
)

// Load reads every experiment of one file: documents separated by ---,
// defaults filled in. The name is used in messages only.
//
// When anything is wrong the error is of type Problems and lists everything
// that is, and no experiment is returned.
func Load(name string, r io.Reader) ([]Experiment, error) {
	l := &loader{file: name, names: map[string]int{}}
	content, err := io.ReadAll(io.LimitReader(r, maxFileSize+1))
	switch {
	case err != nil:
		return nil, Problems{{File: name, Message: "cannot be read: " + err.Error()}}
	case len(content) > maxFileSize:
		return nil, Problems{{File: name, Message: fmt.Sprintf("larger than %d KiB", maxFileSize>>10), Remedy: "is this an experiment file?"}}
	case !utf8.Valid(content) || bytes.IndexByte(content, 0) >= 0:
		return nil, Problems{{File: name, Message: "is not text", Remedy: "an experiment file is YAML in UTF-8"}}
	}
	l.lines = strings.Split(string(content), "\n")
	var loaded []Experiment
	documents := yaml.NewDecoder(bytes.NewReader(content))
	for count := 0; len(l.problems) <= maxProblems; count++ {
		var document yaml.Node
		err := documents.Decode(&document)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			l.add(syntaxProblem(name, err))
			break
		}
		if count == maxDocuments {
			l.problemAt(&document, "", fmt.Sprintf("more than %d documents in one file", maxDocuments), "split the file")
			break
		}
		if isEmpty(&document) {
			continue
		}
		loaded = append(loaded, l.document(document.Content[0]))
	}
	if len(loaded) == 0 && len(l.problems) == 0 {
		l.add(Problem{File: name, Message: "holds no experiment", Remedy: "start with apiVersion: " + APIVersion})
	}
	if len(l.problems) > 0 {
		slices.SortStableFunc(l.problems, func(a, b Problem) int {
			return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
		})
		return nil, l.problems
	}
	return loaded, nil
}

// document decodes and validates one document.
func (l *loader) document(root *yaml.Node) Experiment {
	l.positions = map[string]*yaml.Node{"": root}
	l.nodes, l.exhausted = 0, false
	experiment := Experiment{Spec: Spec{
		SteadyState: SteadyState{Interval: Duration{DefaultInterval}},
		Effect:      Effect{MinRequests: DefaultEffectMinimum},
		Recovery:    Recovery{Within: Duration{DefaultRecoveryDeadline}},
	}}
	before := len(l.problems)
	l.decodeInto(root, "", &experiment)
	l.refuseZeros(&experiment, slices.Clone(l.problems[before:]))
	experiment.setDefaults()
	if !l.exhausted {
		l.validate(&experiment, slices.Clone(l.problems[before:]))
	}
	return experiment
}

// refuseZeros reports zeros that are written where an omission means something
// else; once the defaults are filled in they cannot be told apart.
func (l *loader) refuseZeros(e *Experiment, decoding Problems) {
	v := validator{loader: l, decoding: decoding}
	v.notZero("spec.steadyState.before", e.Spec.SteadyState.Before)
	for i, p := range e.Spec.SteadyState.Probes {
		v.zerosOf(fmt.Sprintf("spec.steadyState.probes[%d]", i), p.Measure)
	}
	for i, c := range e.Spec.StopConditions {
		v.zerosOf(fmt.Sprintf("spec.stopConditions[%d]", i), c.Measure)
	}
	if c := e.Spec.Schedule; c != nil {
		v.notZero("spec.schedule.startingDeadline", c.StartingDeadline)
	}
}

func (v validator) zerosOf(path string, m Measure) {
	if m.SuccessRate != nil {
		v.notZero(path+".successRate.window", m.SuccessRate.Window)
	}
	if m.RequestRate != nil {
		v.notZero(path+".requestRate.window", m.RequestRate.Window)
	}
	if m.Latency == nil {
		return
	}
	v.notZero(path+".latency.window", m.Latency.Window)
	if m.Latency.Quantile == 0 && v.node(path+".latency.quantile") != nil {
		v.report(path+".latency.quantile", "0 is not a quantile", "between 0 and 1, such as 0.99")
	}
}

// setDefaults fills in what the file omits and depends on other fields.
func (e *Experiment) setDefaults() {
	for i := range e.Spec.Faults {
		f := &e.Spec.Faults[i]
		if f.Blackhole != nil && f.Percentage == nil {
			all := Percentage(100)
			f.Percentage = &all
		}
	}
	s := &e.Spec.SteadyState
	if len(s.Probes) > 0 {
		s.Before.Duration = cmp.Or(s.Before.Duration, DefaultBaselineSamples*s.Interval.Duration)
	}
	for i := range s.Probes {
		p := &s.Probes[i]
		if p.Phases == nil {
			p.Phases = []Phase{Before, During, After}
		}
		p.NoData = cmp.Or(p.NoData, NoDataInconclusive)
		p.setDefaults()
	}
	for i := range e.Spec.StopConditions {
		c := &e.Spec.StopConditions[i]
		c.NoData = cmp.Or(c.NoData, NoDataInconclusive)
		c.setDefaults()
	}
	if c := e.Spec.Schedule; c != nil {
		c.TimeZone = cmp.Or(c.TimeZone, DefaultTimeZone)
		c.ConcurrencyPolicy = cmp.Or(c.ConcurrencyPolicy, Forbid)
		c.StartingDeadline.Duration = cmp.Or(c.StartingDeadline.Duration, DefaultStartingDeadline)
	}
}

func (m *Measure) setDefaults() {
	if m.SuccessRate != nil {
		m.SuccessRate.Window.Duration = cmp.Or(m.SuccessRate.Window.Duration, DefaultWindow)
	}
	if m.Latency != nil {
		m.Latency.Window.Duration = cmp.Or(m.Latency.Window.Duration, DefaultWindow)
		m.Latency.Quantile = cmp.Or(m.Latency.Quantile, DefaultQuantile)
	}
	if m.RequestRate != nil {
		m.RequestRate.Window.Duration = cmp.Or(m.RequestRate.Window.Duration, DefaultWindow)
	}
}

func isEmpty(document *yaml.Node) bool {
	return len(document.Content) == 0 ||
		document.Content[0].Kind == yaml.ScalarNode && document.Content[0].Tag == "!!null"
}

func syntaxProblem(file string, err error) Problem {
	line, message := yamlerr.Split(err)
	if line == 0 {
		return Problem{File: file, Message: "is not YAML: " + message}
	}
	// The library reports the line at which the unfinished part begins.
	return Problem{File: file, Line: line, Column: 1, Message: "is not YAML, here or in the lines below: " + message}
}
