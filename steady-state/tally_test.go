package steadystate

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func verdictOf(limit int, verdicts []Verdict) Verdict {
	t := tally{limit: limit}
	for _, v := range verdicts {
		t.add(Measurement{Verdict: v})
	}
	return t.result().Verdict
}

// A worse measurement never improves the verdict of a phase, and neither does an
// additional one that is as bad as an earlier one.
func TestWorseNeverImproves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		anyVerdict := rapid.SampledFrom([]Verdict{Held, Inconclusive, Deviated})
		verdicts := rapid.SliceOfN(anyVerdict, 1, 8).Draw(t, "verdicts")
		limit := rapid.IntRange(0, 2).Draw(t, "limit")
		at := rapid.IntRange(0, len(verdicts)-1).Draw(t, "at")
		worse := append([]Verdict{}, verdicts...)
		worse[at] = max(worse[at], anyVerdict.Draw(t, "worse"))
		before := verdictOf(limit, verdicts)
		if after := verdictOf(limit, worse); after < before {
			t.Fatalf("%v is %s, but %v is %s", verdicts, before, worse, after)
		}
		longer := append(append([]Verdict{}, verdicts...), max(slices.Max(verdicts), anyVerdict.Draw(t, "more")))
		if after := verdictOf(limit, longer); after < before {
			t.Fatalf("%v is %s, but %v is %s", verdicts, before, longer, after)
		}
	})
}

// Without a failure limit the verdict is the worst measurement, in any order.
func TestOrderDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		verdicts := rapid.SliceOfN(rapid.SampledFrom([]Verdict{Held, Inconclusive, Deviated}), 1, 8).Draw(t, "verdicts")
		shuffled := rapid.Permutation(verdicts).Draw(t, "shuffled")
		worst := Held
		for _, v := range verdicts {
			worst = max(worst, v)
		}
		if got := verdictOf(0, shuffled); got != worst {
			t.Fatalf("%v is %s", shuffled, got)
		}
	})
}

// A failure limit tolerates misses only if other measurements hold.
func TestNothingThatHoldsIsNotHeld(t *testing.T) {
	for _, verdicts := range [][]Verdict{{Inconclusive}, {Inconclusive, Inconclusive}, {Deviated}, {Inconclusive, Deviated}} {
		if got := verdictOf(5, verdicts); got != slices.Max(verdicts) {
			t.Errorf("%v is %s", verdicts, got)
		}
	}
	if got := verdictOf(5, []Verdict{Inconclusive, Held, Deviated}); got != Held {
		t.Errorf("tolerated misses are %s", got)
	}
}
