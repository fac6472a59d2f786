package preview

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/oneline"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/mesh/advice"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/reports/words"
	"github.com/squall-chaos/squall/runner/effect"
)

// WriteYAML prints the objects as manifests, and everything else as comments.
func WriteYAML(out io.Writer, p Preview) error {
	for line := range strings.Lines(describe(p)) {
		fmt.Fprintln(out, strings.TrimRight("# "+line, " \n"))
	}
	return printObjects(out, p.Objects)
}

// WriteText prints a plan for people: what is decided, and the objects.
func WriteText(out io.Writer, p Preview) error {
	fmt.Fprint(out, describe(p))
	return writeManifests(out, p)
}

// WriteDiff prints what WriteText does, and how the routes change.
func WriteDiff(out io.Writer, p Preview) error {
	fmt.Fprint(out, describe(p))
	for _, d := range p.Decisions {
		if d.Placement != mesh.Refused {
			fmt.Fprintf(out, "\nroutes from %s to %s (+ new, - gone, ~ changed, = as before)\n%s", d.Callers, d.Host, indented(diffOf(d.Decision)))
		}
	}
	return writeManifests(out, p)
}

// diffOf returns the changes of the routes of all protocols. A host without a port for
// requests has no HTTP routes.
func diffOf(d mesh.Decision) string {
	text := ""
	if !d.Connections {
		text = advice.DiffRoutes("http", d.Before, d.During)
	}
	return text + advice.DiffRoutes("tcp", d.Undiverted.TCP, d.Diverted.TCP) + advice.DiffRoutes("tls", d.Undiverted.TLS, d.Diverted.TLS)
}

// writeManifests prints the objects and their later states.
func writeManifests(out io.Writer, p Preview) error {
	if len(p.Objects) == 0 {
		return nil
	}
	fmt.Fprintln(out, "\n# A run adds its id, owner and expiry, and first creates a heartbeat Job.")
	if err := printObjects(out, p.Objects); err != nil {
		return err
	}
	for _, step := range p.Steps {
		fmt.Fprintf(out, "# After %s, until the next change:\n", step.After)
		if err := printObjects(out, []*unstructured.Unstructured{step.Object}); err != nil {
			return err
		}
	}
	return nil
}

func indented(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		printLine(&b, "  %s", strings.TrimSuffix(line, "\n"))
	}
	return b.String()
}

// printObjects prints objects as YAML documents.
func printObjects(out io.Writer, objects []*unstructured.Unstructured) error {
	for _, object := range objects {
		text, err := yaml.Marshal(object.Object)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "---\n%s", text)
	}
	return nil
}

// describe returns the decisions and the warnings of a plan as lines.
func describe(p Preview) string {
	var b strings.Builder
	for i, d := range p.Decisions {
		if i > 0 {
			b.WriteString("\n")
		}
		describeDecision(&b, p, d)
	}
	for _, step := range p.Steps {
		printLine(&b, "  after %s  %s changes", step.After, objects.RefTo(step.Object))
	}
	if len(p.Warnings) > 0 {
		b.WriteString("\n")
	}
	for _, warning := range p.Warnings {
		printLine(&b, "  warning: %s", warning)
	}
	return b.String()
}

func describeDecision(b *strings.Builder, p Preview, d Decision) {
	line := func(name, format string, args ...any) {
		printLine(b, "  %-9s  %s", name, fmt.Sprintf(format, args...))
	}
	printLine(b, "%s: %s -> %s", p.Experiment, callersInWords(d), d.Host)
	if d.Istio != "" {
		line("istio", "%s", d.Istio)
	}
	if d.Effective != nil {
		line("effective", "%s", *d.Effective)
	} else {
		line("effective", "none")
	}
	if d.Placement == mesh.Refused {
		line("refused", "%s", d.Reason)
		if d.Hint != "" {
			line("hint", "%s", d.Hint)
		}
		return
	}
	line("placement", "%s", placementInWords(d.Decision))
	if d.Gateway != nil {
		for _, requests := range d.Gateway.Requests {
			line("outside", "%s", requests)
		}
	}
	for _, i := range d.Injections {
		line("fault", "%s", words.FaultOf(d.Decision, i.Fault))
		if only := narrowingInWords(i); only != "" {
			line("only", "%s", only)
		}
	}
	line("hit", "%s", hitInWords(p, d))
	if len(d.Waits) > 0 {
		line("wait", "%s", words.Waits(d.Waits))
	}
	if d.Closes != nil {
		line("closes", "%s", words.Closes(*d.Closes))
	}
}

