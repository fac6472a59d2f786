package objects_test

import (
	"testing"

	"github.com/squall-chaos/squall/mesh/objects"
)

func TestLeft(t *testing.T) {
	ref := objects.Ref{Kind: "VirtualService", Namespace: "shop", Name: "squall-ratings"}
	for _, test := range []struct {
		left                 objects.Left
		removal, explanation string
	}{
		{objects.Left{Ref: ref}, "kubectl -n shop delete virtualservice squall-ratings", ""},
		{objects.Left{Ref: ref, Reason: "boom"}, "kubectl -n shop delete virtualservice squall-ratings", "boom"},
		{objects.Left{Ref: ref, Reason: "no", Withdrawn: true}, "kubectl -n shop delete virtualservice squall-ratings", "no; its fault was taken out"},
		{
			objects.Left{Ref: ref, Reason: "kept", Finalizers: []string{"example.com/a", "example.com/b"}, Withdrawn: true},
			`kubectl -n shop patch virtualservice squall-ratings --type merge -p '{"metadata":{"finalizers":null}}' && kubectl -n shop delete virtualservice squall-ratings --ignore-not-found`,
			"kept by finalizers: example.com/a, example.com/b; its fault was taken out",
		},
	} {
		if got := test.left.Removal(); got != test.removal {
			t.Errorf("removal %q", got)
		}
		if got := test.left.Explanation(); got != test.explanation {
			t.Errorf("explanation %q", got)
		}
	}
}
