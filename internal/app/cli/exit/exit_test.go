package exit_test

import (
	"testing"

	"github.com/squall-chaos/squall/internal/app/cli/exit"
)

func TestWorst(t *testing.T) {
	order := []int{exit.Held, exit.Usage, exit.Inconclusive, exit.Interrupted, exit.Deviated, exit.Left}
	for i, worse := range order {
		for _, better := range order[:i] {
			if got := exit.Worst(better, worse); got != worse {
				t.Errorf("%d and %d yield %d", better, worse, got)
			}
			if got := exit.Worst(worse, better); got != worse {
				t.Errorf("%d and %d yield %d", worse, better, got)
			}
		}
	}
}
