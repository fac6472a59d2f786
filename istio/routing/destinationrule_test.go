package routing_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/fields"
	"github.com/squall-chaos/squall/istio/routing"
	"github.com/squall-chaos/squall/mesh/meshtest"
)

func rule(name, spec string) string {
	return "{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {namespace: " + name + "}, spec: " + spec + "}"
}

const ratings = "ratings.prod.svc.cluster.local"

// istiod looks in the callers' namespace first, and there any host that covers the
// target counts, then in the target's, then in the root namespace.
func TestPoliciesFor(t *testing.T) {
	callers := routing.Proxies{Namespace: "shop", Labels: map[string]string{"app": "reviews"}}
	for name, test := range map[string]struct {
		rules  []string
		want   []string
		others []string
		edit   func(*config.Snapshot)
	}{
		"none":                                {rules: []string{rule("prod, name: a", "{host: details}")}},
		"of the target's namespace":           {rules: []string{rule("prod, name: a", "{host: ratings}")}, want: []string{"prod/a"}},
		"a wildcard of the callers' is first": {rules: []string{rule("prod, name: a", "{host: ratings}"), rule("shop, name: b", "{host: '*.cluster.local'}")}, want: []string{"shop/b"}},
		"the most specific host":              {rules: []string{rule("prod, name: a", "{host: '*'}"), rule("prod, name: b", "{host: '*.prod.svc.cluster.local'}"), rule("prod, name: c", "{host: ratings}")}, want: []string{"prod/c"}},
		"of the root namespace":               {rules: []string{rule("istio-system, name: a", "{host: '*.local'}")}, want: []string{"istio-system/a"}},
		"of a third namespace":                {rules: []string{rule("other, name: a", "{host: ratings.prod.svc.cluster.local}")}},
		"not exported":                        {rules: []string{rule("prod, name: a", "{host: ratings, exportTo: ['.']}"), rule("istio-system, name: b", "{host: '*'}")}, want: []string{"istio-system/b"}},
		"exported to others":                  {rules: []string{rule("prod, name: a", "{host: ratings, exportTo: [other]}")}},
		"exported by name":                    {rules: []string{rule("prod, name: a", "{host: ratings, exportTo: [shop]}")}, want: []string{"prod/a"}},
		"private by default":                  {rules: []string{rule("prod, name: a", "{host: ratings}")}, edit: func(s *config.Snapshot) { s.DefaultRuleExportTo = []string{"."} }},
		"merged":                              {rules: []string{rule("prod, name: b", "{host: ratings}"), rule("prod, name: a", "{host: ratings}")}, want: []string{"prod/b", "prod/a"}},
		"with different exportTo":             {rules: []string{rule("prod, name: b", "{host: ratings}"), rule("prod, name: a", "{host: ratings, exportTo: [shop]}")}, want: []string{"prod/a"}},
		"for the callers' labels":             {rules: []string{rule("shop, name: a", "{host: ratings.prod.svc.cluster.local}"), rule("shop, name: b", "{host: ratings.prod.svc.cluster.local, workloadSelector: {matchLabels: {app: reviews}}}")}, want: []string{"shop/b"}},
		"for other labels":                    {rules: []string{rule("shop, name: a", "{host: ratings.prod.svc.cluster.local}"), rule("shop, name: b", "{host: ratings.prod.svc.cluster.local, workloadSelector: {matchLabels: {app: other}}}")}, want: []string{"shop/a"}},
		"for some of the callers":             {rules: []string{rule("shop, name: a", "{host: ratings.prod.svc.cluster.local}"), rule("shop, name: b", "{host: ratings.prod.svc.cluster.local, workloadSelector: {matchLabels: {version: v2}}}")}, want: []string{"shop/a"}, others: []string{"shop/b"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := meshtest.Snapshot(t, test.rules...)
			if test.edit != nil {
				test.edit(&s)
			}
			found := routing.PoliciesFor(s, ratings, callers)
			var got, others []string
			for _, r := range found.Rules {
				got = append(got, r.GetNamespace()+"/"+r.GetName())
			}
			for _, r := range found.Others {
				others = append(others, r.GetNamespace()+"/"+r.GetName())
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(test.others, others); diff != "" {
				t.Errorf("others: %s", diff)
			}
		})
	}
}

// A subset replaces the fields that it has, and settings for a port all of them.
func TestEffectivePolicy(t *testing.T) {
	s := meshtest.Snapshot(t, rule("prod, name: a", `{host: ratings,
		trafficPolicy: {connectionPool: {a: 1}, outlierDetection: {b: 1}, portLevelSettings: [{port: {number: 80}, connectionPool: {c: 1}}]},
		subsets: [{name: v1, trafficPolicy: {connectionPool: {d: 1}}}, {name: v2, trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {e: 1}}]}}, {name: v3}]}`))
	policies := routing.PoliciesFor(s, ratings, routing.Proxies{Namespace: "shop"})
	for _, test := range []struct {
		subset string
		port   int64
		want   string
	}{
		{"", 9080, "{connectionPool: {a: 1}, outlierDetection: {b: 1}}"},
		{"", 80, "{connectionPool: {c: 1}}"},
		{"v1", 9080, "{connectionPool: {d: 1}, outlierDetection: {b: 1}}"},
		{"v1", 80, "{connectionPool: {d: 1}}"},
		{"v2", 80, "{tls: {e: 1}}"},
		{"v2", 9080, "{connectionPool: {a: 1}, outlierDetection: {b: 1}}"},
		{"v3", 80, "{connectionPool: {c: 1}}"},
		{"unknown", 9080, "{connectionPool: {a: 1}, outlierDetection: {b: 1}}"},
	} {
		want := fields.Map(meshtest.Object(t, "{apiVersion: v1, kind: X, spec: "+test.want+"}").Object, "spec")
		if diff := cmp.Diff(want, policies.Effective(test.subset, test.port)); diff != "" {
			t.Errorf("%s:%d: %s", test.subset, test.port, diff)
		}
	}
}
