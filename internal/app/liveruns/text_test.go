package liveruns_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/internal/app/liveruns"
	"github.com/squall-chaos/squall/mesh/objects"
)

func TestWriteText(t *testing.T) {
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	fault := func(callers string, heartbeat time.Time, orphaned bool) objects.ActiveFault {
		return objects.ActiveFault{Host: "ratings.prod.svc.cluster.local", Callers: callers, Created: noon.Add(-90 * time.Second), Heartbeat: heartbeat, Orphaned: orphaned}
	}
	var out bytes.Buffer
	err := liveruns.WriteText(&out, liveruns.Listing{Time: noon, Runs: []objects.ActiveRun{
		{ID: "one", Experiment: "outage", Owner: "ann@laptop", Phase: "observe", Expires: noon.Add(time.Minute), Faults: []objects.ActiveFault{fault("shop", noon.Add(12*time.Second), false), fault("prod", time.Time{}, true)}},
		{ID: "two", Owner: "a\nnew line\x1b[2J", Expired: true, Expires: noon.Add(-time.Hour), StoppedBy: "bob", Created: noon.Add(-2 * time.Hour)},
	}})
	want := `RUN   EXPERIMENT   HOST                             CALLERS   AGE    EXPIRES   HEARTBEAT   OWNER            PHASE     STATE
one   outage       ratings.prod.svc.cluster.local   shop      90s    in 60s    in 12s      ann@laptop       observe   live
one   outage       ratings.prod.svc.cluster.local   prod      90s    in 60s    -           ann@laptop       observe   ORPHANED
two   -            -                                -         120m   60m ago   -           a new line [2J   -         no fault, EXPIRED, stopped by bob
`
	if diff := cmp.Diff(want, out.String()); err != nil || diff != "" {
		t.Errorf("error %v: %s", err, diff)
	}
}
