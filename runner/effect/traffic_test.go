package effect_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/runner/effect"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// answer is a Querier that knows one answer.
type answer struct {
	query   string
	short   []steadystate.Sample // for the first query
	samples []steadystate.Sample
	err     error
}

func (a *answer) Query(_ context.Context, promql string) ([]steadystate.Sample, error) {
	first := a.query == ""
	a.query = promql
	if first {
		return a.short, a.err
	}
	return a.samples, a.err
}

func share(value float64) *experiments.Percentage {
	p := experiments.Percentage(value)
	return &p
}

func TestReadTraffic(t *testing.T) {
	exact := experiments.Fault{
		Abort: &experiments.Abort{HTTPStatus: 503}, Percentage: share(40),
		Target: &experiments.Target{Host: "ratings.prod"}, Callers: []experiments.Caller{{Namespace: "shop"}},
	}
	edited := func(edit func(*experiments.Fault)) experiments.Fault {
		f := exact
		edit(&f)
		return f
	}
	some := []steadystate.Sample{{Value: 50}}
	for name, test := range map[string]struct {
		fault   experiments.Fault
		samples []steadystate.Sample
		want    *effect.Traffic
	}{
		"a share":           {exact, some, &effect.Traffic{Requests: 50, Hit: 20, Failing: 20}},
		"nobody calls":      {exact, []steadystate.Sample{{Value: 0}}, &effect.Traffic{}},
		"no series":         {exact, nil, nil},
		"no number":         {exact, []steadystate.Sample{{Value: math.NaN()}}, nil},
		"narrowed by match": {edited(func(f *experiments.Fault) { f.Match = []experiments.Match{{}} }), some, &effect.Traffic{Requests: 50, Hit: 20, Failing: 20, AtMost: true}},
		"narrowed by port":  {edited(func(f *experiments.Fault) { f.Target = &experiments.Target{Port: 80} }), some, &effect.Traffic{Requests: 50, Hit: 20, Failing: 20, AtMost: true}},
		"narrowed by labels": {
			edited(func(f *experiments.Fault) {
				f.Callers = []experiments.Caller{{Namespace: "shop", Labels: map[string]string{"app": "a"}}}
			}), some, &effect.Traffic{Requests: 50, Hit: 20, Failing: 20, AtMost: true},
		},
		"labels beside all": {
			edited(func(f *experiments.Fault) {
				f.Callers = []experiments.Caller{{Namespace: "shop", Labels: map[string]string{"app": "a"}}, {Namespace: "shop"}}
			}), some, &effect.Traffic{Requests: 50, Hit: 20, Failing: 20},
		},
		"narrowed in time": {
			edited(func(f *experiments.Fault) {
				f.StartAfter = experiments.Duration{Duration: time.Minute}
			}), some, &effect.Traffic{Requests: 50, Hit: 20, Failing: 20, AtMost: true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			q := &answer{samples: test.samples}
			got, err := effect.ReadTraffic(t.Context(), q, (experiments.Spec{Faults: []experiments.Fault{test.fault}, Duration: experiments.Duration{Duration: 2 * time.Minute}}).Injections(), "ratings.prod.svc.cluster.local", "shop")
			if err != nil {
				t.Fatal(err)
			}
			if test.want != nil {
				test.want.Window = effect.LongestWindow
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			const query = `sum(rate(istio_requests_total{reporter=~"source|waypoint",destination_service=~"(squall-[^.]+\\.)?ratings\\.prod\\.svc\\.cluster\\.local(\\.squall\\.internal)?",source_workload_namespace="shop"}[5m]))`
			if q.query != query {
				t.Errorf("asked %s", q.query)
			}
		})
	}
	if _, err := effect.ReadTraffic(t.Context(), &answer{err: errors.New("down")}, nil, "", ""); err == nil {
		t.Error("no error")
	}
}

// counting answers each query with its own number.
type counting map[string]float64

func (c counting) Query(_ context.Context, promql string) ([]steadystate.Sample, error) {
	for part, value := range c {
		if strings.Contains(promql, part) {
			return []steadystate.Sample{{Value: value}}, nil
		}
	}
	return []steadystate.Sample{{Value: 50}}, nil
}

// An abort with a gRPC status makes only gRPC requests fail.
func TestReadTrafficOfCallersThatDoNotSpeakGRPC(t *testing.T) {
	for name, test := range map[string]struct {
		abort experiments.Abort
		want  float64
	}{
		"gRPC status": {experiments.Abort{GRPCStatus: "UNAVAILABLE"}, 16}, "HTTP status": {experiments.Abort{HTTPStatus: 503}, 0},
	} {
		spec := experiments.Spec{Faults: []experiments.Fault{{Abort: &test.abort, Percentage: share(40), Target: &experiments.Target{Host: "ratings.prod"}}}}
		got, err := effect.ReadTraffic(t.Context(), counting{`request_protocol!="grpc"`: 16}, spec.Injections(), "ratings.prod.svc.cluster.local", "shop")
		if err != nil || got.NotGRPC != test.want || got.Requests != 50 {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// A window of a minute is used if it has requests.
func TestReadTrafficOfTheLastMinute(t *testing.T) {
	q := &answer{short: []steadystate.Sample{{Value: 50}}, samples: []steadystate.Sample{{Value: 12.6}}}
	got, err := effect.ReadTraffic(t.Context(), q, nil, "ratings.prod.svc.cluster.local", "shop")
	if diff := cmp.Diff(&effect.Traffic{Window: time.Minute, Requests: 50}, got); err != nil || diff != "" {
		t.Errorf("%v%s", err, diff)
	}
}
