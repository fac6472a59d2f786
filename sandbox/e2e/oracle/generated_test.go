package oracle_test

import (
	"context"
	"flag"
	"testing"
	"time"
)

var (
	firstSeed = flag.Int("first", 1, "the first seed of the generated scenarios")
	seeds     = flag.Int("seeds", 300, "how many scenarios are generated")
)

// Any mesh that may exist: what Squall plans for it takes effect on the
// requests that it is meant for and changes nothing else.
func TestGenerated(t *testing.T) {
	began := time.Now()
	var scenarios []scenario
	var objects []object
	for seed := *firstSeed; seed < *firstSeed+*seeds; seed++ {
		s := generate(seed)
		scenarios = append(scenarios, s)
		objects = append(objects, s.objects()...)
	}
	// istiod does not validate its input, so objects that its webhook would
	// refuse are not used.
	forEach(t, objects, func(ctx context.Context, o object) error {
		if err := bed.validate(ctx, o); err != nil {
			t.Errorf("the generator has drawn %s: %v", encode(o.Object), err)
		}
		return nil
	})
	trials := conduct(t, scenarios)
	tally(t, trials, began)
	throughEnvoy(t, trials)
}
