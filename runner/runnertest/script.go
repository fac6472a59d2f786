package runnertest

import (
	"slices"
	"sync"
	"testing"
)

// Script decides which calls of a cluster fail, and records all of them.
type Script struct {
	mu        sync.Mutex
	log       []string
	failures  map[string][]error
	always    map[string]error
	lost      map[string]bool
	on        map[string]func()
	forbidden map[string]bool
}

func newScript() *Script {
	return &Script{failures: map[string][]error{}, always: map[string]error{}, lost: map[string]bool{}, on: map[string]func(){}, forbidden: map[string]bool{}}
}

// Fail sets the errors of the next calls of an operation. A nil error lets a call
// succeed.
func (s *Script) Fail(operation string, errs ...error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures[operation] = errs
}

// FailAlways sets the error of all calls of an operation.
func (s *Script) FailAlways(operation string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.always[operation] = err
}

// StopFailing drops the failures that have not occurred yet.
func (s *Script) StopFailing() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.failures)
	clear(s.always)
}

// Lose makes failed calls of an operation take effect: only the answer is lost.
func (s *Script) Lose(operation string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost[operation] = true
}

// Forbid makes the test fail when an operation is called.
func (s *Script) Forbid(operation string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forbidden[operation] = true
}

// On calls a function before each call of an operation.
func (s *Script) On(operation string, call func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.on[operation] = call
}

// Log returns the operations so far.
func (s *Script) Log() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.log)
}

// before calls the function that On has set for an operation.
func (s *Script) before(operation string) {
	s.mu.Lock()
	call := s.on[operation]
	s.mu.Unlock()
	if call != nil {
		call()
	}
}

// next records an operation and returns the error that it has to fail with.
func (s *Script) next(t testing.TB, operation string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.forbidden[operation] {
		t.Errorf("unexpected call: %s", operation)
	}
	s.log = append(s.log, operation)
	if left := s.failures[operation]; len(left) > 0 {
		s.failures[operation] = left[1:]
		return left[0]
	}
	return s.always[operation]
}

// isLost reports whether failed calls of an operation take effect.
func (s *Script) isLost(operation string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost[operation]
}

// checkUsed reports failures that have not occurred.
func (s *Script) checkUsed(t testing.TB) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for operation, left := range s.failures {
		if len(left) > 0 {
			t.Errorf("%d failures of %q have not occurred", len(left), operation)
		}
	}
}
