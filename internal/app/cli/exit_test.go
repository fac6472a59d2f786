package cli

import "testing"

func TestWorstCode(t *testing.T) {
	order := []int{exitHeld, exitUsage, exitInconclusive, exitInterrupted, exitDeviated, exitLeft}
	for i, worse := range order {
		for _, better := range order[:i] {
			if got := worstCode(better, worse); got != worse {
				t.Errorf("%d and %d give %d", better, worse, got)
			}
			if got := worstCode(worse, better); got != worse {
				t.Errorf("%d and %d give %d", worse, better, got)
			}
		}
	}
}
