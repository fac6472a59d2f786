// Package files loads experiment files: it decodes them strictly, fills in defaults,
// and validates them. Everything that is wrong with a file is reported at once.
package files

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

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/experiments/problem"
	"github.com/squall-chaos/squall/experiments/strictyaml"
	"github.com/squall-chaos/squall/internal/yamlerr"
)

// Bounds on one file.
const (
	maxSize      = 1 << 20
	maxDocuments = 1000
)

// loader loads one file.
type loader struct {
	*strictyaml.Decoder
	file  string
	lines []string
	// names has the line of the first experiment of each name.
	names map[string]int
	// queries is the sum of the lengths of all queries so far, in bytes.
	queries int
}

// Load reads the experiments of one file: documents separated by ---, with defaults
// filled in. The name is used in messages only.
//
// An error is a problem.List of everything that is wrong; no experiment is returned
// then.
func Load(name string, r io.Reader) ([]experiments.Experiment, error) {
	content, err := io.ReadAll(io.LimitReader(r, maxSize+1))
	switch {
	case err != nil:
		return nil, problem.List{{File: name, Message: "cannot be read: " + err.Error()}}
	case len(content) > maxSize:
		return nil, problem.List{{File: name, Message: fmt.Sprintf("larger than %d KiB", maxSize>>10), Remedy: "is this an experiment file?"}}
	case !utf8.Valid(content) || bytes.IndexByte(content, 0) >= 0:
		return nil, problem.List{{File: name, Message: "is not text", Remedy: "an experiment file is YAML in UTF-8"}}
	}
	l := &loader{Decoder: strictyaml.New(name, istioFields), file: name, lines: strings.Split(string(content), "\n"), names: map[string]int{}}
	loaded := l.documents(content)
	if len(loaded) == 0 && len(l.Problems) == 0 {
		l.Add(problem.Problem{File: name, Message: "has no experiment", Remedy: "start with apiVersion: " + experiments.APIVersion})
	}
	if len(l.Problems) > 0 {
		slices.SortStableFunc(l.Problems, func(a, b problem.Problem) int {
			return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
		})
		return nil, l.Problems
	}
	return loaded, nil
}

// documents decodes and validates the documents of a file.
func (l *loader) documents(content []byte) []experiments.Experiment {
	var loaded []experiments.Experiment
	documents := yaml.NewDecoder(bytes.NewReader(content))
	for count := 0; len(l.Problems) <= strictyaml.MaxProblems; count++ {
		var document yaml.Node
		err := documents.Decode(&document)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			l.Add(syntaxProblem(l.file, content, err))
			break
		}
		if count == maxDocuments {
			l.ReportAt(&document, "", fmt.Sprintf("more than %d documents in one file", maxDocuments), "split the file")
			break
		}
		if !isEmpty(&document) {
			loaded = append(loaded, l.document(document.Content[0]))
		}
	}
	return loaded
}

// document decodes and validates one document. A document of another kind has
// other fields, so only its kind is reported.
func (l *loader) document(root *yaml.Node) experiments.Experiment {
	if kind := header(root, "kind"); kind != nil && kind.Value != experiments.Kind {
		if version := header(root, "apiVersion"); version == nil || version.Value != experiments.APIVersion {
			l.ReportAt(cmp.Or(version, root), "apiVersion", "must be "+experiments.APIVersion, "")
		}
		l.ReportAt(kind, "kind", fmt.Sprintf("%q is not known", kind.Value), strictyaml.Suggest(kind.Value, []string{experiments.Kind}))
		return experiments.Experiment{}
	}
	e := experiments.Experiment{Spec: experiments.Spec{
		SteadyState: experiments.SteadyState{Interval: experiments.Duration{Duration: experiments.DefaultInterval}},
		Effect:      experiments.Effect{MinRequests: experiments.DefaultEffectMinimum, MinShare: new(experiments.DefaultEffectShare)},
		Recovery:    experiments.Recovery{Within: experiments.Duration{Duration: experiments.DefaultRecoveryDeadline}},
	}}
	before := len(l.Problems)
	complete := l.Document(root, &e)
	v := validator{in: l, decoding: slices.Clone(l.Problems[before:])}
	v.zeros(e)
	setDefaults(&e)
	if complete {
		v.experiment(e)
	}
	return e
}

// header returns the node of a field of a document, or nil if the document does not
// have the field or it is not text.
func header(root *yaml.Node, field string) *yaml.Node {
	if root.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		if value := root.Content[i+1]; root.Content[i].Value == field && value.Kind == yaml.ScalarNode && value.Tag == "!!str" {
			return value
		}
	}
	return nil
}

func isEmpty(document *yaml.Node) bool {
	return len(document.Content) == 0 ||
		document.Content[0].Kind == yaml.ScalarNode && document.Content[0].Tag == "!!null"
}

func syntaxProblem(file string, content []byte, err error) problem.Problem {
	line, message := yamlerr.Split(err)
	if line == 0 {
		return problem.Problem{File: file, Message: "is not YAML: " + message}
	}
	// The library reports the line at which the unfinished part begins.
	p := problem.Problem{File: file, Line: line, Column: 1, Message: "is not YAML, here or in the lines below: " + message}
	if lines := bytes.Split(content, []byte("\n")); line <= len(lines) && hasTabIndent(lines[line-1]) {
		p.Remedy = "replace the tab: YAML indents with spaces"
	}
	return p
}

// hasTabIndent reports whether the indentation of a line has a tab.
func hasTabIndent(line []byte) bool {
	return bytes.ContainsRune(line[:len(line)-len(bytes.TrimLeft(line, " \t"))], '\t')
}
