package torture_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/squall-chaos/squall/sandbox/internal/apiproxy"
)

// moment is a call during which something happens to a run: one to the API
// server, or one to Prometheus that comes after one to the API server.
type moment struct {
	phase, api, since string
	query             int32
	// over reports whether everything but the run's heartbeat is over by then.
	over bool
}

var moments = []moment{
	{phase: "preflight", api: "list virtualservices #1"},
	{phase: "preflight, dry run", api: "create virtualservices (dry run) #1"},
	{phase: "baseline", query: 2},
	{phase: "inject, heartbeat", api: "create jobs #1"},
	{phase: "inject, start of the heartbeat", api: "watch jobs #1"},
	{phase: "inject, fault", api: "create virtualservices #1"},
	{phase: "observe", since: "create virtualservices", query: 1},
	{phase: "rollback", api: "delete virtualservices #1"},
	{phase: "rollback, heartbeat", api: "delete jobs #1", over: true},
	{phase: "recover", since: "delete virtualservices", query: 1},
	{phase: "effect", since: "delete virtualservices", query: 2},
}

// at calls a function once, in the middle of the call.
func (m moment) at(q *squall, do func()) error {
	once := sync.OnceFunc(do)
	err := q.behind(apiproxy.Hooks{Before: func(call apiproxy.Call) apiproxy.Fault {
		if call.String() == m.api {
			once()
		}
		return nil
	}})
	if err != nil {
		return err
	}
	api := q.api
	var asked atomic.Int32
	return q.measuresBehind(apiproxy.Hooks{Before: func(apiproxy.Call) apiproxy.Fault {
		if m.query > 0 && (m.since == "" || hasCall(api, m.since)) && asked.Add(1) == m.query {
			once()
		}
		return nil
	}})
}

// interruption is a way to end a run.
type interruption struct {
	name string
	// prepare changes how the run is started, and returns the function that ends it.
	prepare func(*squall) (end func(), err error)
	// hard says that the run may end at once, without its rollback.
	hard bool
}

// interruptions lists them. Where SIGHUP is ignored, as under nohup, a run
// respects that.
func interruptions() []interruption {
	all := []interruption{
		{"SIGINT", bySignal(syscall.SIGINT), false},
		{"SIGTERM", bySignal(syscall.SIGTERM), false},
		{"closed terminal", onTerminal, false},
		{"SIGINT again and again", byManySignals, true},
	}
	if !signal.Ignored(syscall.SIGHUP) {
		all = append(all, interruption{"SIGHUP", bySignal(syscall.SIGHUP), false})
	}
	return all
}

func bySignal(signal os.Signal) func(*squall) (func(), error) {
	return func(q *squall) (func(), error) {
		return func() { q.signal(signal) }, nil
	}
}

// byManySignals lets nothing go on until the run has ended.
func byManySignals(q *squall) (func(), error) {
	return func() {
		waitUntil(context.Background(), time.Now().Add(patience), func() bool {
			q.signal(syscall.SIGINT)
			select {
			case <-q.done:
				return true
			default:
				return false
			}
		})
	}, nil
}

// onTerminal starts the run on a separate terminal, which is closed.
func onTerminal(q *squall) (func(), error) {
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	control, err := ours.SyscallConn()
	if err != nil {
		return nil, err
	}
	var number int
	var failed error
	err = control.Control(func(fd uintptr) {
		failed = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0)
		if failed == nil {
			number, failed = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	})
	if err := errors.Join(err, failed); err != nil {
		return nil, err
	}
	theirs, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	q.cmd.Stdin, q.cmd.Stdout, q.cmd.Stderr = theirs, theirs, theirs
	q.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	go func() {
		<-q.started
		_ = theirs.Close()              // the run has its own descriptor
		_, _ = io.Copy(&q.stderr, ours) // until it is closed
	}()
	return func() { _ = ours.Close() }, nil
}

// statusOf returns how a journal says that its run has ended.
func statusOf(journal string) (string, error) {
	content, err := os.ReadFile(journal)
	if err != nil {
		return "", err
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	var last struct {
		Type string
		Data struct{ Status string }
	}
	err = json.Unmarshal([]byte(lines[len(lines)-1]), &last)
	if err == nil && last.Type != "finished" {
		err = fmt.Errorf("the journal ends with %s", last.Type)
	}
	return last.Data.Status, err
}

// A run that is ended at any time and in any way rolls back and is interrupted. If it
// does not have the time, the heartbeat removes the fault.
func TestInterruptedRuns(t *testing.T) {
	t.Parallel()
	table := newTable("from the signal to the end")
	var all []job
	for _, m := range moments {
		for _, i := range interruptions() {
			all = append(all, job{i.name + " in " + m.phase, func(ctx context.Context, s *slot) error {
				return notMissed(func() error { return i.hit(ctx, s, m, table) })
			}})
		}
	}
	inParallel(t, all)
	t.Logf("\n%s", table)
}

// hit makes a run that is interrupted.
func (i interruption) hit(ctx context.Context, s *slot, m moment, table *table) (err error) {
	q, err := newSquall(ctx, s, measured)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.close()) }()
	end, err := i.prepare(q)
	if err != nil {
		return err
	}
	var hit time.Time
	err = q.run(ctx, func(q *squall) error {
		return m.at(q, func() { hit = time.Now(); end() })
	})
	if err != nil {
		return err
	}
	q.closeProxies()
	if hit.IsZero() {
		return fmt.Errorf("%w: the run did not come by; exit code %d: %s%s", errMissed, q.code(), &q.stdout, &q.stderr)
	}
	table.add(i.name, m.phase, q.killed(), false, q.ended.Sub(hit))
	if i.hard && (q.killed() || q.code() == 5) { // the second signal ends it
		return bed.clean(ctx, s, deadline)
	}
	journal, err := journalIn(q.out())
	if err != nil {
		return err
	}
	status, err := statusOf(journal)
	if err == nil && status == "stopped" && q.code() == 3 { // the probe always holds
		return fmt.Errorf("%w: Prometheus did not answer before the interruption: %s", errMissed, &q.stdout) // a busy machine
	}
	over := m.over && q.code() == 3 && status == "completed" // the fault hits nothing here
	if err == nil && !over && (q.code() != 4 || status != "interrupted") {
		err = fmt.Errorf("exit code %d, %s", q.code(), status)
	}
	if err == nil && !over && i.name != "closed terminal" && !strings.HasPrefix(q.stdout.String(), "torture: inconclusive (interrupted)\n") {
		err = errors.New("no summary")
	}
	if err != nil {
		return fmt.Errorf("%w: %s%s", err, &q.stdout, &q.stderr)
	}
	return eventually(ctx, 2*time.Second, func() error { return bed.dirt(ctx, s) }) // istiod receives the change a moment later
}