// callersInWords returns the callers of a decision: "shop (app=reviews)".
func callersInWords(d Decision) string {
	var callers []experiments.Caller
	for _, i := range d.Injections {
		for _, c := range i.Callers {
			if !slices.ContainsFunc(callers, c.Equal) {
				callers = append(callers, c)
			}
		}
	}
	if len(callers) == 0 {
		return cmp.Or(d.Callers, "no callers")
	}
	return words.Callers(callers)
}

// placementInWords returns the placement with its reason. The reason of a shadow names
// the placement.
func placementInWords(d mesh.Decision) string {
	if d.Placement == mesh.Shadow {
		return d.Reason
	}
	return fmt.Sprintf("%s in %s: %s", d.Placement, d.Namespace, d.Reason)
}

// narrowingInWords returns the conditions on the requests of the callers.
func narrowingInWords(i experiments.Injection) string {
	var parts []string
	if i.Target.Port != 0 {
		parts = append(parts, fmt.Sprintf("to port %d", i.Target.Port))
	}
	if i.Target.Subset != "" {
		parts = append(parts, "to subset "+i.Target.Subset)
	}
	if len(i.Match) > 0 {
		parts = append(parts, "that match its conditions")
	}
	if len(parts) == 0 {
		return ""
	}
	return "requests " + strings.Join(parts, ", ")
}

// hitInWords returns the number of requests that the faults hit.
func hitInWords(p Preview, d Decision) string {
	percent := strconv.FormatFloat(rounded(100*weighted(d.Decision).Peak().Hit), 'f', -1, 64) + " %"
	switch {
	case d.Connections:
		return percent + " of the connections"
	case d.RequestsPerSecond == nil && p.measured:
		return fmt.Sprintf("%s of the requests; Prometheus has no such calls in %s", percent, lately(effect.LongestWindow))
	case d.RequestsPerSecond == nil:
		return percent + " of the requests"
	case *d.RequestsPerSecond == 0:
		return "nothing: there were no such calls in " + lately(d.window)
	}
	number := func(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
	about, of := "about", percent
	if d.AtMost {
		about, of = "at most", percent+" of the matching requests"
	}
	text := fmt.Sprintf("%s %s of %s requests/s in %s (%s)", about, number(*d.HitPerSecond), number(*d.RequestsPerSecond), lately(d.window), of)
	if *d.FailingPerSecond == 0 {
		return text + ", none of which are expected to fail"
	}
	text = fmt.Sprintf("%s, of which %s/s are expected to fail", text, number(*d.FailingPerSecond))
	if others := d.NotGRPCPerSecond; others != nil && *others > 0 {
		text += fmt.Sprintf(" if they are gRPC; of all, %s/s are not, and those that are hit get 200 OK", number(*others))
	}
	return text
}

// lately describes a window of a rate.
func lately(window time.Duration) string {
	if window == time.Minute {
		return "the last minute"
	}
	return fmt.Sprintf("the last %.0f minutes", window.Minutes())
}

// rounded returns a number with three significant digits.
func rounded(f float64) float64 {
	short, err := strconv.ParseFloat(strconv.FormatFloat(f, 'g', 3, 64), 64)
	if err != nil || math.IsInf(short, 0) {
		return f
	}
	return short
}

// printLine prints one line. It may contain text of a cluster, a server or a file.
func printLine(out io.Writer, format string, args ...any) {
	fmt.Fprintln(out, oneline.Blanked(fmt.Sprintf(format, args...)))
}
