package experiments

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/squall-chaos/squall/istio/host"
)

// Injection is one fault as it is active in a run: everything that the fault may
// inherit from its experiment or leave to a default is resolved.
type Injection struct {
	// Number is the fault's index in the file.
	Number int
	// Fault is what happens to the requests. Its own target, callers, match,
	// percentage and times are as in the file; the fields below say what applies.
	Fault   Fault
	Target  Target
	Callers []Caller
	Match   []Match
	// Percentage is the share of the matched requests, 0 to 100.
	Percentage float64
	// From and Until bound the time in which the fault is active, from the start
	// of the experiment; Until is not part of it.
	From, Until time.Duration
}

// Injections are the injections of an experiment, or some of them, in the order
// of the file.
type Injections []Injection

// Injections resolves the faults of an experiment.
func (s Spec) Injections() Injections {
	all := make(Injections, len(s.Faults))
	for i, f := range s.Faults {
		// A percentage is required; a file that was not checked may lack it, and
		// then the fault counts as one on every request.
		injection := Injection{
			Number: i, Fault: f, Target: s.Target, Callers: s.Callers, Match: s.Match, Percentage: 100,
			From: f.StartAfter.Duration, Until: s.Duration.Duration,
		}
		if f.Target != nil {
			injection.Target = *f.Target
		}
		if f.Callers != nil {
			injection.Callers = f.Callers
		}
		if f.Match != nil {
			injection.Match = f.Match
		}
		if f.Percentage != nil {
			injection.Percentage = float64(*f.Percentage)
		}
		if own := f.Duration.Duration; own > 0 {
			injection.Until = injection.From + own
		}
		all[i] = injection
	}
	return all
}

// FirstStart returns the time from the start of the experiment to the start of
// its first fault.
func (s Spec) FirstStart() time.Duration {
	first := s.Duration.Duration
	for _, i := range s.Injections() {
		first = min(first, i.From)
	}
	return first
}

// Host returns the host of the target as the file names it.
func (i Injection) Host() host.Host { return host.Parse(i.Target.Host, i.Target.Namespace) }

// AbortsGRPC reports whether the fault aborts requests with a gRPC status.
func (i Injection) AbortsGRPC() bool { return i.Fault.Abort != nil && i.Fault.Abort.GRPCStatus != "" }

// ActiveAt reports whether the fault is active at a time from the start of the
// experiment.
func (i Injection) ActiveAt(at time.Duration) bool { return i.From <= at && at < i.Until }

// PartOfTheTime reports whether the fault has its own times, so that it may be
// active for a part of the experiment only.
func (i Injection) PartOfTheTime() bool {
	return i.Fault.StartAfter.Duration > 0 || i.Fault.Duration.Duration > 0
}

// Overlaps reports whether two faults are active at the same time.
func (i Injection) Overlaps(other Injection) bool {
	return i.From < other.Until && other.From < i.Until
}

// For returns the injection for the callers of one namespace alone, without gateways; ok
// is false if it has no callers there.
func (i Injection) For(namespace string) (narrowed Injection, ok bool) {
	i.Callers = slices.DeleteFunc(slices.Clone(i.Callers), func(c Caller) bool { return c.Gateway != nil || c.Namespace != namespace })
	return i, len(i.Callers) > 0
}

// ForGateway returns the injection for the calls through one gateway alone.
func (i Injection) ForGateway(gateway Gateway) Injection {
	i.Callers = []Caller{{Gateway: &gateway}}
	return i
}

// In returns the namespace of the callers' pods.
func (c Caller) In() string {
	if c.Gateway != nil {
		return c.Gateway.Namespace
	}
	return c.Namespace
}

// PodLabels returns the labels that the callers' pods have.
func (c Caller) PodLabels() map[string]string {
	if c.Gateway != nil {
		return c.Gateway.Labels
	}
	return c.Labels
}

// Equal reports whether two callers are the same workloads.
func (c Caller) Equal(other Caller) bool {
	if c.Gateway != nil && other.Gateway != nil {
		return c.Gateway.Equal(*other.Gateway)
	}
	return c.Gateway == other.Gateway && c.Namespace == other.Namespace && maps.Equal(c.Labels, other.Labels)
}

