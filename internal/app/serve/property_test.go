package serve

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/squall-chaos/squall/internal/app/records"
	"github.com/squall-chaos/squall/internal/app/serve/scheduler"
	"github.com/squall-chaos/squall/runner/journal"
)

// However files change, leaders come, go and die, and the store fails: no host
// is disturbed by two runs, no limit is exceeded, no start by schedule injects
// twice, none injects outside its window or later than its deadline, and no
// fault outlives its process by more than the heartbeat's deadline.
func TestServeKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		steps := rapid.IntRange(1, 6).Draw(rt, "steps")
		var problems []string
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.limits = scheduler.Limits{MaxConcurrent: 2, MaxPerNamespace: 1}
			w.campaign(rand.New(rand.NewPCG(seed, 0)), steps)
			problems = w.judge()
		})
		if len(problems) > 0 {
			rt.Fatal(strings.Join(problems, "\n"))
		}
	})
}

const startingDeadline = 2 * time.Minute

// drawn returns a random experiment file: one of a few hosts, one of a few
// namespaces of callers, and starts in the first half of an hour.
func drawn(random *rand.Rand, name string) string {
	pick := func(all ...string) string { return all[random.IntN(len(all))] }
	return written(name,
		"host: ratings, namespace: prod", pick("host: ratings, namespace: prod", "host: reviews, namespace: prod", "host: details.prod.svc.cluster.local"),
		"callers: [{namespace: shop}]", pick("callers: [{namespace: shop}]", "callers: [{namespace: cart}]", "callers: [{namespace: prod}]"),
		"duration: 10s", pick("duration: 5s", "duration: 10s", "duration: 70s"),
		`"* * * * *"`, fmt.Sprintf(`"%s", startingDeadline: %s, windows: [00:00-%s], concurrencyPolicy: %s`, pick("* * * * *", "*/2 * * * *", "1-59/3 * * * *"), startingDeadline, pick("00:12", "24:00"), pick("Forbid", "Replace", "Allow")),
	)
}

// campaign makes random changes for a while.
func (w *world) campaign(random *rand.Rand, steps int) {
	for _, name := range []string{"a", "b", "c"} {
		w.write(name+".yaml", drawn(random, name))
	}
	trouble := random.Float64() * 0.5
	fates := rand.New(rand.NewPCG(random.Uint64(), 1))
	w.fate = func(bool) (time.Duration, bool, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		takes := time.Duration(fates.IntN(50)) * time.Millisecond
		if fates.Float64() > trouble {
			return takes, true, nil
		}
		return time.Duration(fates.Int64N(int64(8 * time.Second))), fates.IntN(2) == 0, errCut
	}
	r := w.lead("0")
	for step := range steps {
		time.Sleep(time.Duration(random.Int64N(int64(80 * time.Second))))
		name := string("abc"[random.IntN(3)])
		switch random.IntN(9) {
		case 0:
			r.stop()
			r = w.lead(fmt.Sprint(step + 1))
		case 1:
			r.kill()
			time.Sleep(20 * time.Second) // a Lease has to end
			r = w.lead(fmt.Sprint(step + 1))
		case 2:
			r.stop()
			time.Sleep(time.Duration(random.Int64N(int64(5 * time.Minute))))
			r = w.lead(fmt.Sprint(step + 1))
		case 3:
			w.write(name+".yaml", drawn(random, name))
		case 4:
			w.write(name+".yaml", "kind: [")
			time.Sleep(3 * time.Second)
			w.write(name+".yaml", drawn(random, name))
		case 5:
			w.remove(name + ".yaml")
			time.Sleep(3 * time.Second)
			w.write(name+".yaml", drawn(random, name))
		case 6:
			_, _ = r.StartNow(name, "a user") // it may be refused
		case 7:
			for _, live := range r.Status().Live {
				_ = r.Stop(w.t.Context(), live.Run, "a user") // it may have ended
			}
		}
	}
	r.stop()
	time.Sleep(20 * time.Second)
}

// judge returns the promises that were broken.
func (w *world) judge() []string {
	all, live, problems := w.mesh.injections()
	for _, name := range live {
		problems = append(problems, name+" is left")
	}
	for _, one := range all {
		runs, ofNamespace := 0, 0
		for _, other := range all {
			if !other.from.After(one.from) && other.to.After(one.from) {
				runs++
				if other.callers == one.callers {
					ofNamespace++
				}
			}
		}
		if runs > w.limits.MaxConcurrent || ofNamespace > w.limits.MaxPerNamespace {
			problems = append(problems, fmt.Sprintf("%s: %d faults, %d of them for %s", one.from, runs, ofNamespace, one.callers))
		}
		if length := one.to.Sub(one.from); length > 90*time.Second {
			problems = append(problems, fmt.Sprintf("%s lasts %s", one.run, length))
		}
	}
	seen := map[string]string{}
	for _, one := range all {
		record, err := records.Read(filepath.Join(w.out, one.run, journal.FileName))
		if err != nil {
			problems = append(problems, err.Error())
			continue
		}
		start, known := w.began.runs[one.run]
		if !known {
			problems = append(problems, one.run+" is not in the log")
		}
		if reason := record.Experiment.Spec.Schedule.Permits(start.at); reason != nil {
			problems = append(problems, fmt.Sprintf("%s: %s", one.run, reason))
		}
		if start.nominal.IsZero() {
			continue
		}
		if late := start.at.Sub(start.nominal); late > startingDeadline+maxPause || late < 0 {
			problems = append(problems, fmt.Sprintf("%s starts %s after %s", one.run, late, start.nominal))
		}
		name := one.experiment + " at " + start.nominal.String()
		if other := seen[name]; other != "" && other != one.run {
			problems = append(problems, fmt.Sprintf("the start of %s injects in %s and %s", name, other, one.run))
		}
		seen[name] = one.run
	}
	return problems
}
