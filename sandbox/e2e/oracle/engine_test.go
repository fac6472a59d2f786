package oracle_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/squall-chaos/squall/sandbox/internal/testbed"
)

// This file alone knows the engine under test: squall plan.

// planner is squall, and the environment that points it at the sandbox.
type planner struct {
	program string
	env     []string
}

func newPlanner(sandbox *testbed.Sandbox) (planner, error) {
	env, err := sandbox.Env()
	return planner{filepath.Join(sandbox.Bin, "squall"), env}, err
}

// refusedCode is squall's exit code when a plan refuses.
const refusedCode = 3

// plan is what the engine would do.
type plan struct {
	Experiment string     `json:"experiment"`
	Decisions  []decision `json:"decisions"`
	Objects    []object   `json:"objects"`
}

// decision is what the engine would do for the callers of one namespace.
type decision struct {
	Callers string `json:"callers"`
	// InForce is namespace/name of the effective VirtualService, or empty.
	InForce   string `json:"inForce"`
	Placement string `json:"placement"`
	Reason    string `json:"reason"`
	Cause     string `json:"cause"`
}

func (d decision) refused() bool { return d.Placement == "refused" }

// plan plans experiments against the mesh as it is now.
func (p planner) plan(ctx context.Context, all []m) ([]plan, error) {
	var documents, stdout, stderr bytes.Buffer
	for _, e := range all {
		if err := json.NewEncoder(&documents).Encode(e); err != nil {
			return nil, err
		}
		documents.WriteString("---\n") // JSON is YAML
	}
	program := exec.CommandContext(ctx, p.program, "plan", "-o", "json", "-")
	program.Env = p.env
	program.Stdin, program.Stdout, program.Stderr = &documents, &stdout, &stderr
	if err := program.Run(); err != nil && program.ProcessState.ExitCode() != refusedCode {
		return nil, fmt.Errorf("%w: %s", err, &stderr)
	}
	var plans []plan
	for decoder := json.NewDecoder(&stdout); ; {
		var next plan
		if err := decoder.Decode(&next); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		plans = append(plans, next)
	}
	if len(plans) != len(all) {
		return nil, fmt.Errorf("%d plans for %d experiments", len(plans), len(all))
	}
	return plans, nil
}

// isClone reports whether an Envoy route was generated from a clone: a route that the
// experiment added to the effective ones. istiod appends the name of a match after a
// dot.
func isClone(e experiment, route m, before []m) bool {
	name := text(route["name"])
	rest, ok := strings.CutPrefix(name, "squall-"+e.name)
	return ok && cloneSuffix.MatchString(rest) && !slices.ContainsFunc(before, func(b m) bool { return b["name"] == name })
}

var cloneSuffix = regexp.MustCompile(`^(-\d+)?(\.|$)`)

// category is a kind of refusal, by its cause, and what must be true of
// istiod's routes for it to be right.
type category struct {
	cause   string
	justify justification
}

// categories are all refusals that the scenarios may meet; any other fails the
// test.
var categories = []category{
	{"private-base", wouldNotTakeEffect},
	{"no-placement", isIgnored},
	{"routes-for-some", missesSomeProxies},
	{"different-routes", origins},
	{"not-imported", unreachable},
	{"not-visible", unreachable},
	{"nothing-to-carry", reachesNoForwardingRoute},
	{"existing-fault", carriesFault},
	{"other-revision", nobodyGetsItsRoutes},
	{"no-such-port", unreachable},
	{"wildcard-for-others", unproven},
	{"inexpressible", unproven},
}
