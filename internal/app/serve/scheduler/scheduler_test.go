package scheduler

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/mesh"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// entries returns one experiment for each of the changes, which is named by its
// letter: a, b and so on.
func entries(t *testing.T, limits Limits, changes ...[]string) map[string]*Entry {
	t.Helper()
	all := map[string]*Entry{}
	for i, change := range changes {
		name := string(rune('a' + i))
		e := experiments.Experiment{Metadata: experiments.Metadata{Name: name}, Spec: spec(t, change...)}
		all[name] = NewEntry(e, name+".yaml", limits)
	}
	return all
}

// leading returns a scheduler that leads since noon.
func leading(t *testing.T, limits Limits, changes ...[]string) *Scheduler {
	t.Helper()
	s := New(limits)
	s.Set(entries(t, limits, changes...), noon)
	if begun := s.Lead(nil, noon); len(begun) != len(changes) {
		t.Fatalf("begun: %v", begun)
	}
	return s
}

// describe returns decisions as text, and the slots of their starts.
func describe(decisions []Decision) (text string, slots []*Slot) {
	var lines []string
	for _, decision := range decisions {
		switch d := decision.(type) {
		case Start:
			lines = append(lines, fmt.Sprintf("start %s of %s %v", d.Experiment.Metadata.Name, d.Nominal.Format("15:04"), d.Overtaken))
			slots = append(slots, d.Slot)
		case Skip:
			lines = append(lines, fmt.Sprintf("skip %s of %s for %s: %v %v", d.Experiment, d.Nominal.Format("15:04"), ReasonOf(d.Why), d.Why, d.Overtaken))
		case Wait:
			lines = append(lines, fmt.Sprintf("wait %s for %s: %v, replaces %t", d.Experiment, ReasonOf(d.Why), d.Why, d.Replaces))
		}
	}
	return strings.Join(lines, "\n"), slots
}

// checkDue compares what is due a time after noon.
func (s *Scheduler) checkDue(t *testing.T, after time.Duration, want string) (slots []*Slot) {
	t.Helper()
	decisions, _ := s.Due(noon.Add(after))
	got, slots := describe(decisions)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s after noon (-want +got):\n%s", after, diff)
	}
	return slots
}

// Of two starts at the same time the first takes the host, and the other waits
// until it is released, and counts the starts that it overtakes.
func TestDueWaitsForAHost(t *testing.T) {
	patient := []string{`"* * * * *"`, `"* * * * *", startingDeadline: 10m`}
	s := leading(t, Limits{}, patient, patient)
	s.checkDue(t, 30*time.Second, "")
	slots := s.checkDue(t, time.Minute, "start a of 12:01 {0 deadline}\nwait b for concurrency: another run disturbs ratings.prod.svc.cluster.local, replaces false")
	if got := s.Statuses(noon.Add(time.Minute))[1].Waiting; got != "another run disturbs ratings.prod.svc.cluster.local" {
		t.Errorf("waiting: %q", got)
	}
	s.Release(slots[0])
	s.StandDown()
	s.checkDue(t, 2*time.Minute, "")
	s.Lead(map[string]time.Time{"a": noon.Add(3 * time.Minute), "b": noon}, noon)
	s.checkDue(t, 3*time.Minute, "start b of 12:03 {2 concurrency}")
}

func TestDueSkips(t *testing.T) {
	forbidden := Limits{MaxDuration: time.Second}
	for name, test := range map[string]struct {
		limits Limits
		change []string
		pause  string
		after  time.Duration
		want   string
	}{
		"paused":    {pause: "ann", after: time.Minute, want: "skip a of 12:01 for paused: paused by ann {0 deadline}"},
		"forbidden": {limits: forbidden, after: time.Minute, want: "skip a of 12:01 for duration: it lasts 10s; at most 1s is permitted here {0 deadline}"},
		"late": {
			change: []string{`"* * * * *"`, `"*/10 * * * *", startingDeadline: 5m`}, after: 29 * time.Minute,
			want: "skip a of 12:20 for deadline: its startingDeadline, 5m, was over at 2026-01-02 12:25:00 UTC {1 deadline}",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := leading(t, test.limits, test.change)
			s.Pause(test.pause)
			s.checkDue(t, test.after, test.want)
			s.checkDue(t, test.after, "") // it is handled
		})
	}
}

