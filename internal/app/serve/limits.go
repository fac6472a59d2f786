package serve

import (
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/app/metrics"
	"github.com/squall-chaos/squall/istio/host"
	"github.com/squall-chaos/squall/mesh"
)

// Limits are what the owner of the platform permits. No file can exceed them.
type Limits struct {
	// MaxConcurrent bounds the live runs, and MaxPerNamespace those that disturb
	// the calls from one namespace; 0 is no bound.
	MaxConcurrent, MaxPerNamespace int
	// Protected are hosts that no fault may target, as shell patterns.
	Protected []string
	// MaxPercentage bounds the requests that faults hit, each by itself and those
	// of an experiment together, and MaxDuration an experiment; 0 is no bound.
	MaxPercentage float64
	MaxDuration   time.Duration
}

// Check gives the first mistake of the limits themselves.
func (l Limits) Check() error {
	for _, pattern := range l.Protected {
		if _, err := path.Match(host.Normalize(pattern), ""); err != nil || host.Normalize(pattern) == "" {
			return fmt.Errorf("%q is no pattern of hosts", pattern)
		}
	}
	if l.MaxConcurrent < 0 || l.MaxPerNamespace < 0 || l.MaxDuration < 0 {
		return errors.New("a limit is negative; 0 sets none")
	}
	if math.IsNaN(l.MaxPercentage) || l.MaxPercentage < 0 {
		return fmt.Errorf("%g is no percentage", l.MaxPercentage)
	}
	return nil
}

// obstacle is what keeps a run from starting; it is empty when nothing does.
type obstacle struct {
	reason string // of package metrics
	words  string
}

// forbids says why an experiment may not run at all.
func (l Limits) forbids(spec experiments.Spec) obstacle {
	if l.MaxDuration > 0 && spec.Duration.Duration > l.MaxDuration {
		return obstacle{metrics.SkippedDuration, fmt.Sprintf("it lasts %s; at most %s is permitted here", spec.Duration, experiments.Duration{Duration: l.MaxDuration})}
	}
	injections := spec.Injections()
	for _, i := range injections {
		if l.MaxPercentage > 0 && i.Percentage > l.MaxPercentage {
			return obstacle{metrics.SkippedPercentage, fmt.Sprintf("it hits more than %g %% of the requests, which is the most that is permitted here", l.MaxPercentage)}
		}
		if words := l.protects(i.Host()); words != "" {
			return obstacle{metrics.SkippedHost, words}
		}
	}
	if together := 100 * injections.Peak().Hit; l.MaxPercentage > 0 && together > l.MaxPercentage+1e-9 {
		return obstacle{metrics.SkippedPercentage, fmt.Sprintf("its faults together may hit %.4g %% of the requests; at most %g %% is permitted here", together, l.MaxPercentage)}
	}
	return obstacle{}
}

// ForbidsPlan says why a plan may not be carried out: it names hosts as the mesh
// knows them, whatever a file calls them.
func (l Limits) ForbidsPlan(plan mesh.Plan) string {
	for _, d := range plan.Decisions {
		for _, name := range append([]string{d.Host}, d.Signature.Destinations...) {
			if reason := l.protects(host.Parse(name, "")); reason != "" {
				return reason
			}
		}
	}
	return ""
}

func (l Limits) protects(target host.Host) string {
	for _, pattern := range l.Protected {
		for _, name := range target.Spellings() {
			if is, err := path.Match(host.Normalize(pattern), name); err == nil && is {
				return fmt.Sprintf("%s is protected here by %q", target.Canonical(), pattern)
			}
		}
	}
	return ""
}

// reach is whose calls to whom an experiment disturbs.
type reach struct{ hosts, namespaces []string }

func reachOf(spec experiments.Spec) reach {
	var r reach
	for _, i := range spec.Injections() {
		r.hosts = append(r.hosts, i.Host().Canonical())
		for _, caller := range i.Callers {
			r.namespaces = append(r.namespaces, caller.Namespace)
		}
	}
	return r.sorted()
}

// and adds what a plan disturbs: callers that the file does not name, and hosts
// as the mesh knows them.
func (r reach) and(plan mesh.Plan) reach {
	added := reach{slices.Clone(r.hosts), slices.Clone(r.namespaces)}
	for _, d := range plan.Decisions {
		added.hosts = append(added.hosts, host.Parse(d.Host, "").Canonical())
		added.namespaces = append(added.namespaces, d.Callers)
	}
	return added.sorted()
}

func (r reach) sorted() reach {
	slices.Sort(r.hosts)
	slices.Sort(r.namespaces)
	return reach{slices.Compact(r.hosts), slices.Compact(r.namespaces)}
}

// room says why a run must wait for others. One experiment disturbs a host at a time.
func (l Limits) room(wanted reach, live []reach) obstacle {
	if l.MaxConcurrent > 0 && len(live) >= l.MaxConcurrent {
		return obstacle{metrics.SkippedLimit, fmt.Sprintf("%d runs are live, and no more are permitted here", len(live))}
	}
	for _, other := range live {
		for _, host := range wanted.hosts {
			if slices.Contains(other.hosts, host) {
				return obstacle{metrics.SkippedConcurrency, "another run disturbs " + host}
			}
		}
	}
	if l.MaxPerNamespace <= 0 {
		return obstacle{}
	}
	for _, namespace := range wanted.namespaces {
		runs := 0
		for _, other := range live {
			if slices.Contains(other.namespaces, namespace) {
				runs++
			}
		}
		if runs >= l.MaxPerNamespace {
			return obstacle{metrics.SkippedLimit, fmt.Sprintf("%d runs disturb calls from %s, and no more are permitted here", runs, namespace)}
		}
	}
	return obstacle{}
}
