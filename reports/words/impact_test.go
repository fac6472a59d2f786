package words_test

import (
	"testing"
	"time"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/mesh/impact"
	"github.com/squall-chaos/squall/reports/words"
)

func seconds(n time.Duration) experiments.Duration {
	return experiments.Duration{Duration: n * time.Second}
}

func TestWaits(t *testing.T) {
	const load = "; less under load, because one connect timeout fails all that wait at that time"
	for want, waits := range map[string][]impact.Wait{
		"a dropped request waits up to 30s (3 attempts of 10s)" + load: {{Protocol: "http", Longest: seconds(30), Attempts: 3, ConnectTimeout: seconds(10)}},
		"a dropped request waits up to 2s, the timeout of its route; a dropped request waits up to 10s; a dropped connection waits up to 5s" + load: {
			{Protocol: "http", Longest: seconds(2), Attempts: 3, ConnectTimeout: seconds(10), Timeout: seconds(2)},
			{Protocol: "http", Longest: seconds(10), Attempts: 1, ConnectTimeout: seconds(10)},
			{Protocol: "tcp", Longest: seconds(5), Attempts: 1, ConnectTimeout: seconds(5)},
		},
	} {
		if got := words.Waits(waits); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestCloses(t *testing.T) {
	want := "all open TCP and TLS connections of the callers to ports 5432, 7070 are closed 45s after the fault starts, and again 45s after it ends, whatever its percentage"
	if got := words.Closes(impact.Closing{Ports: []int64{5432, 7070}, After: seconds(45)}); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// A blackhole of TCP takes connections, and no requests.
func TestFaultOfConnections(t *testing.T) {
	all := experiments.Percentage(100)
	f := experiments.Fault{Blackhole: &experiments.Blackhole{Mode: experiments.Reject}, Percentage: &all}
	for want, d := range map[string]mesh.Decision{
		"blackhole (reject), 100 % of requests":    {},
		"blackhole (reject), 100 % of connections": {Connections: true},
	} {
		if got := words.FaultOf(d, f); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
