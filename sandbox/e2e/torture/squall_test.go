package torture_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/squall-chaos/squall/sandbox/internal/apiproxy"
	"github.com/squall-chaos/squall/sandbox/internal/layout"
	"github.com/squall-chaos/squall/sandbox/internal/testbed"
)

// kind is a kind of experiment.
type kind struct {
	name, faults     string
	callers          int
	duration, before string
	interval, more   string
	counted          bool // the requests hit
}

// The experiments that are killed last long enough for a heartbeat.
var (
	abort     = kind{name: "abort", faults: "[{abort: {httpStatus: 503}, percentage: 100}]", callers: 1, duration: "6s", before: "1s", interval: "1s"}
	blackhole = kind{name: "blackhole", faults: "[{blackhole: {mode: reject}}]", callers: 1, duration: "6s", before: "1s", interval: "1s"}
	two       = kind{name: "two namespaces", faults: abort.faults, callers: 2, duration: "6s", before: "1s", interval: "1s"}
	timed     = kind{
		name: "with times", callers: 1, duration: "6s", before: "1s", interval: "1s",
		faults: "[{abort: {httpStatus: 503}, percentage: 100, startAfter: 1s, duration: 3s}, {delay: {fixedDelay: 100ms}, percentage: 100, duration: 2s}]",
	}
	kinds = []kind{abort, blackhole, two, timed}
	// short has one of each call that a run without a heartbeat makes.
	short = kind{name: "short", faults: blackhole.faults, callers: 1, duration: "1s", before: "200ms", interval: "200ms"}
)

// write writes the experiment for a slot.
func (k kind) write(folder string, s *slot) (string, error) {
	callers := fmt.Sprintf("{namespace: %s}", strings.Join(s.callers[:k.callers], "}, {namespace: "))
	more := k.more
	if more == "" {
		more = "effect: {minRequests: 0}"
	}
	file := filepath.Join(folder, "experiment.yaml")
	return file, os.WriteFile(file, fmt.Appendf(nil, `apiVersion: squall.dev/v1alpha1
kind: Experiment
metadata: {name: torture}
spec:
  target: {host: %s}
  callers: [%s]
  faults: %s
  duration: %s
  recovery: {within: 3s}
  steadyState:
    interval: %s
    before: %s
    probes: [{name: always, query: vector(1), min: 1}]
  %s
`, s.host, callers, k.faults, k.duration, k.interval, k.before, more), 0o600)
}

// squall is a run of the binary, in a separate directory.
type squall struct {
	slot           *slot
	kind           kind
	folder         string
	cmd            *exec.Cmd
	stdout, stderr testbed.Output
	counters       *httptest.Server // nil if nothing is counted
	api            *apiproxy.Proxy  // nil when it talks to the API server itself
	prometheus     *apiproxy.Proxy  // nil when it talks to Prometheus itself
	began, ended   time.Time
	started, done  chan struct{}
}

// newSquall prepares a run of an experiment in a slot. Close ends it.
func newSquall(ctx context.Context, s *slot, k kind) (*squall, error) {
	folder, err := os.MkdirTemp("", "squall-torture-")
	if err != nil {
		return nil, err
	}
	file, err := k.write(folder, s)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(folder))
	}
	q := &squall{slot: s, kind: k, folder: folder, started: make(chan struct{}), done: make(chan struct{})}
	q.cmd = exec.CommandContext(context.WithoutCancel(ctx), bed.squallBinary(), "run", file, "--out", q.out(), "--kubeconfig", layout.Dir(bed.sandbox.Dir).Kubeconfig())
	q.cmd.Env, q.cmd.Dir, q.cmd.Stdout, q.cmd.Stderr = bed.env, folder, &q.stdout, &q.stderr
	if k.counted {
		q.counters = counters(s)
		q.cmd.Args = append(q.cmd.Args, "--prometheus", q.counters.URL)
	}
	return q, os.Mkdir(q.out(), 0o750)
}

func (w *world) squallBinary() string { return filepath.Join(w.sandbox.Bin, "squall") }