// Equal reports whether two gateways have the same namespace and labels.
func (g Gateway) Equal(other Gateway) bool {
	return g.Namespace == other.Namespace && maps.Equal(g.Labels, other.Labels)
}

// sharesCallsWith reports whether two injections may hit calls from the same
// namespace to the same host. One without callers may hit calls from any
// namespace.
func (i Injection) sharesCallsWith(other Injection) bool {
	if i.Host().Canonical() != other.Host().Canonical() {
		return false
	}
	return len(i.Callers) == 0 || len(other.Callers) == 0 || slices.ContainsFunc(i.Callers, func(c Caller) bool {
		return slices.ContainsFunc(other.Callers, func(o Caller) bool { return o.In() == c.In() && (o.Gateway == nil) == (c.Gateway == nil) })
	})
}

// At returns the injections that are active at a time from the start of the
// experiment.
func (all Injections) At(at time.Duration) Injections {
	return slices.DeleteFunc(slices.Clone(all), func(i Injection) bool { return !i.ActiveAt(at) })
}

// Steps returns the times after the start at which the set of active injections
// changes, in order, except the end of an experiment of the given duration.
func (all Injections) Steps(duration time.Duration) []time.Duration {
	steps := map[time.Duration]bool{}
	for _, i := range all {
		steps[i.From], steps[i.Until] = true, true
	}
	maps.DeleteFunc(steps, func(at time.Duration, _ bool) bool { return at <= 0 || at >= duration })
	return slices.SortedFunc(maps.Keys(steps), cmp.Compare[time.Duration])
}

// Period is a part of an experiment's time, from its start. Until is not part of
// it.
type Period struct{ From, Until time.Duration }

// Periods returns the parts of the time in which any injection is active, in
// order, with a gap between each two.
func (all Injections) Periods() []Period {
	var periods []Period
	for _, i := range slices.SortedStableFunc(slices.Values(all), func(a, b Injection) int { return cmp.Compare(a.From, b.From) }) {
		if last := len(periods) - 1; last >= 0 && i.From <= periods[last].Until {
			periods[last].Until = max(periods[last].Until, i.Until)
			continue
		}
		periods = append(periods, Period{From: i.From, Until: i.Until})
	}
	return periods
}

// Shares are parts of the requests, 0 to 1.
type Shares struct {
	// Hit is the part that a fault delays, aborts or sends nowhere, and Failing
	// the part that fails because of it.
	Hit, Failing float64
}

// Shares returns the shares of the matched requests that the injections hit when
// all of them are active. Envoy decides about each of them independently, and
// about the abort and the delay of one fault too.
func (all Injections) Shares() Shares {
	spared, survive := 1.0, 1.0
	for _, i := range all {
		rest := 1 - i.Percentage/100
		if i.Fault.Delay != nil {
			spared *= rest
		}
		if i.Fault.Abort != nil || i.Fault.Blackhole != nil {
			spared *= rest
		}
		if i.Fault.Blackhole != nil || i.Fault.Abort != nil && i.Fault.Abort.fails() {
			survive *= rest
		}
	}
	return Shares{Hit: 1 - spared, Failing: 1 - survive}
}

// Peak returns the largest shares of the requests from one namespace to one host
// that are hit at any moment; the two may peak at different times. Whether the matches of two
// injections overlap cannot always be decided, so they count as if they did.
func (all Injections) Peak() Shares {
	var peak Shares
	for _, one := range all {
		// Shares grow only when a fault starts.
		together := slices.DeleteFunc(all.At(one.From), func(i Injection) bool { return !i.sharesCallsWith(one) })
		shares := together.Shares()
		peak = Shares{Hit: max(peak.Hit, shares.Hit), Failing: max(peak.Failing, shares.Failing)}
	}
	return peak
}

// fails reports whether callers see an abort as a failure.
func (a Abort) fails() bool {
	if a.GRPCStatus != "" {
		return a.GRPCStatus != "OK"
	}
	return a.HTTPStatus >= 400
}
