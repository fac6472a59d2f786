package words_test

import (
	"strings"
	"testing"

	"github.com/squall-chaos/squall/reports/words"
	"github.com/squall-chaos/squall/runner/event"
)

func TestShare(t *testing.T) {
	for _, test := range []struct {
		share event.Share
		want  string
	}{
		{event.Share{Wanted: 0.5, Achieved: 0.503, Requests: 10000}, "50.3 % of 10000 requests while all proxies had the fault; expected 50.0 %"},
		{event.Share{Wanted: 0.5, Achieved: 0.25, Requests: 1000}, "fewer were hit than chance explains"},
		{event.Share{Wanted: 0.05, Achieved: 0.1, Requests: 10000}, "more were hit than chance explains"},
		{event.Share{Wanted: 1, Achieved: 0.998, Requests: 1000}, "99.8 % of 1000 requests while all proxies had the fault; expected 100.0 %"},
		{event.Share{Wanted: 1, Achieved: 0.5, Requests: 1000}, "some proxies may not have the fault"},
		{event.Share{Wanted: 0.5, Achieved: 0, Requests: 3}, "expected 50.0 %"},
	} {
		got := words.Share(test.share)
		if !strings.Contains(got, test.want) || strings.Contains(test.want, "expected") && strings.Contains(got, "chance") {
			t.Errorf("%+v: %s", test.share, got)
		}
	}
}

// The claim that the calls are clean says when proxies close open connections.
func TestClean(t *testing.T) {
	seen := event.Clean{State: event.CleanSeen, Calls: 12, After: seconds(2)}
	awaited, ahead := seen, seen
	awaited.Closes, awaited.Awaited = seconds(45), true
	ahead.Closes = seconds(45)
	for want, c := range map[string]event.Clean{
		"clean after 2s: 12 calls without a hit": seen,
		"clean after 2s: 12 calls without a hit; the TCP and TLS connections that were open at the rollback were closed 45s after it":                                     awaited,
		"clean after 2s: 12 calls without a hit; the TCP and TLS connections that were open at the rollback are closed 45s after it, and the run has not waited for that": ahead,
		"no calls since the rollback, so it was not observed that the proxies are clean":                                                                                  {State: event.CleanNoCalls},
		"it was not observed that the proxies are clean: Prometheus is down":                                                                                              {State: event.CleanUnobserved, Reason: "Prometheus is down"},
	} {
		if got := words.Clean(c); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
