package envoy_test

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// plan is what squall plan prints about an experiment.
type plan struct {
	Decisions []struct {
		Waits  []wait  `json:"waits"`
		Closes closing `json:"closes"`
	} `json:"decisions"`
	Warnings []string `json:"warnings"`
}

// wait is how long a caller waits for what a blackhole drops.
type wait struct {
	Protocol string `json:"protocol"`
	Longest  string `json:"longest"`
	Attempts int    `json:"attempts"`
	Timeout  string `json:"timeout"`
}

// closing is the open connections that proxies close.
type closing struct {
	Ports []int  `json:"ports"`
	After string `json:"after"`
}

// planned returns the plan of an experiment.
func planned(t *testing.T, e experiment) plan {
	t.Helper()
	env, err := mesh.Env()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(mesh.Bin, "squall"), "plan", "-o", "json", e.write(t))
	var stderr strings.Builder
	cmd.Env, cmd.Stderr = env, &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, &stderr)
	}
	var p plan
	if err := json.Unmarshal(out, &p); err != nil {
		t.Fatal(err)
	}
	return p
}

// warns fails the test unless a warning of the plan has some words.
func (p plan) warns(t *testing.T, words string) {
	t.Helper()
	if !slices.ContainsFunc(p.Warnings, func(warning string) bool { return strings.Contains(warning, words) }) {
		t.Errorf("no warning that %q: %q", words, p.Warnings)
	}
}
