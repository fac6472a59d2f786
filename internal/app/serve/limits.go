package serve

import (
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/app/metrics"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/runner"
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
		if _, err := path.Match(lower(pattern), ""); err != nil || lower(pattern) == "" {
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
	for _, f := range spec.Faults {
		if l.MaxPercentage > 0 && (f.Percentage == nil || float64(*f.Percentage) > l.MaxPercentage) {
			return obstacle{metrics.SkippedPercentage, fmt.Sprintf("it hits more than %g %% of the requests, which is the most that is permitted here", l.MaxPercentage)}
		}
		target := spec.TargetOf(f)
		if words := l.protects(target.Host, target.Namespace); words != "" {
			return obstacle{metrics.SkippedHost, words}
		}
	}
	if together := mostTogether(spec); l.MaxPercentage > 0 && together > l.MaxPercentage+1e-9 {
		return obstacle{metrics.SkippedPercentage, fmt.Sprintf("its faults together may hit %.4g %% of the requests; at most %g %% is permitted here", together, l.MaxPercentage)}
	}
	return obstacle{}
}

// mostTogether gives the largest share, in percent, of the requests to one host
// that faults may hit together. Whether their matches overlap cannot always be
// told, so it is as if they did.
func mostTogether(spec experiments.Spec) float64 {
	most := 0.0
	for _, one := range spec.Faults {
		var together []experiments.Fault
		for _, f := range spec.Faults {
			if inForceAt(spec, f, one.StartAfter.Duration) && sameCalls(spec, one, f) {
				together = append(together, f)
			}
		}
		hit, _ := runner.Shares(together)
		most = max(most, 100*hit)
	}
	return most
}

// sameCalls reports whether two faults may strike calls from the same namespace
// to the same host; one that names no callers may strike all.
func sameCalls(spec experiments.Spec, a, b experiments.Fault) bool {
	hostA, hostB := spec.TargetOf(a), spec.TargetOf(b)
	if namesOf(hostA.Host, hostA.Namespace)[0] != namesOf(hostB.Host, hostB.Namespace)[0] {
		return false
	}
	from, others := spec.CallersOf(a), spec.CallersOf(b)
	return len(from) == 0 || len(others) == 0 || slices.ContainsFunc(from, func(c experiments.Caller) bool {
		return slices.ContainsFunc(others, func(o experiments.Caller) bool { return o.Namespace == c.Namespace })
	})
}

// inForceAt reports whether a fault is in force at a time after the start of the
// experiment.
func inForceAt(spec experiments.Spec, f experiments.Fault, at time.Duration) bool {
	end := spec.Duration.Duration
	if f.Duration.Duration > 0 {
		end = f.StartAfter.Duration + f.Duration.Duration
	}
	return f.StartAfter.Duration <= at && at < end
}

// ForbidsPlan says why a plan may not be carried out: it names hosts as the mesh
// knows them, whatever a file calls them.
func (l Limits) ForbidsPlan(plan mesh.Plan) string {
	for _, d := range plan.Decisions {
		for _, host := range append([]string{d.Host}, d.Trace.Destinations...) {
			if reason := l.protects(host, ""); reason != "" {
				return reason
			}
		}
	}
	return ""
}

func (l Limits) protects(host, namespace string) string {
	names := namesOf(host, namespace)
	for _, pattern := range l.Protected {
		for _, name := range names {
			if is, err := path.Match(lower(pattern), name); err == nil && is {
				return fmt.Sprintf("%s is protected here by %q", names[0], pattern)
			}
		}
	}
	return ""
}

// lower gives a host, or a pattern of hosts, as it is compared.
func lower(host string) string { return strings.TrimSuffix(strings.ToLower(host), ".") }

// namesOf gives the names by which people know a host: a Service has several.
// The first is the same for all of them, in whatever domain the cluster is.
func namesOf(host, namespace string) []string {
	host = lower(host)
	labels := strings.Split(host, ".")
	if len(labels) == 1 && namespace != "" {
		labels = append(labels, lower(namespace))
	}
	if len(labels) != 2 && (len(labels) < 3 || labels[2] != "svc") {
		return []string{host}
	}
	short := labels[0] + "." + labels[1]
	return []string{short + ".svc.cluster.local", short + ".svc", short, labels[0], host}
}

// reach is whose calls to whom an experiment disturbs.
type reach struct{ hosts, namespaces []string }

func reachOf(spec experiments.Spec) reach {
	var r reach
	for _, f := range spec.Faults {
		target := spec.TargetOf(f)
		r.hosts = append(r.hosts, namesOf(target.Host, target.Namespace)[0])
		for _, caller := range spec.CallersOf(f) {
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
		added.hosts = append(added.hosts, namesOf(d.Host, "")[0])
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
