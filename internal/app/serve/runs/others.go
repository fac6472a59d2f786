package runs

import (
	"context"
	"slices"
	"time"

	"github.com/squall-chaos/squall/mesh/objects"
)

// Others are the runs of other processes in the cluster.
type Others struct {
	Runs []objects.ActiveRun `json:"runs"`
	// More is the number of runs that are not in Runs, because there are many.
	More int `json:"more,omitempty"`
	// Problem is why the runs are not known, or come from an earlier reading.
	Problem string `json:"problem,omitempty"`
}

const (
	// lookTimeout limits Look.
	lookTimeout = 10 * time.Second
	// maxOthers is the maximum number of runs of other processes that are kept.
	maxOthers = 100
)

// Look reads the runs of other processes.
func (l *Live) Look(ctx context.Context) {
	bounded, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	active, err := l.config.Cluster.ActiveRuns(bounded)
	if ctx.Err() != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.others.Problem = err.Error()
		return
	}
	active = slices.DeleteFunc(active, func(run objects.ActiveRun) bool { return l.runs[run.ID] != nil })
	shown := min(len(active), maxOthers)
	l.others = Others{Runs: active[:shown], More: len(active) - shown}
}

// Others returns the runs that the last Look has read, without those that this process
// has started since.
func (l *Live) Others() Others {
	l.mu.Lock()
	defer l.mu.Unlock()
	others := l.others
	others.Runs = slices.DeleteFunc(slices.Clone(others.Runs), func(run objects.ActiveRun) bool { return l.runs[run.ID] != nil })
	return others
}
