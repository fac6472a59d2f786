package sim

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"
)

// fate is what becomes of a call.
type fate int

// The fates. Before, the call fails and has no effect; after, it takes effect, and
// the answer is an error; lost, it takes effect, and there is no answer.
const (
	served fate = iota
	before
	after
	lost
	fates
)

func (f fate) String() string { return [...]string{"served", "before", "after", "lost"}[f] }

// weather is how likely calls fail, and how long they take.
type weather struct {
	// failing is the probability that a call fails. slow is the probability that one
	// takes up to slowest.
	failing, slow float64
	slowest       time.Duration
	// down is true while no call is served. refuses reports whether calls then fail at
	// once, or are never answered.
	down, refuses bool
}

// seams counts the fates of the calls at each seam.
type seams map[string]*[fates]int

func (s seams) count(seam string, f fate) {
	if s[seam] == nil {
		s[seam] = &[fates]int{}
	}
	s[seam][f]++
}

// leastFailures is how often calls of a seam have to fail in each way in many seeds.
const leastFailures = 5

// check reports the seams that were hardly tested.
func (s seams) check(t *testing.T) {
	t.Helper()
	for seam, counts := range s {
		for f := before; f < fates; f++ {
			if counts[f] < leastFailures {
				t.Errorf("%s has failed %d times %s its effect", seam, counts[f], f)
			}
		}
	}
	for _, seam := range expected {
		if s[seam] == nil {
			t.Errorf("%s was never called", seam)
		}
	}
}

// expected are the seams of Squall.
var expected = []string{
	"snapshot", "permitted", "earlier", "record", "query clock", "query probe", "query counters",
	"check jobs", "check virtualservices", "create jobs", "create virtualservices", "watch jobs", "watch virtualservices", "list jobs", "list virtualservices",
	"list serviceentries", "get jobs", "get virtualservices", "patch jobs", "patch virtualservices", "delete jobs", "delete virtualservices",
	"get version", "get networking.istio.io", "get leases", "create leases", "update leases", "create serviceentries", "delete serviceentries",
}

// log prints the counts.
func (s seams) log(t *testing.T) {
	t.Helper()
	for _, seam := range slices.Sorted(maps.Keys(s)) {
		c := s[seam]
		t.Logf("%-26s served %7d, failed before %5d, after %5d, lost %5d", seam, c[served], c[before], c[after], c[lost])
	}
}

// add adds other counts.
func (s seams) add(other seams) {
	for seam, counts := range other {
		if s[seam] == nil {
			s[seam] = &[fates]int{}
		}
		for f, n := range counts {
			s[seam][f] += n
		}
	}
}

var (
	errRefused = errors.New("connect: connection refused")
	errReset   = errors.New("read: connection reset by peer")
	errDead    = errors.New("this process is dead")
)

// rare is how often calls fail at least at the seams with few calls, so that they fail
// in each way.
var rare = map[string]float64{
	"patch virtualservices": 0.2, "list destinationrules": 0.2, "list serviceentries": 0.2, "get networking.istio.io": 0.1,
	"create jobs": 0.02, "create virtualservices": 0.02, "watch jobs": 0.02, "watch virtualservices": 0.02, "query clock": 0.01,
	"check jobs": 0.01, "check virtualservices": 0.01, "permitted": 0.01, "earlier": 0.005,
	"check serviceentries": 0.05, "create serviceentries": 0.05, "get serviceentries": 0.02, "watch serviceentries": 0.05, "delete serviceentries": 0.05, "create leases": 0.2,
}

// pass carries out a call at a seam: effect is called when the call takes effect, and
// returns the answer; failed returns the answer of a call that fails, whether or not
// it has taken effect.
func (w *world) pass(c *call, seam string, at *weather, effect func() any, failed func(f fate) any) {
	if c.from.dead {
		c.reply(fail{errDead})
		return
	}
	f := served
	failing := max(at.failing, rare[seam])
	if w.trouble && w.chance(failing) {
		f = fate(1 + w.IntN(3))
	}
	travel := w.skewed(200*time.Microsecond, 5*time.Millisecond)
	if w.trouble && w.chance(at.slow) {
		travel = w.between(0, at.slowest)
	}
	if at.down || c.from.cut {
		f = before
		w.seams.count(seam, f)
		if at.refuses {
			w.in(travel, func() { c.reply(fail{fmt.Errorf("%s: %w", seam, errRefused)}) })
		}
		return
	}
	w.noteCall(c, f)
	// A call whose caller has given up may still take effect.
	stubborn := w.chance(0.5)
	hangs := w.chance(0.3)
	w.seams.count(seam, f)
	w.in(travel, func() {
		var answer any
		if f != before {
			if c.from.dead && !stubborn || c.ctx.Err() != nil && !stubborn {
				return
			}
			answer = effect()
		}
		w.in(w.skewed(200*time.Microsecond, 3*time.Millisecond), func() {
			switch {
			case f == served:
				c.reply(answer)
			case f == lost && hangs:
			case f == lost:
				c.reply(fail{errReset})
			default:
				c.reply(failed(f))
			}
		})
	})
}

// fail is the answer of a call that has failed.
type fail struct{ err error }
