package runner_test

import (
	"strings"
	"testing"
	"time"

	"github.com/squall-chaos/squall/runner"
)

func TestNewRefusesAnIncompleteConfig(t *testing.T) {
	c := newCluster(t)
	complete := runner.Config{Cluster: c, Querier: healthy(c), Timing: runner.DefaultTiming()}
	if _, err := runner.New(complete); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*runner.Config){
		"no cluster":             func(c *runner.Config) { c.Cluster = nil },
		"no querier":             func(c *runner.Config) { c.Querier = nil },
		"timing is incomplete":   func(c *runner.Config) { c.Timing = runner.Timing{} },
		"the timing is":          func(c *runner.Config) { c.Timing.Rollback = 0 },
		"every 15s comes too la": func(c *runner.Config) { c.Timing.Beat = 15 * time.Second },
	} {
		config := complete
		change(&config)
		if _, err := runner.New(config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	if _, err := runner.NewPlanner(runner.PlannerConfig{Querier: healthy(c)}); err == nil || !strings.Contains(err.Error(), "no mesh") {
		t.Errorf("a planner without a mesh: error %v", err)
	}
}
