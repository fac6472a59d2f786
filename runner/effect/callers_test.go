package effect_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/runner/effect"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// callingPods are two workloads in two versions, as Istio's metrics name them.
func callingPods() []steadystate.Sample {
	pod := func(app, version string) steadystate.Sample {
		return steadystate.Sample{Value: 1, Labels: map[string]string{"source_app": app, "source_version": version}}
	}
	return []steadystate.Sample{pod("reviews", "v1"), pod("reviews", "v2"), pod("productpage", "v1"), pod("unknown", "unknown")}
}

// A misspelt label of callers passes every other check and hits nothing.
func TestSilent(t *testing.T) {
	const never = " has called ratings.prod.svc.cluster.local in the last hour; callers with "
	for name, test := range map[string]struct {
		labels []map[string]string
		pods   []steadystate.Sample
		want   []string
	}{
		"no labels":              {labels: []map[string]string{nil}, pods: callingPods()},
		"right":                  {labels: []map[string]string{{"app": "reviews"}, {"app": "reviews", "version": "v2"}}, pods: callingPods()},
		"misspelt":               {labels: []map[string]string{{"app": "reviewz"}}, pods: callingPods(), want: []string{"no caller in shop with app=reviewz" + never + "app=productpage or app=reviews have"}},
		"no such pair":           {labels: []map[string]string{{"app": "productpage", "version": "v2"}}, pods: callingPods(), want: []string{"no caller in shop with app=productpage,version=v2" + never + "app=productpage,version=v1 or app=reviews,version=v1 or app=reviews,version=v2 have"}},
		"one of two":             {labels: []map[string]string{{"app": "reviews"}, {"app": "reviewz"}}, pods: callingPods(), want: []string{"no caller in shop with app=reviewz" + never + "app=productpage or app=reviews have"}},
		"another label":          {labels: []map[string]string{{"team": "a"}}, pods: callingPods()},
		"beside another label":   {labels: []map[string]string{{"team": "a", "app": "reviews"}}, pods: callingPods()},
		"no calls at all":        {labels: []map[string]string{{"app": "reviewz"}}},
		"metrics without labels": {labels: []map[string]string{{"app": "reviewz"}}, pods: []steadystate.Sample{{Value: 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			var callers []experiments.Caller
			for _, labels := range test.labels {
				callers = append(callers, experiments.Caller{Namespace: "shop", Labels: labels})
			}
			decisions := []mesh.Decision{{Host: "ratings.prod.svc.cluster.local", Callers: "shop", Placement: mesh.Shadow, Injections: experiments.Injections{{Callers: callers}}}}
			query := func(context.Context, string) ([]steadystate.Sample, error) { return test.pods, nil }
			got, err := effect.Silent(t.Context(), query, decisions)
			if diff := cmp.Diff(test.want, got); err != nil || diff != "" {
				t.Errorf("%v%s", err, diff)
			}
		})
	}
}

func TestSilentWithoutPrometheus(t *testing.T) {
	down := func(context.Context, string) ([]steadystate.Sample, error) { return nil, errors.New("down") }
	callers := experiments.Injections{{Callers: []experiments.Caller{{Namespace: "shop", Labels: map[string]string{"app": "a"}}}}}
	if _, err := effect.Silent(t.Context(), down, []mesh.Decision{{Placement: mesh.Shadow, Injections: callers}}); err == nil {
		t.Error("no error")
	}
	if _, err := effect.Silent(t.Context(), down, []mesh.Decision{{Placement: mesh.Refused, Injections: callers}}); err != nil {
		t.Errorf("a refused plan is asked about: %v", err)
	}
}