func TestConcurrencyPolicy(t *testing.T) {
	for policy, want := range map[string]string{
		"Forbid":  "skip a of 12:02 for concurrency: its last run has not ended {0 deadline}",
		"Replace": "wait a for concurrency: its last run is ending, replaces true",
		"Allow":   "wait a for concurrency: another run disturbs ratings.prod.svc.cluster.local, replaces false",
	} {
		t.Run(policy, func(t *testing.T) {
			s := leading(t, Limits{}, []string{`"* * * * *"`, `"* * * * *", concurrencyPolicy: ` + policy})
			s.checkDue(t, time.Minute, "start a of 12:01 {0 deadline}")
			s.checkDue(t, 2*time.Minute, want)
		})
	}
}

// A schedule begins when it is new or has changed; otherwise the last start
// counts, unless a wrong clock has stored it.
func TestSchedulesBegin(t *testing.T) {
	s := New(Limits{})
	if _, begun := s.Set(entries(t, Limits{}, nil, nil), noon); len(begun) != 0 {
		t.Errorf("begun without leading: %v", begun)
	}
	future := noon.Add(time.Hour)
	begun := s.Lead(map[string]time.Time{"a": noon.Add(-time.Minute), "b": future}, noon)
	if diff := cmp.Diff([]Begun{{Experiment: "b", Ignored: future}}, begun); diff != "" {
		t.Errorf("after Lead (-want +got):\n%s", diff)
	}
	s.checkDue(t, 0, "start a of 12:00 {0 deadline}")
	later := noon.Add(5 * time.Minute)
	gone, begun := s.Set(map[string]*Entry{
		"b": entries(t, Limits{}, nil, []string{`"* * * * *"`, `"*/2 * * * *"`})["b"],
		"c": entries(t, Limits{}, nil, nil, nil)["c"],
	}, later)
	if len(begun) != 2 || len(gone) != 1 || gone[0] != "a" {
		t.Errorf("begun %v, gone %v", begun, gone)
	}
	if next, ok := s.Next("b"); !ok || !next.Equal(noon.Add(6*time.Minute)) {
		t.Errorf("b starts next at %s, %t", next, ok)
	}
	if _, ok := s.Next("a"); ok {
		t.Error("an experiment that is gone starts")
	}
}

func TestStartNow(t *testing.T) {
	s := New(Limits{MaxPercentage: 60})
	s.Set(entries(t, Limits{MaxPercentage: 60}, nil, []string{"percentage: 50", "percentage: 70"}), noon)
	if _, _, err := s.StartNow("none", noon); !errors.Is(err, ErrUnknown) {
		t.Errorf("error %v", err)
	}
	if _, _, err := s.StartNow("b", noon); !errors.Is(err, ErrForbidden) || ReasonOf(err) != Percentage {
		t.Errorf("error %v", err)
	}
	e, slot, err := s.StartNow("a", noon)
	if err != nil || e.Metadata.Name != "a" || slot.Host() != "ratings.prod.svc.cluster.local" {
		t.Fatalf("%s on %v: error %v", e.Metadata.Name, slot, err)
	}
	if _, _, err := s.StartNow("a", noon); !errors.Is(err, ErrBusy) || ReasonOf(err) != Concurrency {
		t.Errorf("error %v", err)
	}
	s.Release(slot)
	if _, _, err := s.StartNow("a", noon); err != nil {
		t.Error(err)
	}
}

// A plan widens a slot only if the limits permit it and there is room.
func TestWiden(t *testing.T) {
	limits := Limits{MaxPerNamespace: 1, Protected: []string{"gold"}}
	s := New(limits)
	s.Set(entries(t, limits, nil, []string{"ratings", "reviews", "  callers: [{namespace: shop}]\n", ""}), noon)
	_, first, err := s.StartNow("a", noon)
	if err != nil {
		t.Fatal(err)
	}
	_, second, err := s.StartNow("b", noon)
	if err != nil {
		t.Fatal(err)
	}
	plan := func(host, callers string) mesh.Plan {
		return mesh.Plan{Decisions: []mesh.Decision{{Host: host, Callers: callers}}}
	}
	for _, test := range []struct {
		plan   mesh.Plan
		reason Reason
	}{
		{plan("reviews.prod.svc.cluster.local", "shop"), Limit},
		{plan("ratings.prod.svc.cluster.local", "other"), Concurrency},
		{plan("gold.prod.svc.cluster.local", "other"), Host},
	} {
		if err := s.Widen(second, test.plan); err == nil || ReasonOf(err) != test.reason {
			t.Errorf("error %v instead of one for %s", err, test.reason)
		}
	}
	if err := s.Widen(second, plan("reviews.prod.svc.corp.example", "other")); err != nil {
		t.Error(err)
	}
	if err := s.Widen(first, plan("ratings.prod.svc.cluster.local", "other")); err == nil || ReasonOf(err) != Limit {
		t.Errorf("error %v: the calls of the other plan are not counted", err)
	}
}
