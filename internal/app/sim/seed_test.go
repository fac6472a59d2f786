package sim

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/squall-chaos/squall/kube/kubetest"
)

var (
	first     = flag.Uint64("seed", 1, "the seed of TestSeed, and the first one of TestSeeds")
	count     = flag.Int("seeds", 50, "the number of seeds of TestSeeds")
	shards    = flag.Int("shards", 1, "the number of processes that share the seeds")
	countFile = flag.String("counts", "", "the file for the counts of a process that others share the seeds with")
	verbose   = flag.Bool("trace", false, "print what happens")
	everyCall = flag.Bool("calls", false, "print every call")
)

func TestMain(m *testing.M) {
	flag.Parse()
	// One goroutine runs at a time anyway, and in a fixed order if there is one thread.
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(1000)
	m.Run()
}

func compareKeys(a, b kubetest.Key) int { return strings.Compare(a.String(), b.String()) }

// TestSeed repeats a seed.
func TestSeed(t *testing.T) {
	for _, problem := range simulate(t, *first, nil).judge.problems {
		t.Errorf("seed %d: %s", *first, problem)
	}
}

// A seed decides everything that Squall and its surroundings do.
func TestSeedsRepeat(t *testing.T) {
	for seed := *first; seed < *first+20; seed++ {
		if one, other := simulate(t, seed, nil).trace.Sum64(), simulate(t, seed, nil).trace.Sum64(); one != other {
			t.Errorf("seed %d has two courses", seed)
		}
	}
}

// manySeeds is a number of seeds with which no seam stays untested.
const manySeeds = 5000

// Squall keeps its promises in all surroundings. The arguments -seeds and
// -shards choose how many seeds are tried, in how many processes.
func TestSeeds(t *testing.T) {
	began := time.Now()
	all := inTurn
	if *shards > 1 {
		all = inShards
	}
	counted := all(t)
	if *countFile != "" {
		encoded, err := json.Marshal(counted)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(*countFile, encoded, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Logf("%d seeds in %s", *count, time.Since(began).Round(time.Millisecond))
	counted.log(t)
	if *count >= manySeeds {
		counted.check(t)
	}
}

// mostFailures is the number of failed seeds after which TestSeeds ends.
const mostFailures = 10

// inTurn simulates the seeds one after another.
func inTurn(t *testing.T) seams {
	t.Helper()
	all, failed := seams{}, 0
	for seed := *first; seed < *first+uint64(*count) && failed < mostFailures; seed++ {
		w := simulate(t, seed, nil)
		all.add(w.seams)
		if len(w.judge.problems) > 0 {
			failed++
			t.Errorf("seed %d: %s\n\tgo test ./internal/app/sim -run 'Seed$' -seed %d -trace", seed, strings.Join(w.judge.problems, "; "), seed)
		}
	}
	return all
}

// inShards lets processes share the seeds: a process simulates on one thread.
func inShards(t *testing.T) seams {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	directory := t.TempDir()
	each := (*count + *shards - 1) / *shards
	var running sync.WaitGroup
	outputs, failures := make([][]byte, *shards), make([]error, *shards)
	for i := range *shards {
		running.Go(func() {
			command := exec.CommandContext(t.Context(), program, "-test.run=^TestSeeds$", "-test.timeout=0", fmt.Sprintf("-seeds=%d", each),
				fmt.Sprintf("-seed=%d", *first+uint64(i*each)), "-counts="+countsOf(directory, i))
			outputs[i], failures[i] = command.CombinedOutput()
		})
	}
	running.Wait()
	all := seams{}
	for i, err := range failures {
		if err != nil {
			t.Errorf("%v\n%s", err, outputs[i])
			continue
		}
		encoded, err := os.ReadFile(countsOf(directory, i))
		counted := seams{}
		if err == nil {
			err = json.Unmarshal(encoded, &counted)
		}
		if err != nil {
			t.Fatal(err)
		}
		all.add(counted)
	}
	return all
}

func countsOf(directory string, shard int) string {
	return filepath.Join(directory, fmt.Sprintf("%d.json", shard))
}
