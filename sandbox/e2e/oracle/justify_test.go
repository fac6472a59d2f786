package oracle_test

import (
	"slices"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/sandbox/internal/identity"
)

// justification adds a problem to a trial if istiod's routes do not confirm the reason
// of a refusal, with a naive shadow in place.
type justification func(*trial)

// unproven accepts a refusal for the sound of its reason: what the engine
// cannot express is not to be seen in routes.
func unproven(*trial) {}

// eachPort visits the routes of the refused callers before and during the
// naive shadow, on the ports that the experiment means.
func (tr *trial) eachPort(visit func(who identity.Workload, before, during virtualHost)) {
	for _, who := range tr.who.targeted {
		before := tr.before[key(who)].routesTo(tr.experiment.host)
		during := tr.during[key(who)].routesTo(tr.experiment.host)
		if who.Namespace != tr.refused.Callers || len(before) != len(during) {
			continue
		}
		for i := range before {
			if tr.experiment.port == 0 || tr.experiment.port == before[i].port {
				visit(who, before[i], during[i])
			}
		}
	}
}

// naiveTakesEffect reports whether the naive shadow is effective somewhere.
func (tr *trial) naiveTakesEffect() bool {
	found := false
	tr.eachPort(func(_ identity.Workload, _, during virtualHost) {
		found = found || slices.Contains(during.origins(), tr.refused.Callers+"/"+naiveName)
	})
	return found
}

// inForceForNobody reports whether no caller has routes of the VirtualService
// that the engine names.
func (tr *trial) inForceForNobody() bool {
	found := false
	tr.eachPort(func(_ identity.Workload, before, _ virtualHost) {
		found = found || slices.Contains(before.origins(), tr.refused.InForce)
	})
	return !found
}

// wouldNotTakeEffect wants the naive shadow to change nothing where the VirtualService
// of the decision is effective.
func wouldNotTakeEffect(tr *trial) {
	inForce := false
	tr.eachPort(func(who identity.Workload, before, during virtualHost) {
		if !slices.Equal(before.origins(), []string{tr.refused.InForce}) {
			return
		}
		inForce = true
		if diff := cmp.Diff(before.routes, during.routes); diff != "" {
			tr.problem("%s on port %d: refused for %q, but a naive shadow takes effect: %s", key(who), before.port, tr.refused.Reason, diff)
		}
	})
	if !inForce {
		tr.problem("refused for %q, but istiod sends no route of %s to any caller", tr.refused.Reason, tr.refused.InForce)
	}
}

// missesSomeProxies wants some caller and port to have no routes of the
// VirtualService that the engine names.
func missesSomeProxies(tr *trial) {
	misses := false
	tr.eachPort(func(_ identity.Workload, before, _ virtualHost) {
		misses = misses || !slices.Contains(before.origins(), tr.refused.InForce)
	})
	if !misses {
		tr.problem("refused for %q, but every caller has routes of %s on every port", tr.refused.Reason, tr.refused.InForce)
	}
}

// reachesNoForwardingRoute wants one of the experiment's callers and matches
// of which no drawn request is forwarded by the VirtualService that the engine
// names.
func reachesNoForwardingRoute(tr *trial) {
	requests := tr.requests()
	matches := tr.experiment.match
	if len(matches) == 0 {
		matches = []m{{}}
	}
	for _, c := range tr.experiment.callers {
		for _, match := range matches {
			if !tr.forwardsAny(c, match, requests) {
				return
			}
		}
	}
	tr.problem("refused for %q, but it forwards requests of every caller and match", tr.refused.Reason)
}

// forwardsAny reports whether some route of the VirtualService that the engine
// names forwards a request that meets a match.
func (tr *trial) forwardsAny(c caller, match m, requests []request) bool {
	found := false
	tr.eachPort(func(who identity.Workload, before, _ virtualHost) {
		if !c.covers(who) {
			return
		}
		for _, r := range requests {
			if !satisfied(match, r) {
				continue
			}
			route, err := before.first(r)
			if err != nil {
				tr.problem("%v", err)
			}
			found = found || forwards(route) && originOf(route) == tr.refused.InForce
		}
	})
	return found
}

// carriesFault wants a fault of the user in the effective routes.
func carriesFault(tr *trial) {
	found := false
	tr.eachPort(func(_ identity.Workload, before, _ virtualHost) {
		found = found || slices.ContainsFunc(before.routes, func(route m) bool { return faultOf(route) != nil })
	})
	if !found {
		tr.problem("refused for %q, but no caller has routes with a fault", tr.refused.Reason)
	}
}

// nobodyGetsItsRoutes wants no HTTP route of the VirtualService that the
// engine names.
func nobodyGetsItsRoutes(tr *trial) {
	if !tr.inForceForNobody() {
		tr.problem("refused for %q, but some caller has such routes", tr.refused.Reason)
	}
}

// isIgnored wants the naive shadow to be ignored by some caller.
func isIgnored(tr *trial) {
	ignored := false
	tr.eachPort(func(_ identity.Workload, _, during virtualHost) {
		ignored = ignored || !slices.Contains(during.origins(), tr.refused.Callers+"/"+naiveName)
	})
	if !ignored {
		tr.problem("refused for %q, but a naive shadow takes effect for every caller", tr.refused.Reason)
	}
}

// origins wants the callers to have routes of different origin.
func origins(tr *trial) {
	seen := map[string]bool{}
	tr.eachPort(func(_ identity.Workload, before, _ virtualHost) {
		for _, origin := range before.origins() {
			seen[origin] = true
		}
	})
	if len(seen) < 2 {
		tr.problem("refused for %q, but the routes of all callers that were looked at come from %v", tr.refused.Reason, seen)
	}
}

// unreachable wants some caller to have no routes to the target.
func unreachable(tr *trial) {
	reached := map[string]bool{}
	tr.eachPort(func(who identity.Workload, _, _ virtualHost) { reached[key(who)] = true })
	for _, who := range tr.who.targeted {
		if who.Namespace == tr.refused.Callers && !reached[key(who)] {
			return
		}
	}
	tr.problem("refused for %q, but every caller has routes to the target", tr.refused.Reason)
}
