// Package lately remembers the last run of a process, whose effect may be in the windows
// of the probes of the next one.
package lately

import (
	"fmt"
	"sync"
	"time"

	"github.com/squall-chaos/squall/runner/event"
)

// shortly is how long the effect of a run may be in the windows of the next one's probes.
const shortly = 10 * time.Minute

// Run is the last run of a runner that has injected a fault. It is safe for concurrent
// use.
type Run struct {
	mu    sync.Mutex
	run   string
	ended time.Time
}

// Add stores a run that has ended.
func (l *Run) Add(run string, result event.Result) {
	if result.Injected.Duration <= 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.run, l.ended = run, result.Finished
}

// InWords names the run if it has ended shortly before now: "run a has ended 12s ago".
func (l *Run) InWords(now time.Time) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	ago := now.Sub(l.ended)
	if l.run == "" || ago > shortly {
		return ""
	}
	return fmt.Sprintf("run %s has ended %s ago", l.run, max(0, ago).Round(time.Second))
}
