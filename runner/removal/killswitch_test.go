package removal_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner/removal"
)

// standing is a cluster with the objects of runs. It logs the calls.
type standing struct {
	mu   sync.Mutex
	runs []objects.ActiveRun
	done []string
	// refuse returns the error of a deletion; nil for none.
	refuse func(objects.Ref) error
	// blind is the error of a listing, and withdrawing the one of Withdraw.
	blind, withdrawing error
}

var errRefused = errors.New("refused")

func (s *standing) Annotate(_ context.Context, ref objects.Ref, annotations map[string]string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done = append(s.done, "tell "+ref.Name+" of "+annotations[objects.StoppedByAnnotation])
	return errRefused // which must not matter
}

func (s *standing) Delete(_ context.Context, ref objects.Ref, _ string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		if err := s.refuse(ref); err != nil {
			return err
		}
	}
	for i := range s.runs {
		s.runs[i].Objects = slices.DeleteFunc(slices.Clone(s.runs[i].Objects), func(have objects.Ref) bool { return have == ref })
	}
	s.done = append(s.done, "delete "+ref.Name)
	return nil
}

func (s *standing) Withdraw(_ context.Context, ref objects.Ref, run string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done = append(s.done, "withdraw "+ref.Name+" of "+run)
	return s.withdrawing
}

func (s *standing) list(context.Context) ([]objects.ActiveRun, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.runs), func(run objects.ActiveRun) bool { return len(run.Objects) == 0 }), s.blind
}

func blackholeRun(id string) objects.ActiveRun {
	ref := func(kind, name string) objects.Ref {
		return objects.Ref{Kind: kind, Namespace: "shop", Name: name + "-" + id}
	}
	return objects.ActiveRun{ID: id, Objects: []objects.Ref{ref("VirtualService", "vs"), ref("ServiceEntry", "se"), ref("Job", "job")}}
}

// pull ends runs with the kill switch, within 30 seconds.
func (s *standing) pull(t *testing.T, runs ...objects.ActiveRun) (left []objects.ActiveRun, reported []removal.Deletion, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	left, err = removal.KillSwitch{
		Cluster: s, List: s.list, Owner: "ann", Settle: time.Second,
		Report: func(_ string, done removal.Deletion) { reported = append(reported, done) },
	}.Pull(ctx, slices.Clone(runs))
	return left, reported, err
}

func TestKillSwitchRemovesRunsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &standing{runs: []objects.ActiveRun{blackholeRun("a"), blackholeRun("b")}}
		began := time.Now()
		left, reported, err := s.pull(t, s.runs[0])
		if err != nil || len(left) > 0 || len(reported) != 3 {
			t.Errorf("left %v, reported %v, error %v", left, reported, err)
		}
		want := []string{"tell job-a of ann", "delete vs-a", "delete se-a", "delete job-a"}
		if diff := cmp.Diff(want, s.done); diff != "" {
			t.Error(diff)
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("the proxies were given %s", took)
		}
	})
}

func TestKillSwitchGoesOnPastErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &standing{runs: []objects.ActiveRun{blackholeRun("a"), blackholeRun("b")}}
		attempts := 0
		s.refuse = func(ref objects.Ref) error {
			if ref.Name == "vs-a" {
				if attempts++; attempts < 4 {
					return errRefused
				}
			}
			return nil
		}
		left, reported, err := s.pull(t, s.runs...)
		if err != nil || len(left) > 0 {
			t.Errorf("left %v, error %v", left, err)
		}
		if i := slices.IndexFunc(reported, func(d removal.Deletion) bool { return strings.Contains(d.Error, "kept until") }); i < 0 || reported[i].Object.Name != "se-a" {
			t.Errorf("reported %v", reported)
		}
		if slices.Index(s.done, "delete vs-a") > slices.Index(s.done, "delete se-a") {
			t.Errorf("the helper went before the VirtualService: %v", s.done)
		}
	})
}

func TestKillSwitchSaysWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &standing{runs: []objects.ActiveRun{blackholeRun("a")}, refuse: func(ref objects.Ref) error {
			if ref.Kind == "VirtualService" {
				return errRefused
			}
			return nil
		}}
		left, _, err := s.pull(t, s.runs...)
		if err != nil || len(left) != 1 || len(left[0].Objects) != 2 || left[0].Objects[0].Name != "vs-a" {
			t.Errorf("left %v, error %v", left, err)
		}
	})
}

