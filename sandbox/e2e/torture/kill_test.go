package torture_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/squall-chaos/squall/sandbox/internal/apiproxy"
)

// point is where a run is killed.
type point struct {
	kind kind
	// where is the sort of the point, and name the point.
	where, name string
	// set makes a run that is about to start die there.
	set func(*squall) error
}

func (p point) String() string { return fmt.Sprintf("%s, killed %s %s", p.kind.name, p.where, p.name) }

// The sorts of points.
const (
	beforeWrite = "before a write"
	afterWrite  = "after a write"
	atLine      = "at a line of the journal"
	atMoment    = "at a moment"
)

// killBefore kills a run when it has sent a write that the API server will never
// get.
func killBefore(k kind, write string) point {
	return point{k, beforeWrite, write, func(q *squall) error {
		return q.behind(apiproxy.Hooks{Before: func(call apiproxy.Call) apiproxy.Fault {
			if call.String() != write {
				return nil
			}
			q.kill()
			return apiproxy.Reset
		}})
	}}
}

// killAfter kills a run when the API server has done what it does not know of.
func killAfter(k kind, write string) point {
	return point{k, afterWrite, write, func(q *squall) error {
		return q.behind(apiproxy.Hooks{After: func(call apiproxy.Call) {
			if call.String() == write {
				q.kill()
			}
		}})
	}}
}

// killAtLine kills a run when it has written a line of its journal.
func killAtLine(k kind, line int) point {
	return point{k, atLine, fmt.Sprint(line), func(q *squall) error { return onLine(q, line, q.kill) }}
}

// killAtMoment kills a run some time after its start.
func killAtMoment(k kind, moment time.Duration) point {
	return point{k, atMoment, moment.String(), func(q *squall) error {
		time.AfterFunc(moment, q.kill) // it starts at once
		return nil
	}}
}

// reference is an undisturbed run of a kind: what there is to be killed at.
type reference struct {
	calls  []apiproxy.Call
	writes []string
	lines  int
	took   time.Duration
}

// observe makes an undisturbed run, which must hold.
func observe(ctx context.Context, s *slot, k kind) (r reference, err error) {
	q, err := newSquall(ctx, s, k)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, q.close()) }()
	if err := q.run(ctx, func(q *squall) error { return q.behind(apiproxy.Hooks{}) }); err != nil {
		return r, err
	}
	if q.code() != 0 {
		return r, fmt.Errorf("an undisturbed run ends with %d: %s%s", q.code(), &q.stdout, &q.stderr)
	}
	r.calls, r.took = q.api.Calls(), q.ended.Sub(q.began)
	for _, call := range r.calls {
		if call.Class == apiproxy.Write {
			r.writes = append(r.writes, call.String())
		}
	}
	r.lines, err = linesIn(q.out())
	return r, err
}

// references makes an undisturbed run of each kind.
func references(t *testing.T, kinds ...kind) map[string]reference {
	t.Helper()
	found := map[string]reference{}
	var mu sync.Mutex
	var all []job
	for _, k := range kinds {
		all = append(all, job{"undisturbed, " + k.name, func(ctx context.Context, s *slot) error {
			r, err := observe(ctx, s, k)
			mu.Lock()
			defer mu.Unlock()
			found[k.name] = r
			return err
		}})
	}
	inParallel(t, all)
	if t.Failed() {
		t.FailNow()
	}
	return found
}

// usual is how long a run of one of the kinds takes on an idle machine. The reference
// runs may still be live.
const usual = 8 * time.Second

// points lists where runs are killed: everywhere, or at a sample.
func points(t *testing.T) []point {
	t.Helper()
	var all []point
	random := rand.New(rand.NewPCG(*seed, 0))
	known := references(t, kinds...)
	for _, k := range kinds {
		r := known[k.name]
		uncertain := uncertainBeats(r.calls)
		for _, write := range r.writes {
			if uncertain[write] {
				continue
			}
			all = append(all, killBefore(k, write), killAfter(k, write))
		}
		for line := range r.lines {
			all = append(all, killAtLine(k, line+1))
		}
		for range 200 / len(kinds) {
			all = append(all, killAtMoment(k, time.Duration(random.Int64N(int64(usual)))))
		}
		t.Logf("%s: %d calls, %d of them write, and %d lines in %s", k.name, len(r.calls), len(r.writes), r.lines, r.took.Round(time.Millisecond))
	}
	return chosen(all)
}

