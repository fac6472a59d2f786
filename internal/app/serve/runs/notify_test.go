package runs

import (
	"testing"

	"github.com/squall-chaos/squall/mesh"
)

// An Event is about the Service when that is where the callers are.
func TestAbout(t *testing.T) {
	for _, test := range []struct{ host, callers, want string }{
		{"ratings.prod.svc.cluster.local", "prod", "Service prod/ratings"},
		{"ratings.prod.svc.corp.example", "prod", "Service prod/ratings"},
		{"ratings.prod.svc.cluster.local", "shop", "Namespace shop/shop"},
		{"ratings.prod.svc.cluster.local", "local", "Namespace local/local"},
		{"api.example.com", "com", "Namespace com/com"},
	} {
		if got := about(mesh.Decision{Host: test.host, Callers: test.callers}).String(); got != test.want {
			t.Errorf("%s from %s: %s", test.host, test.callers, got)
		}
	}
}
