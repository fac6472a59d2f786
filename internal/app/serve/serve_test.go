package serve

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/internal/app/notify"
	"github.com/squall-chaos/squall/internal/app/serve/directory"
	"github.com/squall-chaos/squall/internal/app/serve/leadership"
	"github.com/squall-chaos/squall/internal/app/serve/runs"
	"github.com/squall-chaos/squall/internal/app/serve/scheduler"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner/event"
	"github.com/squall-chaos/squall/runner/schedule"
)

// bubble runs a test in fake time, in a new world.
func bubble(t *testing.T, name string, test func(t *testing.T, w *world)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			test(t, w)
			w.check()
			if left := w.alive(); left > 0 {
				t.Errorf("%d faults are left", left)
			}
		})
	})
}

// compiled returns the schedule of the one experiment in a directory.
func compiled(t *testing.T, dir string) schedule.Schedule {
	t.Helper()
	d := directory.New(dir)
	d.Read()
	for name, one := range d.Experiments() {
		planned, err := schedule.New(name, *one.Spec.Schedule)
		must(t, err)
		return planned
	}
	t.Fatal("there is no experiment")
	return schedule.Schedule{}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestEveryMinute(t *testing.T) {
	bubble(t, "", func(t *testing.T, w *world) {
		w.write("a.yaml", written("outage"))
		r := w.lead("a")
		time.Sleep(time.Hour + 30*time.Second)
		r.stop()
		all := w.injections("outage")
		if len(all) != 60 || w.counted().starts["outage"] != 60 || w.ended("outage", event.StatusCompleted) != 60 {
			t.Errorf("%d injections of %d starts, %v", len(all), w.counted().starts["outage"], w.counted().finished)
		}
		for i, one := range all {
			// The baseline takes three seconds.
			want := time.Date(2000, 1, 1, 0, 1+i, 0, 0, time.UTC)
			if lag := one.from.Sub(want); lag < 3*time.Second || lag > 3500*time.Millisecond {
				t.Errorf("start %d: injected at %s", i, one.from)
			}
		}
		if len(w.counted().skips) > 0 {
			t.Errorf("skipped: %v", w.counted().skips)
		}
	})
}

// Each policy makes and skips the right starts in ten minutes, while each run takes
// 80 s.
func TestConcurrencyPolicies(t *testing.T) {
	for _, test := range []struct {
		policy             string
		injected, skipped  int
		ended, interrupted int
	}{
		{"Forbid", 5, 5, 5, 0},
		{"Replace", 10, 0, 0, 10},
		// Allow permits a second run on another host; on the same host it waits.
		{"Allow", 7, 2, 6, 1},
	} {
		bubble(t, test.policy, func(t *testing.T, w *world) {
			w.write("a.yaml", written("outage", "10s", "80s", `"* * * * *"`, `"* * * * *", concurrencyPolicy: `+test.policy))
			r := w.lead("a")
			time.Sleep(10*time.Minute + 30*time.Second)
			r.stop()
			got := []int{len(w.injections("outage")), w.skipped("outage", "concurrency") + w.skipped("outage", "limit") + w.skipped("outage", "deadline"), w.ended("outage", event.StatusCompleted), w.ended("outage", event.StatusInterrupted)}
			if diff := cmp.Diff([]int{test.injected, test.skipped, test.ended, test.interrupted}, got); diff != "" {
				t.Errorf("%s\n%v %v", diff, w.counted().skips, w.counted().finished)
			}
		})
	}
}

// Starts wait for a host, for a namespace or for another run to end. At their
// deadline they are skipped with that reason.
func TestStartsWait(t *testing.T) {
	for _, test := range []struct {
		name   string
		limits scheduler.Limits
		change []string
		waits  string
		reason scheduler.Reason
	}{
		{"host", scheduler.Limits{}, []string{"host: ratings, namespace: prod", "host: ratings.prod.svc.cluster.local", "namespace: shop}]", "namespace: cart}]"}, "another run disturbs ratings.prod.svc.cluster.local", "concurrency"},
		{"namespace", scheduler.Limits{MaxPerNamespace: 1}, []string{"host: ratings", "host: reviews"}, "1 run disturbs calls from shop; at most 1 is permitted here", "limit"},
		{"place", scheduler.Limits{MaxConcurrent: 1}, []string{"host: ratings", "host: reviews", "namespace: shop}]", "namespace: cart}]"}, "1 run is live; at most 1 is permitted here", "limit"},
	} {
		bubble(t, test.name, func(t *testing.T, w *world) {
			w.limits = test.limits
			w.write("a.yaml", written("long", "10s", "250s", "* * * * *", "1 0 * * *"))
			w.write("b.yaml", written("short", append(test.change, "* * * * *", "2 0 * * *", `* *"}`, `* *", startingDeadline: 30s}`)...))
			w.write("c.yaml", written("patient", append(test.change, "* * * * *", "2 0 * * *", `* *"}`, `* *", startingDeadline: 10m}`)...))
			r := w.lead("a")
			time.Sleep(2*time.Minute + 10*time.Second)
			if got := r.Status().Experiments; len(got) != 3 || got[2].Waiting != test.waits || got[1].Waiting != test.waits {
				t.Errorf("%+v", got)
			}
			time.Sleep(10 * time.Minute)
			r.stop()
			if w.skipped("short", test.reason) != 1 || len(w.injections("short")) != 0 || len(w.injections("patient")) != 1 {
				t.Errorf("%v, %v", w.counted().skips, w.counted().starts)
			}
		})
	}
}

// Starts that come due while an earlier one waits are skipped for the same reason.
func TestStartsThatAreOvertaken(t *testing.T) {
	bubble(t, "", func(t *testing.T, w *world) {
		w.write("a.yaml", written("long", "10s", "250s", "* * * * *", "1 0 * * *"))
		w.write("b.yaml", written("short", `* *"}`, `* *", startingDeadline: 10m}`))
		r := w.lead("a")
		time.Sleep(10*time.Minute + 30*time.Second)
		r.stop()
		if w.skipped("short", scheduler.Deadline) != 0 || w.skipped("short", scheduler.Concurrency) != 4 || w.counted().starts["short"] != 6 {
			t.Errorf("%v %v", w.counted().skips, w.counted().starts)
		}
	})
}

// The limits hold for the plan, too: a file that names no callers, or another name
// of a host, cannot exceed them.
func TestPlansAreLimited(t *testing.T) {
	bubble(t, "", func(t *testing.T, w *world) {
		w.limits = scheduler.Limits{MaxPerNamespace: 1}
		w.write("a.yaml", written("long", "10s", "60s"))
		w.write("b.yaml", written("callerless", "host: ratings", "host: reviews", "  callers: [{namespace: shop}]\n", ""))
		r := w.lead("a")
		time.Sleep(time.Minute + 45*time.Second)
		r.stop()
		if len(w.injections("long"))+len(w.injections("callerless")) != 1 || w.ended("long", event.StatusRefused)+w.ended("callerless", event.StatusRefused) != 1 {
			t.Errorf("%v %v", w.counted().finished, w.counted().reasons)
		}
	})
}

func TestPause(t *testing.T) {
	bubble(t, "", func(t *testing.T, w *world) {
		w.write("a.yaml", written("outage"))
		r := w.lead("a")
		time.Sleep(90 * time.Second)
		if err := r.Pause(t.Context(), true, "a user"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		if len(w.injections("outage")) != 1 || w.skipped("outage", "paused") != 10 || r.Status().Paused != "a user" || !w.isPaused() {
			t.Errorf("%d injections, %v", len(w.injections("outage")), w.counted().skips)
		}
		r.stop()
		r = w.lead("b") // it reads that the schedules are paused
		time.Sleep(5 * time.Minute)
		if len(w.injections("outage")) != 1 {
			t.Errorf("%d injections", len(w.injections("outage")))
		}
		standby := w.replica("c")
		if err := standby.Pause(t.Context(), false, "a user"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2*time.Minute + 30*time.Second)
		r.stop()
		if got := len(w.injections("outage")); got != 3 {
			t.Errorf("%d injections", got)
		}
	})
}

// The kill switch pauses the schedules until a user lets them go on, also if the hold
// ends before or lasts longer.
func TestAHoldPausesOnce(t *testing.T) {
	bubble(t, "", func(t *testing.T, w *world) {
		w.write("a.yaml", written("outage"))
		r := w.lead("a")
		time.Sleep(90 * time.Second)
		w.mesh.SetHold(&objects.Hold{By: "bob@desk", Until: time.Now().Add(10 * time.Minute), Namespace: "istio-system"})
		time.Sleep(20 * time.Second)
		if r.Status().Paused != "bob@desk, with squall rollback --all" {
			t.Errorf("paused by %q", r.Status().Paused)
		}
		if err := r.Pause(t.Context(), false, "a user"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		if r.Status().Paused != "" || len(w.injections("outage")) != 1 || w.ended("outage", event.StatusRefused) == 0 {
			t.Errorf("paused by %q, %d injections, %v", r.Status().Paused, len(w.injections("outage")), w.counted().finished)
		}
		w.mesh.SetHold(nil)
		time.Sleep(2 * time.Minute)
		r.stop()
		if len(w.injections("outage")) < 2 {
			t.Errorf("%d injections", len(w.injections("outage")))
		}
	})
}

// A read that began before a pause and ends after it does not undo the pause.
func TestPauseDuringARefresh(t *testing.T) {
	bubble(t, "", func(t *testing.T, w *world) {
		w.write("a.yaml", written("outage"))
		w.fate = func(write bool) (time.Duration, bool, error) {
			if write {
				return 0, true, nil
			}
			return 2 * time.Second, true, nil
		}
		r := w.lead("a")
		time.Sleep(refreshEvery + 500*time.Millisecond) // a refresh is under way
		if err := r.Pause(t.Context(), true, "a user"); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			time.Sleep(100 * time.Millisecond)
			if r.Status().Paused != "a user" {
				t.Fatal("it is not paused any more")
			}
		}
		r.stop()
	})
}

// A schedule begins when it is new, changed or resumed: earlier starts are not made.
func TestSchedulesAreNotRetroactive(t *testing.T) {
	for _, test := range []struct{ name, before, after string }{
		{"new", "", `"0 * * * *", startingDeadline: 30m`},
		{"changed", `"30 23 * * *"`, `"0 * * * *", startingDeadline: 30m`},
		{"suspended", `"0 * * * *", startingDeadline: 30m, suspend: true`, `"0 * * * *", startingDeadline: 30m`},
	} {
		bubble(t, test.name, func(t *testing.T, w *world) {
			if test.before != "" {
				w.write("a.yaml", written("outage", `"* * * * *"`, test.before))
			}
			r := w.lead("a")
			time.Sleep(65 * time.Minute)
			w.write("a.yaml", written("outage", `"* * * * *"`, test.after))
			time.Sleep(50 * time.Minute)
			if got := w.injections("outage"); len(got) != 0 {
				t.Errorf("injected at %s", got[0].from)
			}
			time.Sleep(10 * time.Minute)
			r.stop()
			if got := len(w.injections("outage")); got != 1 {
				t.Errorf("%d injections", got)
			}
		})
	}
}

// The page of every replica shows the next start, also between its nominal time
// and the end of its jitter.
func TestTheNextStartWithJitter(t *testing.T) {
	bubble(t, "", func(t *testing.T, w *world) {
		w.write("a.yaml", written("outage", `cron: "* * * * *"`, `cron: "0 * * * *", jitter: 30m, startingDeadline: 5m`))
		planned := compiled(t, w.dir)
		r, standby := w.lead("a"), w.replica("b")
		for range 10 {
			next, _ := planned.Next(time.Now())
			for _, at := range []time.Time{next.Nominal.Add(-time.Second), next.Nominal, next.Nominal.Add(time.Second), next.At.Add(-time.Second)} {
				time.Sleep(time.Until(at))
				for _, replica := range []*Server{r.Server, standby.Server} {
					if shown := replica.Status().Experiments[0].Next; !shown.Equal(next.At) {
						t.Errorf("%s shows at %s that the start at %s is at %s", replica.config.Identity, at, next.At, shown)
					}
				}
			}
			time.Sleep(time.Until(next.At.Add(time.Second)))
			if shown := r.Status().Experiments[0].Next; !shown.After(next.At) {
				t.Errorf("the start at %s was made, and is shown at %s", next.At, shown)
			}
		}
		r.stop()
		if made := w.counted().starts["outage"]; made != 10 {
			t.Errorf("%d starts", made)
		}
	})
}

// After any time without a leader, the latest start is made exactly once if its
// deadline has not passed.
func TestAfterAPause(t *testing.T) {
	for _, test := range []struct {
		pause    time.Duration
		injected int
	}{
		{8 * time.Minute, 0},
		{10*time.Minute + 20*time.Second, 1},
		{18 * time.Minute, 0},
		{24 * time.Hour, 1},
		{24*time.Hour + 8*time.Minute, 0},
		{20 * 365 * 24 * time.Hour, 1},
	} {
		bubble(t, test.pause.String(), func(t *testing.T, w *world) {
			w.write("a.yaml", written("outage", `"* * * * *"`, `"*/10 * * * *", startingDeadline: 5m`))
			w.lead("a").stop()
			time.Sleep(test.pause)
			r := w.lead("b")
			time.Sleep(90 * time.Second)
			r.stop()
			if got := len(w.injections("outage")); got != test.injected {
				t.Errorf("%d injections, %v", got, w.counted().skips)
			}
		})
	}
}

// A stored start that is far in the future does not block the schedule. One that is
// a little in the future is not made again.
func TestAStartInTheFuture(t *testing.T) {
	for _, test := range []struct {
		stored   string
		injected int
	}{
		{"2030-01-01T00:00:00Z", 10},
		{"2000-01-01T00:02:00Z", 8},
	} {
		bubble(t, test.stored, func(t *testing.T, w *world) {
			w.write("a.yaml", written("outage"))
			w.text.text = `{"starts":{"outage":"` + test.stored + `","gone":"` + test.stored + `"}}`
			r := w.lead("a")
			time.Sleep(5*time.Minute + 30*time.Second)
			r.stop()
			r = w.lead("b")
			time.Sleep(5 * time.Minute)
			r.stop()
			if got := len(w.injections("outage")); got != test.injected || strings.Contains(w.text.text, "2030") {
				t.Errorf("%d injections, and the state is %s", got, w.text.text)
			}
		})
	}
}

// The next leader makes a start again if, and only if, it has not injected a fault.
func TestTakingOver(t *testing.T) {
	for _, test := range []struct {
		name     string
		at       time.Duration // after the start
		end      func(r *process)
		injected int
	}{
		{"ended before the first create", 2 * time.Second, func(r *process) { r.stop() }, 1},
		{"ended in the fault", 6 * time.Second, func(r *process) { r.stop() }, 1},
		{"died before the first create", 2 * time.Second, func(r *process) { r.kill() }, 1},
		{"died in the fault", 6 * time.Second, func(r *process) { r.kill() }, 1},
	} {
		bubble(t, test.name, func(t *testing.T, w *world) {
			w.write("a.yaml", written("outage", "* * * * *", "1 * * * *", `* *"}`, `* *", startingDeadline: 5m}`))
			first := w.lead("a")
			time.Sleep(time.Minute + test.at)
			test.end(first)
			if w.alive() > 0 && test.name == "ended in the fault" {
				t.Error("Lead has returned before the rollback")
			}
			time.Sleep(20 * time.Second)
			if w.alive() > 0 {
				t.Error("a fault outlives its process")
			}
			second := w.lead("b")
			time.Sleep(5 * time.Minute)
			second.stop()
			if got := len(w.injections("outage")); got != test.injected {
				t.Errorf("%d injections; %v", got, w.counted().finished)
			}
		})
	}
}

// The reason of a run that ends because its replica does not lead any more is the
// cause of that.
func TestReasonOfAHandover(t *testing.T) {
	bubble(t, "", func(t *testing.T, w *world) {
		w.write("a.yaml", written("outage"))
		r := w.lead("a")
		time.Sleep(66 * time.Second)
		began := time.Now()
		r.stop()
		if took := time.Since(began); took > 4*time.Second || len(w.counted().reasons) != 1 || w.counted().reasons[0] != "another leads" {
			t.Errorf("%s, %q", took, w.counted().reasons)
		}
	})
}

// A process that was suspended while another took over starts nothing.
func TestDeposed(t *testing.T) {
	bubble(t, "", func(t *testing.T, w *world) {
		w.write("a.yaml", written("outage", "* * * * *", "*/10 * * * *"))
		old := w.lead("a")
		time.Sleep(time.Second)
		young := w.lead("b")
		time.Sleep(35 * time.Minute)
		old.stop()
		young.stop()
		if got := len(w.injections("outage")); got != 3 {
			t.Errorf("%d injections in 35 minutes; %v", got, w.counted().finished)
		}
	})
}

func TestStoreThatFails(t *testing.T) {
	failed := errors.New("etcd is away")
	for _, test := range []struct {
		name     string
		from     time.Duration
		fate     func(write bool) (time.Duration, bool, error)
		injected int
	}{
		{"from the beginning", 0, func(bool) (time.Duration, bool, error) { return 0, false, failed }, 0},
		{"later", 30 * time.Second, func(bool) (time.Duration, bool, error) { return 0, false, failed }, 0},
		{"hangs", 30 * time.Second, func(bool) (time.Duration, bool, error) { return time.Hour, false, nil }, 0},
		{"its answer is lost", 30 * time.Second, func(bool) (time.Duration, bool, error) { return 0, true, failed }, 0},
		{"is slow", 0, func(bool) (time.Duration, bool, error) { return 4 * time.Second, true, nil }, 5},
	} {
		bubble(t, test.name, func(t *testing.T, w *world) {
			w.write("a.yaml", written("outage"))
			began := time.Now()
			w.fate = func(write bool) (time.Duration, bool, error) {
				if time.Since(began) < test.from {
					return 0, true, nil
				}
				return test.fate(write)
			}
			r := w.lead("a")
			time.Sleep(5*time.Minute + 40*time.Second)
			r.stop()
			if got := len(w.injections("outage")); got != test.injected || w.counted().leads {
				t.Errorf("%d injections; %v", got, w.counted().finished)
			}
		})
	}
}

// A run that cannot be recorded does not start.
func TestRecordsThatCannotBeWritten(t *testing.T) {
	bubble(t, "", func(t *testing.T, w *world) {
		if err := os.WriteFile(w.out, []byte("a file"), 0o600); err != nil {
			t.Fatal(err)
		}
		w.write("a.yaml", written("outage"))
		r := w.lead("a")
		time.Sleep(3*time.Minute + 30*time.Second)
		r.stop()
		if len(w.injections("outage")) != 0 || w.ended("outage", event.StatusRefused) != 3 || w.skipped("outage", "error") != 3 {
			t.Errorf("%v %v", w.counted().finished, w.counted().skips)
		}
	})
}

// A live run goes on as it began, whatever happens to its file.
func TestReloadInMidRun(t *testing.T) {
	for _, test := range []struct {
		name string
		do   func(w *world)
	}{
		{"changed", func(w *world) { w.write("a.yaml", written("outage", "10s", "2s", "* * * * *", "0 12 * * *")) }},
		{"broken", func(w *world) { w.write("a.yaml", "apiVersion: {") }},
		{"removed", func(w *world) { w.remove("a.yaml") }},
		{"replaced by another file", func(w *world) { w.remove("a.yaml"); w.write("b.yaml", written("outage", "* * * * *", "0 12 * * *")) }},
		{"the directory is gone", func(w *world) { w.remove("") }},
	} {
		bubble(t, test.name, func(t *testing.T, w *world) {
			w.write("a.yaml", written("outage", "10s", "40s", "* * * * *", "1 * * * *"))
			r := w.lead("a")
			time.Sleep(66 * time.Second)
			test.do(w)
			time.Sleep(4 * time.Minute)
			r.stop()
			all := w.injections("outage")
			if len(all) != 1 || all[0].to.Sub(all[0].from).Round(time.Second) != 40*time.Second || w.ended("outage", event.StatusCompleted) != 1 {
				t.Errorf("%v %v", all, w.counted().finished)
			}
		})
	}
}

func (w *world) remove(name string) {
	w.t.Helper()
	if err := os.RemoveAll(filepath.Join(w.dir, name)); err != nil {
		w.t.Fatal(err)
	}
}

func TestStartNowAndStop(t *testing.T) {
	bubble(t, "", func(t *testing.T, w *world) {
		w.limits.MaxDuration = time.Minute
		w.write("a.yaml", written("outage", "10s", "50s", `  schedule: {cron: "* * * * *"}`, ""))
		w.write("b.yaml", written("too-long", "10s", "50h", "before: 3s", "before: 4s"))
		standby := w.replica("s")
		if _, err := standby.StartNow("outage", "me"); !errors.Is(err, leadership.ErrNotLeading) {
			t.Errorf("error %v", err)
		}
		r := w.lead("a")
		if _, err := r.StartNow("none", "me"); !errors.Is(err, scheduler.ErrUnknown) {
			t.Errorf("error %v", err)
		}
		if _, err := r.StartNow("too-long", "me"); !errors.Is(err, scheduler.ErrForbidden) {
			t.Errorf("error %v", err)
		}
		run, err := r.StartNow("outage", "me")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.StartNow("outage", "me"); !errors.Is(err, scheduler.ErrBusy) {
			t.Errorf("error %v", err)
		}
		time.Sleep(10 * time.Second)
		if w.alive() != 1 {
			t.Error("there is no fault")
		}
		var all sync.WaitGroup
		var stops atomic.Int32
		for i := range 50 {
			all.Go(func() {
				switch err := r.Stop(t.Context(), run, fmt.Sprintf("user %d", i)); {
				case err == nil:
					stops.Add(1)
				case !errors.Is(err, runs.ErrNotLive): // the run may have ended
					t.Error(err)
				}
			})
		}
		all.Wait()
		if stops.Load() == 0 {
			t.Error("no user could stop it")
		}
		time.Sleep(4 * time.Second) // until the calls are clean
		if w.alive() != 0 || !strings.HasPrefix(w.counted().reasons[0], "stopped by user ") || w.ended("outage", event.StatusInterrupted) != 1 {
			t.Errorf("%v %q", w.counted().finished, w.counted().reasons)
		}
		if err := r.Stop(t.Context(), run, "late"); !errors.Is(err, runs.ErrNotLive) {
			t.Errorf("error %v", err)
		}
		r.stop()
	})
}

// A run of another process is removed, even when the client disconnects.
func TestStopOfARunOfAnotherProcess(t *testing.T) {
	bubble(t, "", func(t *testing.T, w *world) {
		w.active = []objects.ActiveRun{{ID: "x"}, {ID: "y"}}
		r := w.replica("s", func(c *Config) { c.Cluster = slowCluster{w} })
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		if err := r.Stop(ctx, "x", "me"); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]string{"x by me"}, w.removed); diff != "" {
			t.Error(diff)
		}
		w.lookErr = errCut
		if err := r.Stop(t.Context(), "y", "me"); !errors.Is(err, errCut) {
			t.Errorf("error %v", err)
		}
	})
}