// chosen takes the items that are asked for: all, or a sample of as many as there
// are slots, the same for the same seed.
func chosen[T fmt.Stringer](items []T) []T {
	items = slices.DeleteFunc(items, func(item T) bool { return !strings.Contains(item.String(), *only) })
	if *full {
		return items
	}
	rand.New(rand.NewPCG(*seed, 1)).Shuffle(len(items), func(i, j int) { items[i], items[j] = items[j], items[i] })
	return items[:min(len(items), *slots)]
}

// errMissed says that a run has ended without what was to befall it.
var errMissed = errors.New("the run has ended without coming by")

// notMissed makes a run that something is to befall. On a busy machine a run may
// have fewer heartbeats than the one of reference, or be over before it comes to
// its watches; then it makes another.
func notMissed(run func() error) error {
	const attempts = 3
	var err error
	for range attempts {
		if err = run(); !errors.Is(err, errMissed) {
			break
		}
	}
	return err
}

// die starts a run that dies at the point, and returns it when it has ended. If it has not
// died, it ended before the point was reached, and must have held.
func (p point) die(ctx context.Context, s *slot) (q *squall, err error) {
	err = notMissed(func() (err error) {
		if q != nil {
			if err := q.close(); err != nil {
				return err
			}
		}
		q, err = p.dieOnce(ctx, s)
		return err
	})
	return q, err
}

func (p point) dieOnce(ctx context.Context, s *slot) (q *squall, err error) {
	if q, err = newSquall(ctx, s, p.kind); err != nil {
		return nil, err
	}
	err = q.run(ctx, p.set)
	if err == nil && !q.killed() && q.code() != 0 {
		err = fmt.Errorf("exit code %d: %s%s", q.code(), &q.stdout, &q.stderr)
	}
	if err == nil && !q.killed() && !p.mayMiss() {
		err = errMissed
	}
	return q, err
}

// mayMiss reports whether a run may be over before it is killed: a moment may
// come too late, and so may the kernel's word of one of the journal's last lines,
// which are written at once.
func (p point) mayMiss() bool { return p.where == atMoment || p.where == atLine }

// aftermath is what was seen after a run's death.
type aftermath struct {
	// took is the time until nothing was left, and nothing came back.
	took time.Duration
	// stood is for how long there was a VirtualService, and seen whether a
	// caller had its routes.
	stood time.Duration
	seen  bool
	// leak is what was there when nothing was allowed to be.
	leak error
}

// look watches a slot from a run's death on until nothing of it may be left.
func look(ctx context.Context, s *slot, dead time.Time) (a aftermath, err error) {
	end := dead.Add(deadline)
	nextLook := time.Time{}
	faulty := false
	for now := time.Now(); now.Before(end) && ctx.Err() == nil; now = time.Now() {
		shadowed := len(bed.standing(s, virtualServices)) > 0
		if shadowed {
			a.stood = now.Sub(dead)
		}
		// A fault is checked now and then, and often after its run has ended.
		if !now.Before(nextLook) && (shadowed || faulty || nextLook.IsZero()) {
			if faulty, err = bed.faulty(ctx, s); err != nil {
				return a, err
			}
			a.seen = a.seen || faulty
			nextLook = now.Add(4 * pause)
			if shadowed {
				nextLook = now.Add(time.Second)
			}
		}
		if faulty || len(bed.standing(s, made...)) > 0 {
			a.took = time.Since(dead)
		}
		waitUntil(ctx, time.Now().Add(pause), func() bool { return false })
	}
	a.leak = bed.dirt(ctx, s)
	return a, ctx.Err()
}

// visible returns an error if a fault that was active for long was not seen: then the
// checks would prove nothing.
func (a aftermath) visible() error {
	if a.stood > 3*time.Second && !a.seen {
		return fmt.Errorf("a VirtualService stood for %s and no caller had its routes", a.stood)
	}
	return nil
}

