package experiments

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/squall-chaos/squall/experiments/strictyaml"
)

// Duration is a duration in the syntax of Go: 90s, 1m30s.
type Duration struct{ time.Duration }

// String returns the duration in Go's notation without parts that are zero: 2m, not
// 2m0s.
func (d Duration) String() string {
	text := d.Duration.String()
	for _, zero := range []string{"0s", "0m"} {
		if short, ok := strings.CutSuffix(text, zero); ok && strings.HasSuffix(short, "m") || ok && strings.HasSuffix(short, "h") {
			text = short
		}
	}
	return text
}

// MarshalText returns the duration in Go's notation.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads Go's notation, which journals have.
func (d *Duration) UnmarshalText(text []byte) (err error) {
	d.Duration, err = time.ParseDuration(string(text))
	return err
}

const durationRemedy = "write a number with a unit (ms, s, m, h), such as 30s or 1m30s"

// DecodeNode implements strictyaml.NodeDecoder.
func (d *Duration) DecodeNode(l *strictyaml.Decoder, node *yaml.Node, path string) {
	if node.Kind != yaml.ScalarNode || node.Tag != "!!str" {
		remedy := durationRemedy
		if node.Tag == "!!int" {
			remedy = fmt.Sprintf("write %ss for seconds", node.Value)
		}
		l.Report(path, fmt.Sprintf("want a duration, found %s", strictyaml.Describe(node)), remedy)
		return
	}
	parsed, err := time.ParseDuration(node.Value)
	if err != nil {
		l.Report(path, fmt.Sprintf("%q is not a duration", node.Value), durationRemedy)
		return
	}
	d.Duration = parsed
}

// DecodeNode implements strictyaml.NodeDecoder.
func (m *StringMatch) DecodeNode(l *strictyaml.Decoder, node *yaml.Node, path string) {
	if node.Kind == yaml.ScalarNode && node.Tag == "!!str" {
		l.Report(path, fmt.Sprintf("want one of exact, prefix and regex, found %s", strictyaml.Describe(node)), fmt.Sprintf("write {exact: %s}", node.Value))
		return
	}
	type fields StringMatch
	l.DecodeInto(node, path, (*fields)(m))
}

// Percentage is a share of requests, 0.0001 to 100. A file may write it as a
// number or, as Istio does, as {value: number}.
type Percentage float64

// SmallestPercentage is the finest percentage that Istio has: it multiplies by 10,000
// and truncates (pilot/pkg/networking/core/route, TranslateFault).
const SmallestPercentage = 0.0001

// DecodeNode implements strictyaml.NodeDecoder.
func (p *Percentage) DecodeNode(l *strictyaml.Decoder, node *yaml.Node, path string) {
	if node.Kind == yaml.MappingNode {
		var wrapped struct {
			Value *float64 `json:"value"`
		}
		l.DecodeInto(node, path, &wrapped)
		switch {
		case wrapped.Value != nil:
			*p = Percentage(*wrapped.Value)
		default:
			*p = Percentage(math.NaN()) // reported as a missing value
		}
		return
	}
	value, ok := strictyaml.Number(node)
	if !ok {
		l.Report(path, fmt.Sprintf("want a number from 0.0001 to 100, found %s", strictyaml.Describe(node)), "write 50 for half of the requests, without a percent sign or quotes")
		return
	}
	*p = Percentage(value)
}

// Bound is one end of a tolerance: a number or, for a latency, a duration.
type Bound struct {
	number   float64
	duration time.Duration
}

// Number returns a bound that is a number.
func Number(n float64) *Bound { return &Bound{number: n} }

// Value returns the bound as a number; a duration in milliseconds, the unit of
// Istio's metrics.
func (b Bound) Value() float64 {
	if b.duration != 0 {
		return float64(b.duration) / float64(time.Millisecond)
	}
	return b.number
}

// Duration returns the bound if it is a duration, and 0 if it is a number.
func (b Bound) Duration() time.Duration { return b.duration }

// MarshalJSON returns the bound as it was written.
func (b Bound) MarshalJSON() ([]byte, error) {
	if b.duration != 0 {
		return json.Marshal(b.duration.String())
	}
	return json.Marshal(b.number)
}

// UnmarshalJSON reads what MarshalJSON returns.
func (b *Bound) UnmarshalJSON(text []byte) (err error) {
	var written string
	if json.Unmarshal(text, &written) == nil {
		b.duration, err = time.ParseDuration(written)
		return err
	}
	return json.Unmarshal(text, &b.number)
}

// DecodeNode implements strictyaml.NodeDecoder.
func (b *Bound) DecodeNode(l *strictyaml.Decoder, node *yaml.Node, path string) {
	if value, ok := strictyaml.Number(node); ok {
		b.number = value
		return
	}
	duration, err := time.ParseDuration(node.Value)
	if node.Kind != yaml.ScalarNode || node.Tag != "!!str" || err != nil || duration == 0 {
		l.Report(path, fmt.Sprintf("want a number, found %s", strictyaml.Describe(node)), boundRemedy(node.Value))
		return
	}
	b.duration = duration
}

// boundRemedy returns what to write in place of text that is not a bound.
func boundRemedy(text string) string {
	var share Share
	if share.UnmarshalText([]byte(text)) == nil {
		return fmt.Sprintf("write %s", strconv.FormatFloat(float64(share), 'f', -1, 64))
	}
	return "a latency may also have a duration, such as 800ms"
}

// Share is a part of a whole, written in percent: 5%.
type Share float64

// MarshalText returns the share in percent.
func (s Share) MarshalText() ([]byte, error) {
	return []byte(strconv.FormatFloat(float64(s)*100, 'f', -1, 64) + "%"), nil
}

// UnmarshalText reads a share in percent.
func (s *Share) UnmarshalText(text []byte) error {
	digits, ok := strings.CutSuffix(string(text), "%")
	percent, err := strconv.ParseFloat(digits, 64)
	if !ok || err != nil || math.IsNaN(percent) || math.IsInf(percent, 0) {
		return fmt.Errorf("%q is not a share in percent", text)
	}
	*s = Share(percent / 100)
	return nil
}

// DecodeNode implements strictyaml.NodeDecoder.
func (s *Share) DecodeNode(l *strictyaml.Decoder, node *yaml.Node, path string) {
	l.Text(node, path, s, "a share in percent", "write 5% for a twentieth")
}
