package scheduler

import (
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/istio/host"
	"github.com/squall-chaos/squall/mesh"
)

// Limits are set by the owner of the platform. No experiment can exceed them.
type Limits struct {
	// MaxConcurrent is the maximum number of live runs; 0 sets no limit.
	MaxConcurrent int
	// MaxPerNamespace is the maximum number of live runs that disturb calls from
	// one namespace; 0 sets no limit.
	MaxPerNamespace int
	// Protected are hosts that no fault may target, as patterns of path.Match.
	Protected []string
	// MaxPercentage is the largest percentage of requests that each fault, and
	// all faults of an experiment together, may hit; 0 sets no limit.
	MaxPercentage float64
	// MaxDuration is the longest duration of an experiment; 0 sets no limit.
	MaxDuration time.Duration
}

// Check returns the first mistake in the limits, or nil.
func (l Limits) Check() error {
	for _, pattern := range l.Protected {
		if _, err := path.Match(host.Normalize(pattern), ""); err != nil || host.Normalize(pattern) == "" {
			return fmt.Errorf("%q is not a pattern of hosts", pattern)
		}
	}
	if l.MaxConcurrent < 0 || l.MaxPerNamespace < 0 || l.MaxDuration < 0 {
		return errors.New("a limit is negative; 0 sets none")
	}
	if math.IsNaN(l.MaxPercentage) || l.MaxPercentage < 0 {
		return fmt.Errorf("%g is not a percentage", l.MaxPercentage)
	}
	return nil
}

// permits returns a BlockedError if the limits forbid an experiment.
func (l Limits) permits(spec experiments.Spec) error {
	if l.MaxDuration > 0 && spec.Duration.Duration > l.MaxDuration {
		return &BlockedError{Reason: Duration, Text: fmt.Sprintf("it lasts %s; at most %s is permitted here", spec.Duration, experiments.Duration{Duration: l.MaxDuration})}
	}
	injections := spec.Injections()
	for _, i := range injections {
		if l.MaxPercentage > 0 && i.Percentage > l.MaxPercentage {
			return &BlockedError{Reason: Percentage, Text: fmt.Sprintf("it hits more than %g %% of the requests, which is the most that is permitted here", l.MaxPercentage)}
		}
		if err := l.permitsHost(i.Host()); err != nil {
			return err
		}
	}
	if peak := 100 * injections.Peak().Hit; l.MaxPercentage > 0 && peak > l.MaxPercentage+1e-9 {
		return &BlockedError{Reason: Percentage, Text: fmt.Sprintf("its faults together may hit %.4g %% of the requests; at most %g %% is permitted here", peak, l.MaxPercentage)}
	}
	return nil
}

// permitsPlan returns a BlockedError if a plan has a fault on a protected host. The
// plan has the hosts that the mesh routes to, whatever the file calls them.
func (l Limits) permitsPlan(plan mesh.Plan) error {
	for _, d := range plan.Decisions {
		for _, name := range append([]string{d.Host}, d.Signature.Destinations...) {
			if err := l.permitsHost(host.Parse(name, "")); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l Limits) permitsHost(target host.Host) error {
	for _, pattern := range l.Protected {
		for _, name := range target.Spellings() {
			if matched, err := path.Match(host.Normalize(pattern), name); err == nil && matched {
				return &BlockedError{Reason: Host, Text: fmt.Sprintf("%s is protected here by %q", target.Canonical(), pattern)}
			}
		}
	}
	return nil
}

// room returns a BlockedError if a run cannot start beside the live ones. Only one
// run at a time disturbs a host.
func (l Limits) room(wanted calls, live []calls) error {
	if l.MaxConcurrent > 0 && len(live) >= l.MaxConcurrent {
		return &BlockedError{Reason: Limit, Text: fmt.Sprintf("%s live; at most %s permitted here", counted(len(live), "run is", "runs are"), counted(l.MaxConcurrent, "is", "are"))}
	}
	for _, other := range live {
		for _, name := range wanted.hosts {
			if slices.Contains(other.hosts, name) {
				return &BlockedError{Reason: Concurrency, Text: "another run disturbs " + name}
			}
		}
	}
	if l.MaxPerNamespace <= 0 {
		return nil
	}
	for _, namespace := range wanted.namespaces {
		runs := 0
		for _, other := range live {
			if slices.Contains(other.namespaces, namespace) {
				runs++
			}
		}
		if runs >= l.MaxPerNamespace {
			return &BlockedError{Reason: Limit, Text: fmt.Sprintf("%s calls from %s; at most %s permitted here", counted(runs, "run disturbs", "runs disturb"), namespace, counted(l.MaxPerNamespace, "is", "are"))}
		}
	}
	return nil
}

// counted returns a number with the words for one, or for more.
func counted(number int, one, more string) string {
	if number == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", number, more)
}
