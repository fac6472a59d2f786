package torture_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/squall-chaos/squall/sandbox/internal/apiproxy"
)

// apiFault is something that goes wrong between a run and the API server.
type apiFault struct {
	name  string
	fault apiproxy.Fault
	// late reports whether the server may execute the call when the client does not
	// wait for it any more.
	late bool
}

// requestTimeout is how long squall waits for an answer.
const requestTimeout = 10 * time.Second

var apiFaults = []apiFault{
	{"409", apiproxy.Refuse(http.StatusConflict, metav1.StatusReasonConflict), false},
	{"409 exists", apiproxy.Refuse(http.StatusConflict, metav1.StatusReasonAlreadyExists), false},
	{"404", apiproxy.Refuse(http.StatusNotFound, metav1.StatusReasonNotFound), false},
	{"422", apiproxy.Refuse(http.StatusUnprocessableEntity, metav1.StatusReasonInvalid), false},
	{"429", apiproxy.Throttle(time.Second), false},
	{"500", apiproxy.Refuse(http.StatusInternalServerError, metav1.StatusReasonInternalError), false},
	{"reset", apiproxy.Reset, false},
	{"answer lost", apiproxy.Lose, false},
	{"answer halved", apiproxy.Halve, false},
	{"10 s late", apiproxy.Delay(requestTimeout), true},
	{"13 s late", apiproxy.Delay(requestTimeout + 3*time.Second), true},
	{"gone for 3 s", apiproxy.Pause(3 * time.Second), false},
	{"gone", apiproxy.Vanish, false},
	{"hung", apiproxy.Hang, false},
	{"connections frozen", apiproxy.Freeze, false},
}

// longest is how long a run may take at most. Its own stages are bounded by 10 s
// for a request and 30 s for the rollback; what comes on top is the run itself.
const longest = 2 * time.Minute

// If any call fails in any way, the run ends, reports the reason, and leaves nothing once
// the server is back.
func TestEveryCallToTheAPIServerFails(t *testing.T) {
	t.Parallel()
	table := newTable("run")
	var all []job
	for _, c := range failingCalls(t) {
		all = append(all, job{c.String(), func(ctx context.Context, s *slot) error { return c.fail(ctx, s, table) }})
	}
	inParallel(t, all)
	t.Logf("\n%s", table)
}

// failingCall is a call of a run, and what goes wrong with it.
type failingCall struct {
	kind kind
	call string
	apiFault
}

func (c failingCall) String() string { return fmt.Sprintf("%s, %s: %s", c.kind.name, c.call, c.name) }

// failingCalls lists every call with everything that may befall it, or a
// sample. Heartbeats and updates are only in longer runs.
func failingCalls(t *testing.T) []failingCall {
	t.Helper()
	known := references(t, short, timed)
	var all []failingCall
	calls := 0
	add := func(k kind, skip func(apiproxy.Call) bool) {
		for _, call := range known[k.name].calls {
			if skip(call) {
				continue
			}
			calls++
			for _, f := range apiFaults {
				// The client may assume that there is nothing to delete.
				if f.name == "404" && strings.HasPrefix(call.Name, "delete ") {
					continue
				}
				all = append(all, failingCall{k, call.String(), f})
			}
		}
	}
	add(short, func(apiproxy.Call) bool { return false })
	uncertain := uncertainBeats(known[timed.name].calls)
	add(timed, func(call apiproxy.Call) bool {
		return !strings.HasPrefix(call.Name, "patch ") || uncertain[call.String()]
	})
	t.Logf("%d calls, %d faults", calls, len(apiFaults))
	return chosen(all)
}

// uncertainBeats returns the last heartbeats of a run. How often it writes them depends
// on how long it takes, so another run may not have these calls.
func uncertainBeats(calls []apiproxy.Call) map[string]bool {
	beats, uncertain := 0, map[string]bool{}
	for _, call := range slices.Backward(calls) {
		if call.Name == "patch jobs" && beats < 2 {
			beats++
			uncertain[call.String()] = true
		}
	}
	return uncertain
}

// fail makes a run with one call that fails.
func (c failingCall) fail(ctx context.Context, s *slot, table *table) error {
	return notMissed(func() error { return c.failOnce(ctx, s, table) })
}

func (c failingCall) failOnce(ctx context.Context, s *slot, table *table) (err error) {
	q, err := newSquall(ctx, s, c.kind)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.close()) }()
	befallen := make(chan struct{}, 1)
	err = q.behind(apiproxy.Hooks{Before: func(call apiproxy.Call) apiproxy.Fault {
		if call.String() != c.call {
			return nil
		}
		befallen <- struct{}{}
		return c.fault
	}})
	if err != nil {
		return err
	}
	if err := q.start(); err != nil {
		return err
	}
	if err := errors.Join(q.wait(ctx, longest), q.named()); err != nil {
		return err
	}
	if len(befallen) == 0 {
		return fmt.Errorf("%w: no such call; exit code %d: %s", errMissed, q.code(), &q.stdout)
	}
	ended := q.ended
	// A run that says that it has cleaned up has done so, before the heartbeat
	// could. Only what was on its way may come later.
	if q.code() != 5 && !c.late {
		left, err := bed.left(ctx, s)
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("exit code %d, but left: %v: %s%s", q.code(), left, &q.stdout, &q.stderr)
		}
		if err != nil {
			return err
		}
	}
	q.closeProxies() // which waits for what is on its way
	err = bed.clean(ctx, s, deadline)
	table.add(c.name, fmt.Sprintf("exit code %d", q.code()), false, err != nil, ended.Sub(q.began))
	if err != nil {
		err = fmt.Errorf("%s after the end with exit code %d: %w: %s%s", deadline, q.code(), err, &q.stdout, &q.stderr)
	}
	return err
}
