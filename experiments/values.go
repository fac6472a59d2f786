package experiments

import (
	"fmt"
	"strconv"
	"time"

	"gopkg.in/yaml.v3"
)

// Duration is a length of time, written as Go writes it: 90s, 1m30s.
type Duration struct{ time.Duration }

// MarshalText gives the duration in Go's notation.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads Go's notation, as journals hold it.
func (d *Duration) UnmarshalText(text []byte) (err error) {
	d.Duration, err = time.ParseDuration(string(text))
	return err
}

func (d *Duration) decodeNode(l *loader, node *yaml.Node, path string) {
	if node.Kind != yaml.ScalarNode || node.Tag != "!!str" {
		remedy := "write a number with a unit, such as 30s or 1m30s"
		if node.Tag == "!!int" {
			remedy = fmt.Sprintf("write %ss for seconds", node.Value)
		}
		l.problem(path, fmt.Sprintf("want a duration, found %s", describe(node)), remedy)
		return
	}
	parsed, err := time.ParseDuration(node.Value)
	if err != nil {
		l.problem(path, fmt.Sprintf("%q is not a duration", node.Value), "write a number with a unit (ms, s, m, h), such as 30s or 1m30s")
		return
	}
	d.Duration = parsed
}

// Percentage is a share of requests, 0.0001 to 100. A file may write it as a
// number or, as Istio does, as {value: number}.
type Percentage float64

func (p *Percentage) decodeNode(l *loader, node *yaml.Node, path string) {
	if node.Kind == yaml.MappingNode {
		var wrapped struct {
			Value *float64 `json:"value"`
		}
		l.decodeInto(node, path, &wrapped)
		if wrapped.Value != nil {
			*p = Percentage(*wrapped.Value)
		}
		return
	}
	if node.Kind != yaml.ScalarNode || node.Tag != "!!int" && node.Tag != "!!float" {
		l.problem(path, fmt.Sprintf("want a number from 0.0001 to 100, found %s", describe(node)), "write 50 for half of the requests, without a percent sign or quotes")
		return
	}
	value, err := strconv.ParseFloat(node.Value, 64)
	if err != nil {
		l.problem(path, fmt.Sprintf("%q is not a number", node.Value), "")
		return
	}
	*p = Percentage(value)
}
