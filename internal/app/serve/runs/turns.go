package runs

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// turns lets a few calls run at a time, the urgent ones first.
type turns struct {
	mu            sync.Mutex
	free          int
	urgent, other []chan struct{} // closed when it is the turn of a call
}

func newTurns(atOnce int) *turns { return &turns{free: atOnce} }

// do waits for a turn and calls call. It returns an error if ctx is done before.
func (t *turns) do(ctx context.Context, urgent bool, call func() error) error {
	turn := t.enter(urgent)
	select {
	case <-turn:
	case <-ctx.Done():
		if !t.withdraw(turn) {
			t.leave() // the turn has come meanwhile
		}
		return fmt.Errorf("waiting for a turn to ask the cluster: %w", context.Cause(ctx))
	}
	defer t.leave()
	return call()
}

// enter returns a channel that is closed when it is the call's turn.
func (t *turns) enter(urgent bool) chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	turn := make(chan struct{})
	switch {
	case t.free > 0:
		t.free--
		close(turn)
	case urgent:
		t.urgent = append(t.urgent, turn)
	default:
		t.other = append(t.other, turn)
	}
	return turn
}

// withdraw reports whether a call was still waiting, and removes it.
func (t *turns) withdraw(turn chan struct{}) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	waiting := len(t.urgent) + len(t.other)
	is := func(other chan struct{}) bool { return other == turn }
	t.urgent, t.other = slices.DeleteFunc(t.urgent, is), slices.DeleteFunc(t.other, is)
	return len(t.urgent)+len(t.other) < waiting
}

// leave ends a turn.
func (t *turns) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case len(t.urgent) > 0:
		close(t.urgent[0])
		t.urgent = t.urgent[1:]
	case len(t.other) > 0:
		close(t.other[0])
		t.other = t.other[1:]
	default:
		t.free++
	}
}