// slowCluster takes a second to remove runs.
type slowCluster struct{ *world }

func (c slowCluster) Remove(ctx context.Context, active []objects.ActiveRun, owner string) error {
	time.Sleep(time.Second)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return c.world.Remove(ctx, active, owner)
}

func TestSweep(t *testing.T) {
	bubble(t, "", func(t *testing.T, w *world) {
		object := []objects.Ref{{Kind: "VirtualService", Namespace: "shop", Name: "squall-x"}}
		w.active = []objects.ActiveRun{{ID: "old", Expired: true, Objects: object}, {ID: "young", Objects: object}}
		r := w.lead("a")
		time.Sleep(time.Second)
		w.mu.Lock()
		w.lookErr = errCut
		w.mu.Unlock()
		time.Sleep(40 * time.Second)
		r.stop()
		if diff := cmp.Diff([]string{"old by squall serve, a: expired"}, w.removed); diff != "" {
			t.Error(diff)
		}
		if len(w.counted().swept) != 2 || w.counted().swept[0] != nil || w.counted().swept[1] == nil {
			t.Errorf("%v", w.counted().swept)
		}
	})
}

// Kubernetes Events that hang do not delay the end of a fault or the next start.
// They delay the end of the process by their timeout at most, after the proof that the
// calls are clean.
func TestEventsThatHang(t *testing.T) {
	bubble(t, "", func(t *testing.T, w *world) {
		w.emit = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		w.write("a.yaml", written("outage"))
		r := w.lead("a")
		time.Sleep(2*time.Minute + 6*time.Second)
		cutoff := time.Now()
		r.stop()
		all := w.injections("outage")
		if len(all) != 2 || all[0].to.Sub(all[0].from).Round(time.Second) != 10*time.Second || all[1].to.Sub(cutoff) > 2*time.Second || time.Since(cutoff) > 9*time.Second {
			t.Errorf("%v", all)
		}
	})
}

// Each thing that happens is notified once.
func TestNotifications(t *testing.T) {
	bubble(t, "", func(t *testing.T, w *world) {
		w.write("a.yaml", written("outage", "* * * * *", "1 * * * *"))
		r := w.lead("a")
		time.Sleep(2 * time.Minute)
		r.stop()
		var kinds []notify.Kind
		for _, e := range w.sent {
			kinds = append(kinds, e.Kind)
			if e.Host != "ratings.prod.svc.cluster.local" || len(e.Callers) != 1 || e.Callers[0] != "shop" || e.From.IsZero() {
				t.Errorf("%+v", e)
			}
		}
		if diff := cmp.Diff([]notify.Kind{notify.Started, notify.Finished}, kinds); diff != "" {
			t.Error(diff)
		}
		if len(w.events) != 2 || !strings.HasPrefix(w.events[0], "Namespace shop/shop FaultStarted outage: a fault is active for 10s") {
			t.Errorf("%q", w.events)
		}
		past := r.history.Past(10)
		if len(past) != 1 || past[0].Status != event.StatusCompleted || r.history.Past(0) == nil {
			t.Errorf("%+v", past)
		}
	})
}