// A deleted object is not known to be gone while the cluster does not answer.
func TestKillSwitchLooksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &standing{runs: []objects.ActiveRun{blackholeRun("a")}, blind: errRefused}
		left, _, err := s.pull(t, s.runs...)
		if !errors.Is(err, errRefused) || len(left) != 1 || len(left[0].Objects) != 3 {
			t.Errorf("left %v, error %v", left, err)
		}
	})
}

// A VirtualService that the cluster keeps loses its fault, and its helpers are not
// needed then.
func TestAFaultIsTakenOutOfWhatStays(t *testing.T) {
	for _, test := range []struct {
		name        string
		kept        objects.KeptError
		withdrawing error
		left        []string
		reason      string
	}{
		{name: "finalizer", kept: objects.KeptError{Finalizers: []string{"example.com/keep"}}, left: []string{"vs-a"}, reason: "kept by finalizers: example.com/keep"},
		{name: "refused delete", kept: objects.KeptError{Err: errRefused}, left: []string{"vs-a"}, reason: "refused"},
		{name: "refused update", kept: objects.KeptError{Err: errRefused}, withdrawing: errors.New("no patch"), left: []string{"vs-a", "se-a"}, reason: "its fault could not be taken out: no patch"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &standing{runs: []objects.ActiveRun{blackholeRun("a")}, withdrawing: test.withdrawing, refuse: func(ref objects.Ref) error {
					if ref.Kind != "VirtualService" {
						return nil
					}
					kept := test.kept
					kept.Object = ref
					return &kept
				}}
				left, reported, err := s.pull(t, s.runs...)
				if err != nil || len(left) != 1 {
					t.Fatalf("left %v, error %v", left, err)
				}
				var names []string
				for _, ref := range left[0].Objects {
					names = append(names, ref.Name)
				}
				if diff := cmp.Diff(test.left, names); diff != "" {
					t.Error(diff)
				}
				first := reported[0]
				if !strings.Contains(first.Error, test.reason) || first.Withdrawn != (test.withdrawing == nil) || !slices.Equal(first.Finalizers, test.kept.Finalizers) {
					t.Errorf("reported %+v", first)
				}
				if !slices.Contains(s.done, "withdraw vs-a of a") {
					t.Errorf("done %v", s.done)
				}
			})
		})
	}
}

// Many runs with helpers do not keep the fault of another one: all VirtualServices are
// deleted before the first pause and the first helper, a few at a time.
func TestManyRunsAreRemovedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &standing{}
		for i := range 1000 {
			s.runs = append(s.runs, blackholeRun(fmt.Sprint(i)))
		}
		began := time.Now()
		var atOnce, most atomic.Int64
		s.refuse = func(ref objects.Ref) error {
			most.Store(max(most.Load(), atOnce.Add(1)))
			defer atOnce.Add(-1)
			if early := time.Since(began) < time.Second; early != (ref.Kind == "VirtualService") {
				t.Errorf("%s is deleted after %s", ref, time.Since(began))
			}
			return nil
		}
		left, reported, err := s.pull(t, s.runs...)
		if err != nil || len(left) > 0 || len(reported) != 3000 {
			t.Errorf("%d runs are left, %d reports, error %v", len(left), len(reported), err)
		}
		last := map[string]int{}
		first := map[string]int{}
		for i, done := range s.done[1000:] { // after the annotations
			kind, _, _ := strings.Cut(done, "-")
			if _, seen := first[kind]; !seen {
				first[kind] = i
			}
			last[kind] = i
		}
		if last["delete vs"] > first["delete se"] || last["delete se"] > first["delete job"] {
			t.Errorf("first %v, last %v", first, last)
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("took %s", took)
		}
	})
}

// A sweep of one namespace does not extend to another one, whatever the
// labels there are.
func TestTheKillSwitchKeepsToTheNamespace(t *testing.T) {
	for _, whole := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			theirs := objects.ActiveRun{ID: "a", Namespace: "tenant", Objects: []objects.Ref{{Kind: "Job", Namespace: "tenant", Name: "shot"}}}
			ours := blackholeRun("a")
			ours.Namespace = "shop"
			s := &standing{runs: []objects.ActiveRun{theirs, ours}}
			left, err := removal.KillSwitch{Cluster: s, List: s.list, Settle: time.Second, Whole: whole, Report: func(string, removal.Deletion) {}}.Pull(t.Context(), []objects.ActiveRun{theirs})
			if got := len(s.runs[1].Objects); err != nil || len(left) > 0 || (got == 0) != whole {
				t.Errorf("whole %t: %d objects of the other namespace are left, error %v", whole, got, err)
			}
		})
	}
}
