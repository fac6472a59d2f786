package objects_test

import (
	"testing"
	"time"

	"github.com/squall-chaos/squall/mesh/objects"
)

func TestHold(t *testing.T) {
	lease := objects.NewHold("istio-system", "ann@laptop", noon, 10*time.Minute)
	hold, holds := objects.HoldOf(lease, noon.Add(9*time.Minute))
	if want := (objects.Hold{By: "ann@laptop", Until: noon.Add(10 * time.Minute), Namespace: "istio-system"}); hold != want || !holds {
		t.Errorf("hold %+v, %t", hold, holds)
	}
	if want := "ann@laptop has stopped all runs until 2026-01-01T12:10:00Z"; hold.String() != want {
		t.Errorf("%s", hold)
	}
	hold.Namespace = "shop"
	if want := "ann@laptop has stopped the runs of namespace shop until 2026-01-01T12:10:00Z"; hold.String() != want {
		t.Errorf("%s", hold)
	}
	if _, holds := objects.HoldOf(lease, noon.Add(10*time.Minute)); holds {
		t.Error("it does not end")
	}
	set("soon", "spec", "renewTime")(lease)
	if _, holds := objects.HoldOf(lease, noon); holds {
		t.Error("a Lease without a time holds")
	}
}
