package torture_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/squall-chaos/squall/sandbox/internal/apiproxy"
)

// measured is a run that asks Prometheus in every phase.
var measured = kind{name: "measured", faults: abort.faults, callers: 1, duration: "1s", before: "200ms", interval: "200ms", more: "effect: {minRequests: 1}", counted: true}

// prometheusPhase is a phase of a run, and the text of the summary when Prometheus fails in it.
type prometheusPhase struct {
	name string
	// touched reports whether the fault was active by then.
	touched bool
	want    string
}

// prometheusPhases are the phases from which on Prometheus fails.
var prometheusPhases = []prometheusPhase{
	{name: "preflight", touched: false, want: "(refused)"},
	{name: "baseline", touched: false, want: "(refused)"},
	{name: "observe", touched: true, want: "torture: inconclusive"},
	{name: "recover", touched: true, want: "torture: inconclusive"},
	{name: "clean", touched: true, want: "it was not observed that the proxies are clean: "},
}

var prometheusFaults = map[string]apiproxy.Fault{
	"hangs":       apiproxy.Hang,
	"answers 503": apiproxy.Refuse(http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable),
	"resets":      apiproxy.Reset,
	"halves":      apiproxy.Halve,
	"is gone":     apiproxy.Vanish,
}

// A run that cannot see is never a success: it is refused, or ended and rolled
// back, and inconclusive.
func TestPrometheusFails(t *testing.T) {
	t.Parallel()
	table := newTable("run")
	var all []job
	for _, phase := range prometheusPhases {
		for name, fault := range prometheusFaults {
			all = append(all, job{fmt.Sprintf("Prometheus %s from %s on", name, phase.name), func(ctx context.Context, s *slot) error {
				return notMissed(func() error { return phase.fail(ctx, s, table, name, fault) })
			}})
		}
	}
	inParallel(t, all)
	t.Logf("\n%s", table)
}

// fail makes a run whose Prometheus fails from the phase on.
func (phase prometheusPhase) fail(ctx context.Context, s *slot, table *table, name string, fault apiproxy.Fault) (err error) {
	q, err := newSquall(ctx, s, measured)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.close()) }()
	if err := q.behind(apiproxy.Hooks{}); err != nil {
		return err
	}
	api := q.api
	err = q.run(ctx, func(q *squall) error {
		return q.measuresBehind(apiproxy.Hooks{Before: func(apiproxy.Call) apiproxy.Fault {
			if phase.name != "preflight" && !q.reached(phase.name) {
				return nil
			}
			return fault
		}})
	})
	if err = errors.Join(err, q.named()); err != nil {
		return err
	}
	if phase.touched && !hasCall(api, "create virtualservices") {
		return fmt.Errorf("%w: the run was refused: %s", errMissed, &q.stdout) // a busy machine
	}
	if q.code() != 3 || !strings.Contains(q.stdout.String(), phase.want) || hasCall(api, "create virtualservices") != phase.touched {
		return fmt.Errorf("exit code %d: %s%s", q.code(), &q.stdout, &q.stderr)
	}
	table.add(phase.name, name, false, false, q.ended.Sub(q.began))
	return bed.dirt(ctx, s)
}

// reached reports whether the run has begun a phase. It writes so before it does
// anything else in it.
func (q *squall) reached(phase string) bool {
	journal, err := journalIn(q.out())
	if err != nil {
		return false
	}
	content, err := os.ReadFile(journal)
	return err == nil && bytes.Contains(content, fmt.Appendf(nil, `"type":"phase","data":{"name":%q`, phase))
}

func hasCall(proxy *apiproxy.Proxy, name string) bool {
	return slices.ContainsFunc(proxy.Calls(), func(c apiproxy.Call) bool { return c.Name == name })
}
