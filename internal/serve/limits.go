package serve

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/internal/metrics"
	"github.com/squall-chaos/squall/mesh"
)

// Limits are what the owner of the platform permits. No file can exceed them.
type Limits struct {
	// MaxConcurrent bounds the live runs, and MaxPerNamespace those that disturb
	// the calls from one namespace; 0 is no bound.
	MaxConcurrent, MaxPerNamespace int
	// Protected are hosts that no fault may target, as shell patterns.
	Protected []string
	// MaxPercentage and MaxDuration bound each fault; 0 is no bound.
	MaxPercentage float64
	MaxDuration   time.Duration
}

// Check gives the first mistake of the limits themselves.
func (l Limits) Check() error {
	for _, pattern := range l.Protected {
		if _, err := path.Match(strings.ToLower(pattern), ""); err != nil || pattern == "" {
			return fmt.Errorf("%q is no pattern of hosts", pattern)
		}
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
		for _, name := range namesOf(target.Host, target.Namespace) {
			if words := l.protects(name); words != "" {
				return obstacle{metrics.SkippedHost, words}
			}
		}
	}
	return obstacle{}
}

// ForbidsPlan says why a plan may not be carried out: it names hosts as the mesh
// knows them, whatever a file calls them.
func (l Limits) ForbidsPlan(plan mesh.Plan) string {
	for _, d := range plan.Decisions {
		for _, host := range append([]string{d.Host}, d.Trace.Destinations...) {
			for _, name := range namesOf(host, "") {
				if reason := l.protects(name); reason != "" {
					return reason
				}
			}
		}
	}
	return ""
}

func (l Limits) protects(name string) string {
	for _, pattern := range l.Protected {
		if is, err := path.Match(strings.ToLower(pattern), name); err == nil && is {
			return fmt.Sprintf("%s is protected here by %q", name, pattern)
		}
	}
	return ""
}

// namesOf gives the names by which people know a host: a Service has several.
func namesOf(host, namespace string) []string {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	names := []string{host}
	short := host
	if !strings.Contains(host, ".") && namespace != "" {
		short = host + "." + namespace
		names = append(names, short)
	}
	for _, suffix := range []string{".cluster.local", ".svc"} {
		short = strings.TrimSuffix(short, suffix)
	}
	if strings.Count(short, ".") == 1 {
		names = append(names, short, short+".svc", short+".svc.cluster.local")
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// reach is whose calls to whom an experiment disturbs.
type reach struct{ hosts, namespaces []string }

func reachOf(spec experiments.Spec) reach {
	var r reach
	for _, f := range spec.Faults {
		target := spec.TargetOf(f)
		names := namesOf(target.Host, target.Namespace)
		r.hosts = append(r.hosts, slices.MaxFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b)) }))
		for _, caller := range spec.CallersOf(f) {
			r.namespaces = append(r.namespaces, caller.Namespace)
		}
	}
	for _, list := range []*[]string{&r.hosts, &r.namespaces} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return r
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
