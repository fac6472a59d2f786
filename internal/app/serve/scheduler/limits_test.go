package scheduler

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/experiments/files"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/mesh/render"
)

const experiment = `apiVersion: squall.dev/v1alpha1
kind: Experiment
metadata: {name: x}
spec:
  target: {host: ratings, namespace: prod}
  callers: [{namespace: shop}]
  faults: [{abort: {httpStatus: 503}, percentage: 50}]
  duration: 10s
  steadyState: {probes: [{name: up, query: up, min: 1}]}
  schedule: {cron: "* * * * *"}
`

// spec returns an experiment; each pair of changes replaces text of its file.
func spec(t *testing.T, changes ...string) experiments.Spec {
	t.Helper()
	text := experiment
	for i := 0; i < len(changes); i += 2 {
		if !strings.Contains(text, changes[i]) {
			t.Fatalf("there is no %q in the experiment", changes[i])
		}
		text = strings.Replace(text, changes[i], changes[i+1], 1)
	}
	loaded, err := files.Load("test.yaml", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return loaded[0].Spec
}

// Each name of a host protects it, in every spelling of a file or of the mesh.
func TestProtectedInEverySpelling(t *testing.T) {
	patterns := []string{
		"ratings", "ratings.prod", "ratings.prod.svc", "ratings.prod.svc.cluster.local", "RATINGS.Prod.svc.cluster.local", "ratings.prod.svc.cluster.local.",
		"*.prod.svc.cluster.local", "*.prod", "*", "rat*", "ratings.*", "[qr]atings.prod", "r?tings",
	}
	others := []string{"reviews", "ratings.shop", "ratings.pro", "*.payments.svc.cluster.local", "ratings.prod.svc.cluster", "prod", "atings*", "example.com"}
	for _, domain := range []string{"cluster.local", "corp.example"} {
		spellings := map[string]string{"ratings": "prod", "ratings.prod": "", "ratings.prod.svc": "", "ratings.prod.svc." + domain: ""}
		for host, namespace := range spellings {
			s := spec(t)
			s.Target = experiments.Target{Host: host, Namespace: namespace}
			for _, pattern := range patterns {
				if got := (Limits{Protected: []string{pattern}}).permits(s); ReasonOf(got) != Host || !strings.Contains(got.Error(), "is protected here by") {
					t.Errorf("%s does not protect %s: %v", pattern, host, got)
				}
			}
			for _, pattern := range others {
				if got := (Limits{Protected: []string{pattern}}).permits(s); got != nil {
					t.Errorf("%s protects %s: %v", pattern, host, got)
				}
			}
		}
		for _, host := range []string{"ratings.prod.svc." + domain, "Ratings.prod.svc." + domain + "."} {
			for _, pattern := range append(patterns, others...) {
				want := false
				for _, p := range patterns {
					want = want || p == pattern
				}
				l := Limits{Protected: []string{pattern}}
				for _, plan := range []mesh.Plan{
					{Decisions: []mesh.Decision{{Host: "a.b.svc.cluster.local"}, {Host: host}}},
					{Decisions: []mesh.Decision{{Host: "c.d.svc.cluster.local", Signature: render.Signature{Destinations: []string{"a.b.svc.cluster.local", host}}}}},
				} {
					if pattern == "*" {
						continue // it protects the other, too
					}
					if got := l.permitsPlan(plan); (got != nil) != want {
						t.Errorf("%s and a plan for %s: %v", pattern, host, got)
					}
				}
			}
		}
	}
}

// The target of a fault counts, too.
func TestProtectedTargetOfAFault(t *testing.T) {
	s := spec(t, "percentage: 50}]", "percentage: 50}, {abort: {httpStatus: 503}, percentage: 50, target: {host: gold, namespace: payments}}]")
	if got := (Limits{Protected: []string{"*.payments.svc.cluster.local"}}).permits(s); got == nil {
		t.Error("gold is not protected")
	}
	s.Target.Host = "api.example.com"
	if got := (Limits{Protected: []string{"*.example.com"}}).permits(s); got == nil {
		t.Error("api.example.com is not protected")
	}
}

func TestPermits(t *testing.T) {
	for _, test := range []struct {
		name   string
		limits Limits
		reason Reason
	}{
		{"none", Limits{}, ""},
		{"longer", Limits{MaxDuration: 9 * time.Second}, "duration"},
		{"as long", Limits{MaxDuration: 10 * time.Second}, ""},
		{"more", Limits{MaxPercentage: 49.9999}, "percentage"},
		{"as much", Limits{MaxPercentage: 50}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := test.limits.permits(spec(t))
			if (got != nil) != (test.reason != "") || got != nil && ReasonOf(got) != test.reason {
				t.Errorf("error %v", got)
			}
		})
	}
	everything := spec(t, "faults: [{abort: {httpStatus: 503}, percentage: 50}]", "faults: [{blackhole: {mode: drop}}]")
	if got := (Limits{MaxPercentage: 99}).permits(everything); got == nil || ReasonOf(got) != Percentage {
		t.Error("a blackhole takes all requests")
	}
}

