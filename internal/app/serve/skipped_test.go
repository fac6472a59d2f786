package serve

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/internal/app/metrics"
	"github.com/squall-chaos/squall/internal/app/serve/scheduler"
	"github.com/squall-chaos/squall/runner/runnertest"
)

// skips counts the starts that are skipped.
type skips struct {
	Metrics
	reasons map[scheduler.Reason]int
}

func (s skips) Skipped(_ string, reason scheduler.Reason) { s.reasons[reason]++ }

// The metric of skipped starts has the reason for which an experiment cannot start.
func TestReasonsOfSkippedStarts(t *testing.T) {
	for name, test := range map[string]struct {
		limits scheduler.Limits
		other  string // the host that a live run disturbs
		reason scheduler.Reason
	}{
		"a protected host":  {limits: scheduler.Limits{Protected: []string{"*.prod.svc.cluster.local"}}, reason: scheduler.Host},
		"a large share":     {limits: scheduler.Limits{MaxPercentage: 10}, reason: scheduler.Percentage},
		"a long experiment": {limits: scheduler.Limits{MaxDuration: time.Second}, reason: scheduler.Duration},
		"the same host":     {other: "ratings.prod", reason: scheduler.Concurrency},
		"many runs":         {limits: scheduler.Limits{MaxConcurrent: 1}, other: "details.prod", reason: scheduler.Limit},
		"the namespace":     {limits: scheduler.Limits{MaxPerNamespace: 1}, other: "details.prod", reason: scheduler.Limit},
	} {
		t.Run(name, func(t *testing.T) {
			directory := t.TempDir()
			write(t, directory, "outage", everyTenMinutes)
			if test.other != "" {
				other := strings.NewReplacer("outage", "other", "ratings.prod", test.other, `schedule: {cron: "*/10 * * * *", startingDeadline: 5m}`, "").Replace(everyTenMinutes)
				write(t, directory, "other", other)
			}
			synctest.Test(t, func(t *testing.T) { skipped(t, directory, test.limits, test.other != "", test.reason) })
		})
	}
}

func write(t *testing.T, directory, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(directory, name+".yaml"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// skipped leads until the first start is skipped.
func skipped(t *testing.T, directory string, limits scheduler.Limits, beside bool, reason scheduler.Reason) {
	t.Helper()
	cluster := slowMesh{Unexpected: runnertest.Unexpected{T: t}, reads: make(chan time.Time, 1)}
	counted := skips{Metrics: metrics.New("test"), reasons: map[scheduler.Reason]int{}}
	server := replica(t, directory, cluster, func(c *Config) { c.Limits, c.Metrics = limits, counted })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		server.Lead(ctx)
	}()
	synctest.Wait()
	if beside {
		if _, err := server.StartNow("other", "test"); err != nil {
			t.Error(err)
		}
	}
	time.Sleep(16 * time.Minute)
	cancel()
	<-ended
	if diff := cmp.Diff(map[scheduler.Reason]int{reason: 1}, counted.reasons); diff != "" {
		t.Errorf("skipped (-want +got):\n%s", diff)
	}
}
