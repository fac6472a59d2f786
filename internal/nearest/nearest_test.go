package nearest_test

import (
	"testing"

	"github.com/squall-chaos/squall/internal/nearest"
)

func TestOf(t *testing.T) {
	names := []string{"", "ratings", "reviews", "shop", "backoffice"}
	for unknown, want := range map[string]string{"rating": "ratings", "raitngs": "ratings", "shp": "shop", "SHOP": "shop", "back": "backoffice", "payments": "", "x": "", "": ""} {
		if got := nearest.Of(unknown, names); got != want {
			t.Errorf("%q: %q", unknown, got)
		}
	}
}