// out is the directory of the journals.
func (q *squall) out() string { return filepath.Join(q.folder, "runs") }

// behind puts a proxy between the run and the API server.
func (q *squall) behind(hooks apiproxy.Hooks) error {
	proxy, kubeconfig, err := apiproxy.ForAPIServer(layout.Dir(bed.sandbox.Dir).Kubeconfig(), q.folder, hooks)
	q.api = proxy
	q.cmd.Args = append(q.cmd.Args, "--kubeconfig", kubeconfig)
	return err
}

// measuresBehind puts a proxy between the run and Prometheus.
func (q *squall) measuresBehind(hooks apiproxy.Hooks) error {
	upstream := "http://" + layout.Prometheus
	if q.counters != nil {
		upstream = q.counters.URL
	}
	proxy, err := apiproxy.ForHTTP(upstream, hooks)
	q.prometheus = proxy
	q.cmd.Args = append(q.cmd.Args, "--prometheus", proxy.URL())
	return err
}

// start starts the run.
func (q *squall) start() error {
	q.began = time.Now()
	if err := q.cmd.Start(); err != nil {
		return err
	}
	close(q.started)
	go func() {
		_ = q.cmd.Wait() // how it ended is read from the state
		q.ended = time.Now()
		close(q.done)
	}()
	return nil
}

// run makes the whole run, with something of a test's around it.
func (q *squall) run(ctx context.Context, set func(*squall) error) error {
	if err := set(q); err != nil {
		return err
	}
	if err := q.start(); err != nil {
		return err
	}
	return q.wait(ctx, patience)
}

// kill kills the run, and returns when it is dead.
func (q *squall) kill() {
	<-q.started
	_ = q.cmd.Process.Kill() // fails when it has ended by itself
	<-q.done
}

// signal sends a signal to the run, which may have ended.
func (q *squall) signal(signal os.Signal) {
	<-q.started
	_ = q.cmd.Process.Signal(signal)
}

// close ends the run, if it has not ended, and all that was made for it. It
// returns when nothing of it can reach the API server any more.
func (q *squall) close() error {
	if q.counters != nil {
		defer q.counters.Close()
	}
	if q.cmd.Process != nil {
		q.kill()
	}
	q.closeProxies()
	return os.RemoveAll(q.folder)
}

func (q *squall) closeProxies() {
	for _, proxy := range []*apiproxy.Proxy{q.api, q.prometheus} {
		if proxy != nil {
			proxy.Close()
		}
	}
	q.api, q.prometheus = nil, nil
}

// killed reports whether the run, which has ended, was ended by a signal.
func (q *squall) killed() bool {
	status, ok := q.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled()
}

// code is the exit code of a run that has ended.
func (q *squall) code() int { return q.cmd.ProcessState.ExitCode() }

// wait waits for the end of the run.
func (q *squall) wait(ctx context.Context, within time.Duration) error {
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-q.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return fmt.Errorf("squall has not ended after %s; stderr: %s", within, &q.stderr)
	}
}

// summary matches the summary of a run: on stdout, or on stderr if it could not be
// recorded.
var summary = regexp.MustCompile(`(?m)^torture: (held|deviated|inconclusive)( \((refused|stopped|interrupted|failed)\))?(, objects left behind)?$|^squall: torture: refused: `)

// named checks that the run has ended in one of the ways that are documented,
// and has said which.
func (q *squall) named() error {
	said := q.stdout.String() + q.stderr.String()
	switch {
	case q.code() < 0 || q.code() > 5 || q.code() == 2:
		return fmt.Errorf("exit code %d: %s", q.code(), said)
	case !summary.MatchString(said):
		return fmt.Errorf("exit code %d without a summary: %s", q.code(), said)
	case q.code() != 5 && strings.Contains(said, "objects left behind"):
		return fmt.Errorf("exit code %d though something is left: %s", q.code(), said)
	case strings.Contains(said, "goroutine "):
		return fmt.Errorf("a crash: %s", said)
	}
	return nil
}