// The shares of several faults combine like independent probabilities.
func TestPermitsFaultsTogether(t *testing.T) {
	const fault = "faults: [{abort: {httpStatus: 503}, percentage: 50}"
	for name, test := range map[string]struct {
		more    string
		share   float64 // that they hit together
		callers string
	}{
		"on the same calls":           {", {blackhole: {mode: drop}, percentage: 50, match: [{uri: {prefix: /}}]}", 75, ""},
		"from callers yet to be seen": {", {blackhole: {mode: drop}, percentage: 50, match: [{uri: {prefix: /}}]}", 75, "no"},
		"three":                       {", {delay: {fixedDelay: 1s}, percentage: 50}, {blackhole: {mode: drop}, percentage: 50, match: [{uri: {prefix: /}}]}", 87.5, ""},
		"two of them in one fault":    {", {delay: {fixedDelay: 1s}, abort: {httpStatus: 503}, percentage: 50, match: [{uri: {prefix: /}}]}", 87.5, ""},
		"another spelling":            {", {delay: {fixedDelay: 1s}, percentage: 50, target: {host: ratings.prod.svc}}", 75, ""},
		"another host":                {", {abort: {httpStatus: 503}, percentage: 50, target: {host: details, namespace: prod}}", 50, ""},
		"other callers":               {", {abort: {httpStatus: 503}, percentage: 50, callers: [{namespace: other}]}", 50, ""},
		"one after the other":         {", {delay: {fixedDelay: 1s}, percentage: 40, startAfter: 5s}", 70, ""},
		"never at the same time":      {", {delay: {fixedDelay: 1s}, percentage: 40, startAfter: 5s, duration: 2s}, {delay: {fixedDelay: 1s}, percentage: 50, startAfter: 8s, duration: 1s}", 75, ""},
	} {
		t.Run(name, func(t *testing.T) {
			changes := []string{fault + "]", fault + test.more + "]"}
			if test.callers != "" {
				changes = append(changes, "  callers: [{namespace: shop}]\n", "")
			}
			s := spec(t, changes...)
			if got := (Limits{MaxPercentage: test.share}).permits(s); got != nil {
				t.Errorf("as much: %v", got)
			}
			if got := (Limits{MaxPercentage: test.share - 0.1}).permits(s); got == nil || ReasonOf(got) != Percentage {
				t.Errorf("more: %v", got)
			}
		})
	}
}

func TestCheckLimits(t *testing.T) {
	for _, l := range []Limits{
		{Protected: []string{""}},
		{Protected: []string{"."}},
		{Protected: []string{"a[.svc"}},
		{MaxConcurrent: -1},
		{MaxPerNamespace: -1},
		{MaxDuration: -time.Second},
		{MaxPercentage: -1},
		{MaxPercentage: math.NaN()},
	} {
		if l.Check() == nil {
			t.Errorf("%+v is accepted", l)
		}
	}
	if err := (Limits{Protected: []string{"*.payments.svc.cluster.local", "ratings."}, MaxPercentage: 100, MaxConcurrent: 4, MaxPerNamespace: 1, MaxDuration: time.Hour}).Check(); err != nil {
		t.Error(err)
	}
}
