package advice_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/mesh/meshtest"
)

// A canary controller lets a VirtualService of one host send its calls to others.
func TestCallsToOtherHosts(t *testing.T) {
	canary := meshtest.VirtualService("prod/ratings", `{hosts: [ratings], http: [{route: [{destination: {host: ratings-primary}, weight: 90}, {destination: {host: ratings-canary}, weight: 10}]}]}`)
	const byHost = `{name: p, min: 1, query: 'istio_requests_total{reporter="source",destination_service="ratings.prod.svc.cluster.local"}'}`
	const asks = `asks for ratings.prod.svc.cluster.local, but its calls are counted under the hosts that prod/ratings sends them to: ` +
		`select destination_service=~"ratings-primary.prod.svc.cluster.local|ratings-canary.prod.svc.cluster.local" instead`
	for _, test := range []struct {
		name     string
		base     string
		edits    []string
		warnings []string
	}{
		{name: "a probe for the called host", base: canary, edits: []string{probeUp, byHost}, warnings: []string{`probe "p" ` + asks, analysis}},
		{
			name: "a built-in probe for the called host", base: canary,
			edits:    []string{probeUp, `{name: p, min: 0.9, successRate: {destination: ratings.prod.svc.cluster.local}}`},
			warnings: []string{`probe "p" ` + asks, analysis},
		},
		{
			name: "a stop condition for the called host", base: canary,
			edits:    []string{"duration: 2m", "duration: 2m\n  stopConditions: [" + byHost + "]"},
			warnings: []string{`stop condition "p" ` + asks, analysis},
		},
		{
			name: "a probe for the hosts that are chosen", base: canary,
			edits:    []string{probeUp, probe(`istio_requests_total{reporter="source",destination_service=~"ratings-(primary|canary)[.]prod[.].*"}`)},
			warnings: []string{analysis},
		},
		{name: "a probe for all hosts", base: canary, edits: []string{probeUp, probe(`istio_requests_total{reporter="source"}`)}, warnings: []string{analysis}},
		{
			name: "one of the hosts is the called one", edits: []string{probeUp, byHost}, warnings: []string{analysis},
			base: meshtest.VirtualService("prod/ratings", `{hosts: [ratings], http: [{route: [{destination: {host: ratings}, weight: 90}, {destination: {host: ratings-canary}, weight: 10}]}]}`),
		},
		{
			name: "the target is a chosen host", edits: []string{probeUp, byHost},
			base: meshtest.VirtualService("prod/reviews", `{hosts: [reviews], http: [{route: [{destination: {host: ratings}}]}]}`),
			warnings: []string{"VirtualService prod/reviews sends calls for reviews.prod.svc.cluster.local to ratings.prod.svc.cluster.local, and the fault does not hit them: " +
				"to disturb these calls, name reviews.prod.svc.cluster.local as the target"},
		},
		{
			name: "for gateways only", edits: []string{probeUp, byHost},
			base: meshtest.VirtualService("prod/reviews", `{hosts: [reviews], gateways: [public], http: [{route: [{destination: {host: ratings}}]}]}`),
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, warnings := decided(meshtest.Snapshot(t, test.base), meshtest.Experiment(t, test.edits...))
			if diff := cmp.Diff(test.warnings, warnings); diff != "" {
				t.Error(diff)
			}
		})
	}
}
