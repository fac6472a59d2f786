// Package words describes the parts of an experiment and of its effect to people, in
// the same words in reports, on terminals and on pages.
package words

import (
	"fmt"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/mesh/impact"
	"github.com/squall-chaos/squall/runner/event"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// Fault describes a fault: "abort with HTTP 503, 100 % of requests".
func Fault(f experiments.Fault) string { return fault(f, "requests") }

// FaultOf describes a fault of a decision, which may be for connections only.
func FaultOf(d mesh.Decision, f experiments.Fault) string {
	if d.Connections {
		return fault(f, "connections")
	}
	return Fault(f)
}

func fault(f experiments.Fault, calls string) string {
	var parts []string
	if f.Blackhole != nil {
		parts = append(parts, fmt.Sprintf("blackhole (%s)", f.Blackhole.Mode))
	}
	if f.Delay != nil {
		parts = append(parts, fmt.Sprintf("delay of %s", f.Delay.FixedDelay))
	}
	if f.Abort != nil && f.Abort.GRPCStatus != "" {
		parts = append(parts, "abort with gRPC "+string(f.Abort.GRPCStatus))
	} else if f.Abort != nil {
		parts = append(parts, fmt.Sprintf("abort with HTTP %d", f.Abort.HTTPStatus))
	}
	return strings.Join(parts, " and ") + percentage(f, calls) + times(f)
}

// percentage describes the share of the calls. Journals of other programs may
// lack it.
func percentage(f experiments.Fault, calls string) string {
	switch {
	case f.Percentage == nil:
		return ""
	case f.Delay != nil && f.Abort != nil && *f.Percentage < 100:
		// Envoy draws twice: a request may be hit by both, by one, or by neither.
		return fmt.Sprintf(", each on %g %% of %s, independently", float64(*f.Percentage), calls)
	default:
		return fmt.Sprintf(", %g %% of %s", float64(*f.Percentage), calls)
	}
}

// times describes the times of a fault that is not active all the time.
func times(f experiments.Fault) string {
	text := ""
	if f.StartAfter.Duration > 0 {
		text += fmt.Sprintf(", after %s", f.StartAfter)
	}
	if f.Duration.Duration > 0 {
		text += fmt.Sprintf(", for %s", f.Duration)
	}
	return text
}

// Callers lists the callers: "shop (app=reviews), gateway istio-ingress (istio=ingressgateway)".
func Callers(callers []experiments.Caller) string {
	text := make([]string, len(callers))
	for i, c := range callers {
		text[i] = c.Namespace
		own := c.Labels
		if c.Gateway != nil {
			text[i], own = "gateway "+c.Gateway.Namespace, c.Gateway.Labels
		}
		if len(own) > 0 {
			text[i] += " (" + labels.FormatLabels(own) + ")"
		}
	}
	return strings.Join(text, ", ")
}

// Tolerance describes the healthy values: "at least 0.99", "at most 1".
func Tolerance(p experiments.Probe) string {
	var text []string
	switch {
	case p.Min != nil && p.Max != nil:
		text = append(text, fmt.Sprintf("%s to %s", steadystate.FormatValue(p.Min.Value()), steadystate.FormatValue(p.Max.Value())))
	case p.Min != nil:
		text = append(text, "at least "+steadystate.FormatValue(p.Min.Value()))
	case p.Max != nil:
		text = append(text, "at most "+steadystate.FormatValue(p.Max.Value()))
	}
	if p.MaxDrop != nil {
		text = append(text, fmt.Sprintf("at most %g %% below the baseline", float64(*p.MaxDrop)*100))
	}
	if p.MaxRise != nil {
		text = append(text, fmt.Sprintf("at most %g %% above the baseline", float64(*p.MaxRise)*100))
	}
	return strings.Join(text, ", ")
}

// Hit describes the number of requests hit: "at least 731 requests".
func Hit(e event.Effect) string {
	if e.Complete {
		return fmt.Sprintf("%.0f requests", e.Requests)
	}
	return fmt.Sprintf("at least %.0f requests", e.Requests)
}

// AnsweredOK describes the requests hit whose callers did not see a failure.
func AnsweredOK(e event.Effect) string {
	return fmt.Sprintf("at least %.0f requests hit got 200 OK, because their callers do not speak gRPC: use httpStatus, which gRPC callers see as a status too", e.AnsweredOK)
}

// Share compares the share of requests that was hit with the wanted share,
// and reports a difference that chance does not explain.
func Share(s event.Share) string {
	text := fmt.Sprintf("%.1f %% of %.0f requests while all proxies had the fault; expected %.1f %%", 100*s.Achieved, s.Requests, 100*s.Wanted)
	switch {
	case s.IsSmaller():
		text += ": fewer were hit than chance explains; some proxies may not have the fault"
	case s.IsLarger():
		text += ": more were hit than chance explains; there may be another fault"
	}
	return text
}

// Wait describes how long a caller waits for what a blackhole drops: "a dropped
// request waits up to 30s (3 attempts of 10s)".
func Wait(w impact.Wait) string {
	if w.Protocol == "tcp" {
		return fmt.Sprintf("a dropped connection waits up to %s", w.Longest)
	}
	text := fmt.Sprintf("a dropped request waits up to %s", w.Longest)
	switch {
	case w.Timeout.Duration > 0:
		text += ", the timeout of its route"
	case w.Attempts > 1:
		text += fmt.Sprintf(" (%d attempts of %s)", w.Attempts, w.ConnectTimeout)
	}
	return text
}

// Waits describes how long the callers wait for what a blackhole drops. A connect
// timeout ends all requests that wait for a connection to the same address.
func Waits(waits []impact.Wait) string {
	texts := make([]string, len(waits))
	for i, w := range waits {
		texts[i] = Wait(w)
	}
	return strings.Join(texts, "; ") + "; less under load, because one connect timeout fails all that wait at that time"
}

// Closes describes the open connections that proxies close: "all open TCP and TLS
// connections of the callers to port 7070 are closed 45s after the fault starts, and
// again 45s after it ends, whatever its percentage".
func Closes(c impact.Closing) string {
	ports := make([]string, len(c.Ports))
	for i, port := range c.Ports {
		ports[i] = strconv.FormatInt(port, 10)
	}
	noun := "port "
	if len(ports) > 1 {
		noun = "ports "
	}
	return fmt.Sprintf("all open TCP and TLS connections of the callers to %s%s are closed %s after the fault starts, and again %s after it ends, whatever its percentage",
		noun, strings.Join(ports, ", "), c.After, c.After)
}

// Clean describes what the metrics show after a rollback: "clean after 2.1s", and when
// proxies close the connections that were open then.
func Clean(c event.Clean) string {
	switch {
	case c.Closes.Duration == 0:
		return observed(c)
	case c.Awaited:
		return fmt.Sprintf("%s; the TCP and TLS connections that were open at the rollback were closed %s after it", observed(c), c.Closes)
	default:
		return fmt.Sprintf("%s; the TCP and TLS connections that were open at the rollback are closed %s after it, and the run has not waited for that", observed(c), c.Closes)
	}
}

// observed describes what the metrics show after a rollback.
func observed(c event.Clean) string {
	switch c.State {
	case event.CleanSeen:
		return fmt.Sprintf("clean after %s: %.0f calls without a hit", c.After, c.Calls)
	case event.CleanNoCalls:
		return "no calls since the rollback, so it was not observed that the proxies are clean"
	case event.CleanStillHit:
		return fmt.Sprintf("deleted, but proxies still inject: %.1f requests/s are hit; is istiod pushing?", c.Rate)
	case event.CleanUnobserved, event.CleanNotCounted:
	}
	return "it was not observed that the proxies are clean: " + c.Reason
}

// Active describes for how long the fault was active: "20s", or "13s to 39s" if it is
// not known to a second.
func Active(r event.Result) string {
	if r.InjectedMost.Duration == 0 {
		return r.Injected.String()
	}
	return fmt.Sprintf("%s to %s", r.Injected, r.InjectedMost)
}