// All processes of the run are dead, and 20 s later no fault is active.
func TestKilledRunsLeaveNothing(t *testing.T) {
	t.Parallel()
	table := newTable("until clean")
	var all []job
	for i, p := range points(t) {
		all = append(all, job{p.String(), func(ctx context.Context, s *slot) (err error) {
			q, err := p.die(ctx, s)
			if q != nil {
				defer func() { err = errors.Join(err, q.close()) }()
			}
			if err != nil {
				return err
			}
			a, err := look(ctx, s, q.ended)
			if err != nil {
				return err
			}
			if a.leak == nil && i%8 == 0 {
				a.leak = bed.answers(ctx, s)
			}
			table.add(p.where, p.kind.name, q.killed(), a.leak != nil, a.took)
			return errors.Join(a.leak, a.visible())
		}})
	}
	inParallel(t, all)
	t.Logf("\n%s", table)
	if kills, over := table.at(atLine); kills == 0 && over > 0 {
		t.Errorf("none of %d runs was killed at a line of its journal", over)
	}
}

// rollbackAll removes every fault from a fresh process.
func rollbackAll(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, bed.squallBinary(), "rollback", "--all", "--hold", "0")
	cmd.Env = bed.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("squall rollback --all: %w: %s", err, out)
	}
	return err
}

// Without waiting for the heartbeat, one command removes everything at once. It ends the
// runs of all users, so no other test may run at the same time.
func TestKilledRunsAreRolledBack(t *testing.T) {
	table := newTable("until clean")
	for batch := range slices.Chunk(points(t), *slots) {
		var began, ended time.Time
		dead := sync.WaitGroup{}
		dead.Add(len(batch))
		rolledBack := sync.OnceValue(func() error {
			dead.Wait()
			began = time.Now()
			err := rollbackAll(t.Context())
			ended = time.Now()
			return err
		})
		var all []job
		for _, p := range batch {
			all = append(all, job{p.String(), func(ctx context.Context, s *slot) (err error) {
				q, err := p.die(ctx, s)
				dead.Done()
				if q != nil {
					defer func() { err = errors.Join(err, q.close()) }()
				}
				if err := errors.Join(err, rolledBack()); err != nil {
					return err
				}
				left, err := bed.left(ctx, s)
				if err == nil && len(left) > 0 {
					err = fmt.Errorf("the rollback has left %v", left)
				}
				// istiod receives the change a moment later.
				err = errors.Join(err, eventually(ctx, 5*time.Second-time.Since(ended), func() error { return bed.dirt(ctx, s) }))
				table.add(p.where, p.kind.name, q.killed(), err != nil, time.Since(began))
				return err
			}})
		}
		inParallel(t, all)
	}
	t.Logf("\n%s", table)
}

// table counts kills and leaks, and how long things took.
type table struct {
	time string
	mu   sync.Mutex
	rows map[[2]string]*row
}

type row struct {
	kills, over, leaks int
	took               []time.Duration
}

func newTable(time string) *table { return &table{time: time, rows: map[[2]string]*row{}} }

// add adds a run that was killed or, when it was not, was over before.
func (t *table) add(where, what string, killed, leak bool, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, key := range [][2]string{{where, what}, {"~ all", ""}} {
		if t.rows[key] == nil {
			t.rows[key] = &row{}
		}
		r := t.rows[key]
		r.took = append(r.took, took)
		if killed {
			r.kills++
		} else {
			r.over++
		}
		if leak {
			r.leaks++
		}
	}
}

// has reports whether something was added under a name.
func (t *table) has(where string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.rows[[2]string{where, ""}] != nil
}

// at counts the runs at a sort of point that were killed, and those that were
// over before.
func (t *table) at(where string) (kills, over int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, r := range t.rows {
		if key[0] == where {
			kills, over = kills+r.kills, over+r.over
		}
	}
	return kills, over
}

// String prints the table, the sum last.
func (t *table) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "where\twhat\tkills\tover before\tleaks\t%s: median\tworst\t\n", t.time)
	var keys [][2]string
	for key := range t.rows {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	for _, key := range keys {
		r := t.rows[key]
		slices.Sort(r.took)
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%s\t%s\t\n", strings.TrimPrefix(key[0], "~ "), key[1], r.kills, r.over, r.leaks,
			r.took[len(r.took)/2].Round(10*time.Millisecond), r.took[len(r.took)-1].Round(10*time.Millisecond))
	}
	_ = w.Flush() // a strings.Builder does not fail
	return out.String()
}
