package heartbeat_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner/event"
	"github.com/squall-chaos/squall/runner/heartbeat"
)

// suspended is a cluster in which heartbeats are not answered from a time on, as for a
// process that is suspended. The Job expires meanwhile.
type suspended struct {
	from, until time.Time
}

func (s suspended) Armed(context.Context, objects.Ref) (*unstructured.Unstructured, error) {
	return job(), nil
}

func (s suspended) Extend(_ context.Context, ref objects.Ref, deadline time.Duration, annotations map[string]string) (*unstructured.Unstructured, error) {
	if time.Now().Before(s.from) {
		return objects.Extended(job(), deadline, annotations), nil
	}
	time.Sleep(time.Until(s.until)) // whatever the context is
	return nil, fmt.Errorf("%s %w", ref, objects.ErrGone)
}

func (s suspended) Get(_ context.Context, ref objects.Ref) (*unstructured.Unstructured, error) {
	return nil, fmt.Errorf("%s %w", ref, objects.ErrGone)
}

func (s suspended) Watch(ctx context.Context, _ objects.Ref, _ func(*unstructured.Unstructured)) {
	<-ctx.Done()
}

func job() *unstructured.Unstructured {
	j := objects.Heartbeat("shop", objects.Run{ID: "a", Experiment: "a", Owner: "ann"}, 15*time.Second, objects.HeartbeatImage)
	j.SetUID("1")
	_ = unstructured.SetNestedField(j.Object, "2026-11-28T10:00:00Z", "status", "startTime") // a new field always fits
	return j
}

// noRecord records nothing.
type noRecord struct{}

func (noRecord) Record(time.Time, event.Event) error { return nil }

// A run does not complete when its last heartbeat is older than the deadline, and it
// says so when its objects are gone.
func TestASuspendedProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const deadline = 15 * time.Second
		ctx, end := context.WithCancelCause(t.Context())
		record := event.NewQueue(noRecord{})
		now := time.Now()
		h := heartbeat.New(ctx, heartbeat.Config{
			Cluster: suspended{from: now.Add(12 * time.Second), until: now.Add(42 * time.Second)},
			Record:  record, Interval: 5 * time.Second, Deadline: deadline, End: end,
		}, heartbeat.Phase{Name: event.PhaseObserve, Fault: heartbeat.Active, Rest: time.Minute})
		h.Start(objects.RefTo(job()), job(), deadline)
		h.Armed()
		for _, test := range []struct {
			at    time.Duration
			stale bool
		}{{9 * time.Second, false}, {24 * time.Second, false}, {26 * time.Second, true}} {
			time.Sleep(time.Until(now.Add(test.at)))
			if err := h.Check(); (err != nil) != test.stale {
				t.Errorf("after %s: %v", test.at, err)
			}
		}
		const want = "its last heartbeat was 32s ago: they have expired, because this process was suspended"
		time.Sleep(time.Until(now.Add(42*time.Second + time.Millisecond)))
		if cause := context.Cause(ctx); cause == nil || !strings.Contains(cause.Error(), want) {
			t.Errorf("ended with %v", cause)
		}
		if end := h.Ended(t.Context()); end == nil || !end.Outside || !strings.Contains(end.Error(), want) {
			t.Errorf("ended with %+v", end)
		}
		h.Stop()
		if err := record.Flush(); err != nil {
			t.Error(err)
		}
	})
}
