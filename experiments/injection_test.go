package experiments_test

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/experiments"
)

func seconds(n int) experiments.Duration {
	return experiments.Duration{Duration: time.Duration(n) * time.Second}
}

func TestInjections(t *testing.T) {
	ratings := experiments.Target{Host: "ratings.prod.svc.cluster.local"}
	details := experiments.Target{Host: "details", Namespace: "prod"}
	shop, eu := []experiments.Caller{{Namespace: "shop"}}, []experiments.Caller{{Namespace: "eu"}}
	path := "/v1"
	match := []experiments.Match{{URI: &experiments.StringMatch{Prefix: &path}}}
	inherits := experiments.Fault{Abort: &experiments.Abort{HTTPStatus: 503}, Percentage: new(experiments.Percentage(25))}
	own := experiments.Fault{Delay: &experiments.Delay{}, Target: &details, Callers: eu, Match: match, StartAfter: seconds(5), Duration: seconds(10)}
	spec := experiments.Spec{Target: ratings, Callers: shop, Duration: seconds(60), Faults: []experiments.Fault{inherits, own}}
	want := experiments.Injections{
		{Number: 0, Fault: inherits, Target: ratings, Callers: shop, Percentage: 25, Until: time.Minute},
		{Number: 1, Fault: own, Target: details, Callers: eu, Match: match, Percentage: 100, From: 5 * time.Second, Until: 15 * time.Second},
	}
	got := spec.Injections()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]time.Duration{5 * time.Second, 15 * time.Second}, got.Steps(time.Minute)); diff != "" {
		t.Error(diff)
	}
	if spec.FirstStart() != 0 {
		t.Errorf("first start after %s", spec.FirstStart())
	}
	if _, ok := got[0].For("eu"); ok {
		t.Error("the first fault has callers in eu")
	}
}

func TestShares(t *testing.T) {
	abort := &experiments.Abort{HTTPStatus: 503}
	delay := &experiments.Delay{}
	for name, test := range map[string]struct {
		faults       []experiments.Fault
		hit, failing float64
	}{
		"none":                {nil, 0, 0},
		"abort":               {[]experiments.Fault{{Abort: abort, Percentage: new(experiments.Percentage(25))}}, 0.25, 0.25},
		"delay":               {[]experiments.Fault{{Delay: delay, Percentage: new(experiments.Percentage(25))}}, 0.25, 0},
		"both, independently": {[]experiments.Fault{{Abort: abort, Delay: delay, Percentage: new(experiments.Percentage(50))}}, 0.75, 0.5},
		"both, always":        {[]experiments.Fault{{Abort: abort, Delay: delay, Percentage: new(experiments.Percentage(100))}}, 1, 1},
		"blackhole":           {[]experiments.Fault{{Blackhole: &experiments.Blackhole{}, Percentage: new(experiments.Percentage(50))}}, 0.5, 0.5},
		"abort with success":  {[]experiments.Fault{{Abort: &experiments.Abort{HTTPStatus: 204}, Percentage: new(experiments.Percentage(50))}}, 0.5, 0},
		"abort with OK":       {[]experiments.Fault{{Abort: &experiments.Abort{GRPCStatus: "OK"}, Percentage: new(experiments.Percentage(50))}}, 0.5, 0},
		"gRPC abort":          {[]experiments.Fault{{Abort: &experiments.Abort{GRPCStatus: "INTERNAL"}, Percentage: new(experiments.Percentage(50))}}, 0.5, 0.5},
		"two faults":          {[]experiments.Fault{{Abort: abort, Percentage: new(experiments.Percentage(50))}, {Delay: delay, Percentage: new(experiments.Percentage(50))}}, 0.75, 0.5},
		"not checked":         {[]experiments.Fault{{Abort: abort}}, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			want := experiments.Shares{Hit: test.hit, Failing: test.failing}
			if got := (experiments.Spec{Faults: test.faults}).Injections().Shares(); got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
		})
	}
}

func TestPeriods(t *testing.T) {
	fault := func(from, length int) experiments.Fault {
		return experiments.Fault{StartAfter: seconds(from), Duration: seconds(length)}
	}
	spec := experiments.Spec{Duration: seconds(60), Faults: []experiments.Fault{fault(40, 0), fault(5, 10), fault(10, 10), fault(20, 5), fault(11, 2)}}
	want := []experiments.Period{{From: 5 * time.Second, Until: 25 * time.Second}, {From: 40 * time.Second, Until: time.Minute}}
	if diff := cmp.Diff(want, spec.Injections().Periods()); diff != "" {
		t.Error(diff)
	}
}

// Faults that follow each other do not add up.
func TestPeak(t *testing.T) {
	abort := func(p experiments.Percentage, from, length int) experiments.Fault {
		return experiments.Fault{Abort: &experiments.Abort{HTTPStatus: 503}, Percentage: &p, StartAfter: seconds(from), Duration: seconds(length)}
	}
	elsewhere := func(f experiments.Fault) experiments.Fault {
		f.Target = &experiments.Target{Host: "details.prod"}
		return f
	}
	callers := func(f experiments.Fault, namespace string) experiments.Fault {
		f.Callers = []experiments.Caller{{Namespace: namespace}}
		return f
	}
	for name, test := range map[string]struct {
		faults []experiments.Fault
		hit    float64
	}{
		"one after the other":         {[]experiments.Fault{abort(20, 0, 30), abort(20, 30, 30)}, 0.2},
		"a ramp":                      {[]experiments.Fault{abort(1, 0, 10), abort(5, 10, 10), abort(25, 20, 10), abort(50, 30, 10)}, 0.5},
		"together for a second":       {[]experiments.Fault{abort(50, 0, 31), abort(50, 30, 30)}, 0.75},
		"calls to different hosts":    {[]experiments.Fault{abort(50, 0, 60), elsewhere(abort(40, 0, 60))}, 0.5},
		"calls of other namespaces":   {[]experiments.Fault{callers(abort(50, 0, 60), "a"), callers(abort(40, 0, 60), "b")}, 0.5},
		"calls of the same namespace": {[]experiments.Fault{callers(abort(50, 0, 60), "a"), callers(abort(50, 0, 60), "a")}, 0.75},
		"callers that are not known":  {[]experiments.Fault{abort(50, 0, 60), callers(abort(50, 0, 60), "a")}, 0.75},
	} {
		t.Run(name, func(t *testing.T) {
			spec := experiments.Spec{Target: experiments.Target{Host: "ratings", Namespace: "prod"}, Duration: seconds(60), Faults: test.faults}
			if got := spec.Injections().Peak().Hit; math.Abs(got-test.hit) > 1e-9 {
				t.Errorf("%g, want %g", got, test.hit)
			}
		})
	}
}
