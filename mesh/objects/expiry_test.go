package objects_test

import (
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/squall-chaos/squall/mesh/objects"
)

// A reader sweeps every half minute. The clocks of the runner, the cluster and the
// reader differ. No live run may be swept, and a dead one is within a minute.
func TestExpiryWithWrongClocks(t *testing.T) {
	const (
		sweep    = 30 * time.Second
		deadline = 15 * time.Second
		died     = 4*time.Minute + 7*time.Second
		length   = 8 * time.Minute
	)
	offsets := []time.Duration{-10 * time.Minute, -time.Minute, 0, time.Minute, 10 * time.Minute}
	for _, ofRunner := range offsets {
		for _, ofCluster := range offsets {
			t.Run(fmt.Sprintf("runner %s, cluster %s", ofRunner, ofCluster), func(t *testing.T) {
				expiry := objects.NewExpiry(20 * time.Second)
				var swept time.Duration
				for at := time.Duration(0); at < length; at += sweep {
					live := beatingFor("live", at, ofRunner, ofCluster, length, deadline)
					dead := beatingFor("dead", min(at, died), ofRunner, ofCluster, length, deadline)
					runs := objects.ActiveRuns(objects.Owned{Objects: append(live, dead...)})
					now := noon.Add(at)
					expiry.Mark(runs, objects.Reading{Began: now, Ended: now, Server: now.Add(ofCluster)})
					for _, run := range runs {
						switch {
						case run.Expired && run.ID == "live":
							t.Errorf("the live run is over after %s", at)
						case run.Expired && at < died:
							t.Errorf("the run is over after %s, before its runner has died", at)
						case run.Expired && swept == 0:
							swept = at
						}
					}
				}
				if swept == 0 || swept-died > time.Minute {
					t.Errorf("the runner died after %s, and the run is over after %s", died, swept)
				}
			})
		}
	}
}

// beatingFor returns the objects of a run whose runner was alive up to a time after
// its start. The controllers of the cluster do nothing.
func beatingFor(id string, beat, ofRunner, ofCluster, length, deadline time.Duration) []*unstructured.Unstructured {
	run := objects.Run{ID: id, Expires: noon.Add(length + ofRunner)}
	job := beating(run, noon.Add(ofCluster).Format(time.RFC3339), objects.DeadlineSeconds(beat.Truncate(5*time.Second)+deadline))
	job.SetUID(types.UID("job-of-" + id))
	return []*unstructured.Unstructured{job, found("VirtualService", "vs-"+id, run, job.GetUID())}
}

// Without a heartbeat the date decides, and no clock is trusted by more than ten
// minutes.
func TestExpiryWithoutAHeartbeat(t *testing.T) {
	for offset, expired := range map[time.Duration]bool{-time.Hour: false, 0: false, 9 * time.Minute: false, 11 * time.Minute: true} {
		runs := objects.ActiveRuns(objects.Owned{Objects: []*unstructured.Unstructured{found("VirtualService", "vs", objects.Run{ID: "a", Expires: noon}, "")}})
		new(objects.Expiry).Mark(runs, objects.Reading{Server: noon.Add(offset)})
		if runs[0].Expired != expired {
			t.Errorf("%s after its expiry: expired %t", offset, runs[0].Expired)
		}
	}
}

// Two readings that are too close say nothing, also if each of them took long.
func TestExpiryMeasuresBetweenReadings(t *testing.T) {
	run := objects.Run{ID: "a", Expires: noon.Add(time.Hour)}
	all := objects.Owned{Objects: []*unstructured.Unstructured{beating(run, "2026-01-01T11:59:50Z", 25), found("VirtualService", "vs", run, "uid-of-job")}}
	expiry := objects.NewExpiry(20 * time.Second)
	for _, test := range []struct {
		began, ended time.Duration
		expired      bool
	}{
		{0, 15 * time.Second, false},
		{20 * time.Second, 50 * time.Second, false},
		{34 * time.Second, 35 * time.Second, false},
		{35 * time.Second, 36 * time.Second, true},
	} {
		runs := objects.ActiveRuns(all)
		expiry.Mark(runs, objects.Reading{Began: noon.Add(test.began), Ended: noon.Add(test.ended), Server: noon})
		if runs[0].Expired != test.expired {
			t.Errorf("a reading from %s: expired %t", test.began, runs[0].Expired)
		}
	}
}
