package objects

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/squall-chaos/squall/internal/clock"
)

// Expiry decides which runs are over. It is the only place that does.
//
// A run with a heartbeat is over when none of its Jobs has moved between two readings
// that are far enough apart by the reader's own clock. Dates do not matter then: the
// deadline of a Job, the expiry of a run and the reader's time come from the clocks of
// three machines. Only a run without a heartbeat is over by its date, with a tolerance
// of clock.Skew.
//
// It is safe for concurrent use. The zero Expiry is for a single reading, after which no
// heartbeat is known to be dead.
type Expiry struct {
	silence time.Duration

	mu   sync.Mutex
	seen map[types.UID]sighting
}

// NewExpiry returns an Expiry that has read nothing. A heartbeat is dead when it does
// not move for as long as silence.
func NewExpiry(silence time.Duration) *Expiry {
	return &Expiry{silence: silence, seen: map[types.UID]sighting{}}
}

// Reading is when the runs of a cluster were read.
type Reading struct {
	// Began and Ended are by the reader's own clock.
	Began, Ended time.Time
	// Server is the API server's time.
	Server time.Time
}

// beat is the state of a heartbeat Job. A runner that is alive changes it
// repeatedly: the deadline, or the expiry while it deletes objects.
type beat struct {
	job            types.UID
	seconds        int64
	expires, phase string
}

func beatOf(job *unstructured.Unstructured) beat {
	seconds, _, _ := unstructured.NestedInt64(job.Object, "spec", "activeDeadlineSeconds") // 0 if a user has removed it
	annotations := job.GetAnnotations()
	return beat{job: job.GetUID(), seconds: seconds, expires: annotations[ExpiresAnnotation], phase: annotations[PhaseAnnotation]}
}

// sighting is when a beat was first read.
type sighting struct {
	beat
	since time.Time
}

// Mark sets Expired of all runs that a reading has returned.
func (e *Expiry) Mark(runs []ActiveRun, at Reading) {
	e.mu.Lock()
	defer e.mu.Unlock()
	seen := map[types.UID]sighting{}
	for i := range runs {
		run := &runs[i]
		silent := len(run.beats) > 0
		for _, now := range run.beats {
			last, known := e.seen[now.job]
			if known = known && last.beat == now; !known {
				// It had moved by the end of the reading at the latest.
				last = sighting{beat: now, since: at.Ended}
			}
			seen[now.job] = last
			silent = silent && known && at.Began.Sub(last.since) >= e.silence
		}
		run.Expired = silent || run.unguarded && !run.Expires.IsZero() && at.Server.Sub(run.Expires) > clock.Skew
	}
	e.seen = seen
}

// Guarded reports whether a heartbeat of the run was read: then a single reading does
// not tell whether the run is over.
func (r ActiveRun) Guarded() bool { return len(r.beats) > 0 }
