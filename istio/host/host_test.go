package host_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/istio/host"
)

func TestHost(t *testing.T) {
	const ratings = "ratings.prod.svc.cluster.local"
	service := []string{ratings, "ratings.prod.svc", "ratings.prod", "ratings"}
	for _, test := range []struct {
		name, namespace string
		canonical       string
		spellings       []string
		candidates      []string
	}{
		{name: "ratings", namespace: "prod", canonical: ratings, spellings: append(service[:4:4], "ratings"), candidates: []string{"ratings.prod.svc.example.org"}},
		{name: "Ratings.Prod", canonical: ratings, spellings: append(service[:4:4], "ratings.prod"), candidates: []string{"ratings.prod", "ratings.prod.svc.example.org", "ratings.prod.example.org"}},
		{name: "ratings.prod.svc", canonical: ratings, spellings: append(service[:4:4], "ratings.prod.svc"), candidates: []string{"ratings.prod.svc", "ratings.prod.svc.svc.example.org", "ratings.prod.svc.example.org"}},
		{name: "ratings.prod.svc.example.org.", canonical: ratings, spellings: append(service[:4:4], "ratings.prod.svc.example.org"), candidates: []string{"ratings.prod.svc.example.org", "ratings.prod.svc.example.org.svc.example.org", "ratings.prod.svc.example.org.example.org"}},
		{name: "api.example.com", namespace: "prod", canonical: "api.example.com", spellings: []string{"api.example.com"}, candidates: []string{"api.example.com", "api.example.com.svc.example.org", "api.example.com.example.org"}},
		{name: "ratings", canonical: "ratings", spellings: []string{"ratings"}, candidates: []string{"ratings..svc.example.org"}},
	} {
		h := host.Parse(test.name, test.namespace)
		if h.Canonical() != test.canonical {
			t.Errorf("%s in %q: canonical is %s, want %s", test.name, test.namespace, h.Canonical(), test.canonical)
		}
		if diff := cmp.Diff(test.spellings, h.Spellings()); diff != "" {
			t.Errorf("%s in %q: spellings: %s", test.name, test.namespace, diff)
		}
		if diff := cmp.Diff(test.candidates, h.Candidates("example.org")); diff != "" {
			t.Errorf("%s in %q: candidates: %s", test.name, test.namespace, diff)
		}
	}
}

func TestQualify(t *testing.T) {
	for name, want := range map[string]string{
		"ratings": "ratings.prod.svc.cluster.local", "ratings.other": "ratings.other", "*": "*", "": "", "*.example.com": "*.example.com",
	} {
		if got := host.Qualify(name, "prod", host.DefaultDomain); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}
