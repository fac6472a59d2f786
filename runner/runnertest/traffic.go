package runnertest

import (
	"maps"
	"time"

	"github.com/squall-chaos/squall/istio/telemetry"
	"github.com/squall-chaos/squall/mesh/objects"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// The calls that Cluster.Calls counts.
const (
	callers = "shop"
	called  = "ratings.prod.svc.cluster.local"
)

// faults is for how long a fault on these calls has existed.
type faults struct {
	active bool
	since  time.Time     // if active
	before time.Duration // until since
}

// set sets whether any exists from a time on.
func (f *faults) set(active bool, now time.Time) {
	switch {
	case active && !f.active:
		f.since = now
	case !active && f.active:
		f.before += now.Sub(f.since)
	}
	f.active = active
}

// count counts the time of faults after a change of the objects. The lock is held.
func (s *store) count(now time.Time) {
	active := false
	for _, object := range s.objects {
		annotations := object.GetAnnotations()
		active = active || object.GetKind() == objects.KindVirtualService && objects.IsOurs(object) &&
			annotations[objects.HostAnnotation] == called && annotations[objects.CallersAnnotation] == callers
	}
	s.faults.set(active, now)
}

// faultTime returns for how long a fault on the calls has existed until now.
func (s *store) faultTime() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	if !s.faults.active {
		return s.faults.before
	}
	return s.faults.before + time.Since(s.faults.since)
}

// Calls returns the counters of 100 calls per second from shop to ratings, as
// Prometheus has scraped them now: while a run has a fault on them, all of them have the
// response flags DI and FI.
func (s *store) Calls() []steadystate.Sample {
	hit := 100 * s.faultTime().Seconds()
	now := float64(time.Now().UnixMilli()) / 1000
	return Scraped(now, Counter("-", 100*now-hit), Counter("DI,FI", hit))
}

// Counter returns a counter of calls from shop to ratings.
func Counter(flags string, value float64) steadystate.Sample {
	return steadystate.Sample{Value: value, Labels: map[string]string{
		telemetry.LabelResponseFlags: flags, telemetry.LabelDestination: called, telemetry.LabelSourceNamespace: callers, "source_app": "reviews",
	}}
}

// Scraped returns counters with the times of their last scrape.
func Scraped(at float64, counters ...steadystate.Sample) []steadystate.Sample {
	all := append([]steadystate.Sample{}, counters...)
	for _, counter := range counters {
		labels := maps.Clone(counter.Labels)
		labels["squall"] = "scraped"
		all = append(all, steadystate.Sample{Labels: labels, Value: at})
	}
	return append(all, Target(at))
}

// Target returns the time of the last scrape of the callers' proxies.
func Target(at float64) steadystate.Sample {
	return steadystate.Sample{Labels: map[string]string{"squall": "target"}, Value: at}
}
