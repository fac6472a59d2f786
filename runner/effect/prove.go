package effect

import (
	"fmt"

	"github.com/squall-chaos/squall/runner/event"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// Effect returns the number of requests hit, and the verdict on it.
func (m *Meter) Effect() event.Effect {
	effect := event.Effect{Query: m.queries.counters, Requests: m.total.Hit, Complete: m.last.scrapedSince(m.end), AnsweredOK: m.protocols.answeredOK()}
	effect.Share, effect.NoShare = m.share()
	effect.Verdict, effect.Reason = m.verdict()
	if least := m.spec.Effect.MinShare; effect.Verdict == steadystate.Held && effect.Share != nil && least != nil && effect.Share.MuchSmaller(float64(*least)) {
		effect.Verdict = steadystate.Inconclusive
		effect.Reason = fmt.Sprintf("the fault hit %.1f %% of the requests instead of %.1f %%; effect.minShare asks for %.0f %% of the wanted share", 100*effect.Share.Achieved, 100*effect.Share.Wanted, 100*float64(*least))
	}
	return effect
}

// share returns the share of the requests that was hit between the first and the
// last reading with the fault active, or why there is none.
func (m *Meter) share() (share *event.Share, noShare string) {
	if reason := m.edges.noShare(); reason != "" {
		return nil, reason
	}
	for callers, reporters := range m.reporters {
		if len(reporters) > 1 {
			return nil, "both proxies and waypoints report calls from " + callers + ", so some may count twice"
		}
	}
	if m.readings < 2 {
		return nil, "Prometheus has not read the counters twice while the fault was active"
	}
	if m.counted.Requests <= 0 {
		return nil, "there were no requests between two readings of the counters"
	}
	return &event.Share{Wanted: m.counted.Expected / m.counted.Requests, Achieved: m.counted.Hit / m.counted.Requests, Requests: m.counted.Requests}, ""
}

const (
	noFlags = "istio_requests_total has no label response_flags here, so the requests hit cannot be counted"
	noHit   = "the fault hit no request, as far as istio_requests_total can tell"
)

// verdict returns Held when enough requests were hit, and each fault has hit one.
func (m *Meter) verdict() (steadystate.Verdict, string) {
	minimum := m.spec.Effect.MinRequests
	missed, misses := m.missed()
	reason := ""
	switch {
	case m.total.Hit >= float64(minimum) && misses:
		reason = fmt.Sprintf("the %s of calls to %s hit no request, as far as istio_requests_total can tell; other faults hit %.0f", missed.kind, missed.host, m.total.Hit)
	case m.total.Hit >= float64(minimum):
		return steadystate.Held, ""
	case m.err != nil:
		reason = "the requests hit cannot be counted: " + m.err.Error()
	case m.total.Hit > 0:
		reason = fmt.Sprintf("the fault hit %.0f requests; effect.minRequests asks for %d", m.total.Hit, minimum)
	case len(m.last.Counters) == 0:
		reason = noHit + ": it has no such calls; there were none, or Prometheus does not scrape the callers"
	case m.last.lacksFlags:
		reason = noFlags
	case m.total.Requests == 0:
		reason = noHit + ": there were none in that time"
	default:
		reason = fmt.Sprintf("%s: none of %.0f requests has the mark of a fault (response_flags FI or DI, or the host of a blackhole)", noHit, m.total.Requests)
	}
	return steadystate.Inconclusive, reason
}

// missed returns a signature of the plan's faults that no request has, if there is
// one.
func (m *Meter) missed() (missed signature, found bool) {
	for _, e := range m.edges {
		for _, s := range e.expected() {
			if !m.hit[s] {
				return s, true
			}
		}
	}
	return signature{}, false
}
