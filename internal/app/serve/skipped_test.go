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
)

// skips counts the starts that are skipped.
type skips struct {
	Metrics
	reasons map[string]int
}

func (s skips) Skipped(_, reason string) { s.reasons[reason]++ }

// What keeps an experiment from starting is what its metric says.
func TestWhyAStartIsSkipped(t *testing.T) {
	for name, test := range map[string]struct {
		limits Limits
		other  string // the host that a live run disturbs
		reason string
	}{
		"a protected host":  {limits: Limits{Protected: []string{"*.prod.svc.cluster.local"}}, reason: metrics.SkippedHost},
		"a large share":     {limits: Limits{MaxPercentage: 10}, reason: metrics.SkippedPercentage},
		"a long experiment": {limits: Limits{MaxDuration: time.Second}, reason: metrics.SkippedDuration},
		"the same host":     {other: "ratings.prod", reason: metrics.SkippedConcurrency},
		"many runs":         {limits: Limits{MaxConcurrent: 1}, other: "details.prod", reason: metrics.SkippedLimit},
		"the namespace":     {limits: Limits{MaxPerNamespace: 1}, other: "details.prod", reason: metrics.SkippedLimit},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			write(t, folder, "outage", everyTenMinutes)
			if test.other != "" {
				other := strings.NewReplacer("outage", "other", "ratings.prod", test.other, `schedule: {cron: "*/10 * * * *", startingDeadline: 5m}`, "").Replace(everyTenMinutes)
				write(t, folder, "other", other)
			}
			synctest.Test(t, func(t *testing.T) { skipped(t, folder, test.limits, test.other != "", test.reason) })
		})
	}
}

func write(t *testing.T, folder, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(folder, name+".yaml"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// skipped leads until the first start must have been skipped.
func skipped(t *testing.T, folder string, limits Limits, beside bool, reason string) {
	t.Helper()
	cluster := slowMesh{reads: make(chan time.Time, 1)}
	server := replica(t, folder, cluster)
	counted := skips{server.Metrics, map[string]int{}}
	server.Limits, server.Metrics = limits, counted
	server.entries["outage"] = server.compile(Loaded{server.entries["outage"].experiment, "outage.yaml"})
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
	if diff := cmp.Diff(map[string]int{reason: 1}, counted.reasons); diff != "" {
		t.Errorf("skipped (-want +got):\n%s", diff)
	}
}
