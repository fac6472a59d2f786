package envoy_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// keepOpen opens a connection to the TCP service, exchanges a line each second,
// and prints after how many seconds it was closed; 0 if it was not within $0 seconds. It
// opens another one if the first line is not answered.
const keepOpen = `trap '' PIPE
until exec 3<>/dev/tcp/ledger.prod/7070 && echo x >&3 && read -t 30 -u 3; do sleep 0.1; done
SECONDS=0
while [ $SECONDS -lt $0 ]; do
  echo x >&3 && read -t 30 -u 3 || { echo $SECONDS; exit; }
  sleep 1
done
echo 0`

// kept keeps a connection open from a pod for some seconds. It returns after how many it
// was closed; 0 if it was not.
func kept(t *testing.T, pod string, seconds int) <-chan int {
	closed := make(chan int, 1)
	go func() {
		out, err := mesh.Exec(context.WithoutCancel(t.Context()), pod, "bash", "-c", keepOpen, strconv.Itoa(seconds))
		at, parseErr := strconv.Atoi(strings.TrimSpace(out))
		if err != nil || parseErr != nil {
			t.Errorf("%s keeps a connection: %v: %q", pod, err, out)
		}
		closed <- at
	}()
	return closed
}

// A blackhole of TCP replaces the listener's filter chain. Envoy closes the
// connections of the old one after the drain time, 45 s: all of the callers, and
// none of the others. The rollback replaces the chain again, and the run waits until the
// connections that were opened during the fault are closed.
func TestOpenConnections(t *testing.T) {
	t.Parallel()
	e := experiment{target: ledgerTarget, callers: others, faults: "[{blackhole: {mode: reject}, percentage: 1}]", duration: "10s"}
	if diff := cmp.Diff(closing{Ports: []int{7070}, After: "45s"}, planned(t, e).Decisions[0].Closes); diff != "" {
		t.Errorf("the open connections in the plan: %s", diff)
	}
	reserve(t, ledgerTarget)
	before, bystanders := kept(t, other, 180), kept(t, productpage, 75)
	s := start(t, e)
	eventually(t, func() error {
		if !strings.Contains(s.stdout.String()+s.stderr.String(), "the fault is active") {
			return errors.New("the fault is not active")
		}
		return nil
	})
	during := kept(t, other, 180)
	begun := time.Now()
	s.exits(0)
	t.Logf("the run has ended %.0f s after its fault began", time.Since(begun).Seconds())
	for _, line := range []string{
		"all open TCP and TLS connections of the callers to port 7070 are closed 45s after the fault starts, and again 45s after it ends",
		"the TCP and TLS connections that were open at the rollback were closed 45s after it",
	} {
		if !strings.Contains(s.stdout.String(), line) {
			t.Errorf("no %q in:\n%s", line, s.stdout.String())
		}
	}
	for when, closed := range map[string]<-chan int{"before the fault": before, "during the fault": during} {
		at := <-closed
		if at < 40 {
			t.Errorf("a connection of the callers that was opened %s is closed after %d s", when, at)
		}
		t.Logf("the connection of the callers that was opened %s is closed after %d s", when, at)
	}
	if at := <-bystanders; at != 0 {
		t.Errorf("a connection of other callers is closed after %d s", at)
	}
}

const ledgerTarget = "{host: ledger.prod.svc.cluster.local}"

// connect opens a connection to the TCP service and prints what becomes of a line.
const connect = `trap '' PIPE
exec 3<>/dev/tcp/ledger.prod/7070 || exit 1
echo x >&3
if read -t 3 -u 3; then echo answered; elif [ $? -gt 128 ]; then echo waits; else echo closed; fi`

// The proxy of a caller accepts a connection that a blackhole takes. A reject closes it
// at once, and a drop lets it wait.
func TestConnections(t *testing.T) { //nolint:tparallel // its runs are for one host
	t.Parallel()
	becomes := func(pod, want string) error {
		out, err := mesh.Exec(t.Context(), pod, "bash", "-c", connect)
		if got := strings.TrimSpace(out); err == nil && got != want {
			err = fmt.Errorf("a connection of %s is %s instead of %s", pod, got, want)
		}
		return err
	}
	for mode, want := range map[string]string{"reject": "closed", "drop": "waits"} {
		t.Run(mode, func(t *testing.T) {
			reserve(t, ledgerTarget)
			answered := func(pod string) { eventually(t, func() error { return becomes(pod, "answered") }) }
			answered(other)
			s := start(t, experiment{target: ledgerTarget, callers: others, faults: "[{blackhole: {mode: " + mode + "}}]"})
			eventually(t, func() error { return becomes(other, want) })
			answered(productpage)
			s.ends()
			answered(other)
			if out := s.stdout.String(); !strings.Contains(out, "are closed 45s after it, and the run has not waited for that") {
				t.Errorf("stdout %q", out)
			}
		})
	}
}
