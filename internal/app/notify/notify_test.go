package notify

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// script has the results of attempts, and fails the test on an additional one.
type script struct {
	t       *testing.T
	answers []func(context.Context) error
	times   []time.Duration
	told    []string
	began   time.Time
}

func (s *script) send(ctx context.Context, m *message) error {
	s.times = append(s.times, time.Since(s.began).Truncate(time.Second))
	s.told = append(s.told, m.Run)
	if len(s.answers) == 0 {
		s.t.Errorf("nobody expected an attempt to send %s", m.Run)
		return nil
	}
	answer := s.answers[0]
	s.answers = s.answers[1:]
	return answer(ctx)
}

func fine(context.Context) error { return nil }

func hangs(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func fails(err error) func(context.Context) error {
	return func(context.Context) error { return err }
}

// failures records the calls of failed.
type failures struct {
	mu    sync.Mutex
	lines []string
}

func (f *failures) add(target string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lines = append(f.lines, target+": "+err.Error())
}

func (f *failures) all() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.lines...)
}

func scripted(t *testing.T, told *failures, answers ...func(context.Context) error) (*Notifier, *script) {
	t.Helper()
	s := &script{t: t, answers: answers, began: time.Now()}
	n := &Notifier{client: newClient()}
	n.add("chat", s, told.add)
	n.start()
	return n, s
}

func TestAttempts(t *testing.T) {
	const lost = `chat: "started" of run r1 was not delivered: `
	limited := status(429)
	limited.retryAfter = 40 * time.Second
	shut := status(503)
	shut.retryAfter = time.Hour
	for _, test := range []struct {
		name    string
		answers []func(context.Context) error
		// times are in whole seconds; jitter makes the pauses up to half longer.
		earliest, latest []time.Duration
		want             []string
	}{
		{name: "at once", answers: []func(context.Context) error{fine}, earliest: []time.Duration{0}, latest: []time.Duration{0}},
		{
			name: "at the third", answers: []func(context.Context) error{fails(status(500)), fails(errors.New("dial: connection refused")), fine},
			earliest: []time.Duration{0, 1 * time.Second, 5 * time.Second}, latest: []time.Duration{0, 2 * time.Second, 8 * time.Second},
		},
		{
			name: "never", answers: []func(context.Context) error{fails(status(500)), fails(status(502)), fails(status(503))},
			earliest: []time.Duration{0, 1 * time.Second, 5 * time.Second}, latest: []time.Duration{0, 2 * time.Second, 8 * time.Second},
			want: []string{lost + "it answered 503 Service Unavailable"},
		},
		{
			name: "refused for good", answers: []func(context.Context) error{fails(status(404))},
			earliest: []time.Duration{0}, latest: []time.Duration{0}, want: []string{lost + "it answered 404 Not Found"},
		},
		{
			name: "hangs", answers: []func(context.Context) error{hangs, hangs, hangs},
			earliest: []time.Duration{0, 11 * time.Second, 25 * time.Second}, latest: []time.Duration{0, 12 * time.Second, 28 * time.Second},
			want: []string{lost + "no answer within 10s"},
		},
		{
			name: "asks to wait", answers: []func(context.Context) error{fails(limited), fine},
			earliest: []time.Duration{0, 40 * time.Second}, latest: []time.Duration{0, 40 * time.Second},
		},
		{
			name: "asks to wait for too long", answers: []func(context.Context) error{fails(shut)},
			earliest: []time.Duration{0}, latest: []time.Duration{0}, want: []string{lost + "it answered 503 Service Unavailable"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var told failures
				n, s := scripted(t, &told, test.answers...)
				n.Notify(Event{Kind: Started, Run: "r1"})
				n.Close(t.Context())
				if diff := cmp.Diff(test.want, told.all()); diff != "" {
					t.Errorf("failures (-want +got):\n%s", diff)
				}
				if len(s.answers) > 0 {
					t.Errorf("%d attempts were not made", len(s.answers))
				}
				for i, at := range s.times {
					if at < test.earliest[i] || at > test.latest[i] {
						t.Errorf("attempt %d was at %s, want %s to %s", i+1, at, test.earliest[i], test.latest[i])
					}
				}
			})
		})
	}
}

// If a target asks to wait for an hour, messages of other runs are not sent either.
func TestRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told failures
		limited := status(429)
		limited.retryAfter = time.Hour
		n, s := scripted(t, &told, fails(limited), fine)
		n.Notify(Event{Kind: Started, Run: "r1"})
		n.Notify(Event{Kind: Started, Run: "r2"})
		synctest.Wait()
		time.Sleep(time.Hour)
		n.Notify(Event{Kind: Started, Run: "r3"})
		n.Close(t.Context())
		want := []string{
			`chat: "started" of run r1 was not delivered: it answered 429 Too Many Requests`,
			`chat: "started" of run r2 was not delivered: it asked to wait for another 1h0m0s`,
		}
		if diff := cmp.Diff(want, told.all()); diff != "" {
			t.Errorf("failures (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"r1", "r3"}, s.told); diff != "" {
			t.Errorf("attempts (-want +got):\n%s", diff)
		}
	})
}

func TestDropsTheOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const extra = 3
		var (
			told    failures
			answers = []func(context.Context) error{hangs}
			want    []string
		)
		for range queued + 1 {
			answers = append(answers, fine)
		}
		n, s := scripted(t, &told, answers...)
		n.Notify(Event{Kind: Started, Run: "first"})
		synctest.Wait() // it is being sent
		for i := range queued + extra {
			n.Notify(Event{Kind: Started, Run: fmt.Sprint(i)})
		}
		for i := range extra {
			want = append(want, fmt.Sprintf(`chat: "started" of run %d was not delivered: %s`, i, errDropped))
		}
		if diff := cmp.Diff(want, told.all()); diff != "" {
			t.Errorf("failures (-want +got):\n%s", diff)
		}
		n.Close(t.Context())
		if got, want := s.told[len(s.told)-1], fmt.Sprint(queued+extra-1); got != want || len(s.answers) > 0 {
			t.Errorf("the last was %s, with %d answers left; want %s and none", got, len(s.answers), want)
		}
	})
}

func TestOneTargetDoesNotHoldUpAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told failures
		slow := &script{t: t, answers: []func(context.Context) error{hangs}}
		fast := &script{t: t, answers: []func(context.Context) error{fine, fine}}
		n := &Notifier{client: newClient()}
		n.add("slow", slow, told.add)
		n.add("fast", fast, told.add)
		n.start()
		n.Notify(Event{Kind: Started, Run: "r1"})
		n.Notify(Event{Kind: Finished, Run: "r1"})
		synctest.Wait()
		if diff := cmp.Diff([]string{"r1", "r1"}, fast.told); diff != "" {
			t.Errorf("the fast target was told (-want +got):\n%s", diff)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		n.Close(ctx)
		n.Close(ctx)
		n.Notify(Event{Kind: Started, Run: "late"})
		want := []string{
			`slow: "started" of run r1 was not delivered: ` + errEnded.Error(),
			`slow: "finished" of run r1 was not delivered: ` + errEnded.Error(),
			`slow: "started" of run late was not delivered: ` + errEnded.Error(),
			`fast: "started" of run late was not delivered: ` + errEnded.Error(),
		}
		if diff := cmp.Diff(want, told.all()); diff != "" {
			t.Errorf("failures (-want +got):\n%s", diff)
		}
	})
}

func TestText(t *testing.T) {
	from := time.Date(2026, 11, 22, 19, 31, 48, 0, time.UTC)
	event := Event{
		Run: "20261122-ratings", Experiment: "ratings-outage", Title: "The page survives", Host: "ratings.prod.svc.cluster.local",
		Callers: []string{"shop/reviews", "web"},
	}
	for _, test := range []struct {
		name   string
		change func(*Event)
		want   string
	}{
		{"started", func(e *Event) { e.Kind = Started }, `
squall: ratings-outage started: it disturbs calls from shop/reviews, web to ratings.prod.svc.cluster.local
expected: The page survives
to stop it: squall rollback 20261122-ratings`},
		{"stopped", func(e *Event) { e.Kind, e.Reason = Stopped, "0.2 is\n below 0.99 @here <!channel>" }, `
squall: ratings-outage stops early: it disturbed calls from shop/reviews, web to ratings.prod.svc.cluster.local
reason: 0.2 is below 0.99 @ here < !channel>
if anything is left: squall rollback 20261122-ratings`},
		{"held", func(e *Event) {
			e.Kind, e.Verdict, e.Status, e.From, e.To, e.ReportURL = Finished, "held", "completed", from, from.Add(time.Minute), "https://squall/runs/1/report.html"
		}, `
squall: ratings-outage finished, held: it disturbed calls from shop/reviews, web to ratings.prod.svc.cluster.local from 2026-11-22 19:31:48 to 19:32:48 UTC
report: https://squall/runs/1/report.html`},
		{"failed over midnight", func(e *Event) {
			e.Kind, e.Verdict, e.Status, e.From, e.To, e.Callers = Finished, "inconclusive", "failed", from, from.Add(12*time.Hour), nil
		}, `
squall: ratings-outage finished, inconclusive (failed): it disturbed calls to ratings.prod.svc.cluster.local from 2026-11-22 19:31:48 to 2026-11-23 07:31:48 UTC
if anything is left: squall rollback 20261122-ratings`},
		{"refused", func(e *Event) {
			e.Kind, e.Verdict, e.Status, e.Reason = Finished, "inconclusive", "refused", strings.Repeat("x", maxLine+1)
		}, `
squall: ratings-outage finished, inconclusive (refused): no fault was injected in calls from shop/reviews, web to ratings.prod.svc.cluster.local
reason: ` + strings.Repeat("x", maxLine) + "..."},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := event
			test.change(&e)
			m := &message{Event: e}
			if diff := cmp.Diff(strings.TrimPrefix(test.want, "\n"), m.text()); diff != "" {
				t.Errorf("text (-want +got):\n%s", diff)
			}
		})
	}
}
