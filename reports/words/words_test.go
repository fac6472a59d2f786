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
