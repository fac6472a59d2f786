package e2e_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/squall-chaos/squall/sandbox/internal/layout"
)

// report is what these tests read of a JSON report.
type report struct {
	Status, Verdict, Reason string
	Effect                  struct {
		Requests float64
		Complete bool
		Untold   string
		Share    *struct{ Asked, Achieved, Requests float64 }
	}
}

// reported reads the JSON report from a run's directory.
func (s *squall) reported() report {
	s.t.Helper()
	files, err := filepath.Glob(filepath.Join(s.cmd.Dir, "squall-runs", "*", "report.json"))
	if err != nil || len(files) != 1 {
		s.t.Fatalf("reports %v: %v", files, err)
	}
	content, err := os.ReadFile(files[0])
	if err != nil {
		s.t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(content, &r); err != nil {
		s.t.Fatal(err)
	}
	return r
}

// clientsCount reads from the reviews themselves, past Prometheus, how many
// calls they have made to ratings, and how many of those a fault has hit.
func clientsCount(t *testing.T) (calls, hit float64) {
	t.Helper()
	for _, address := range []string{layout.ReviewsV1, layout.ReviewsV2} {
		host, _, _ := strings.Cut(address, ":")
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+layout.Metrics(host)+"/metrics", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(response.Body)
		for lines.Scan() {
			line := lines.Text()
			if !strings.HasPrefix(line, "istio_requests_total{") || !strings.Contains(line, `destination_service="`+ratings+`"`) || !strings.Contains(line, `reporter="source"`) {
				continue
			}
			value, err := strconv.ParseFloat(line[strings.LastIndex(line, " ")+1:], 64)
			if err != nil {
				t.Fatal(err)
			}
			calls += value
			if strings.Contains(line, `response_flags="FI"`) || strings.Contains(line, `response_flags="DI"`) {
				hit += value
			}
		}
		if err := response.Body.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return calls, hit
}

// The effect in the report equals the count of the clients: exactly if all requests
// were scraped, and within a point for the share.
func TestEffectIsWhatTheClientsCounted(t *testing.T) {
	for name, test := range map[string]struct {
		faults string
		asked  float64
	}{
		"abort": {"[{abort: {httpStatus: 503}, percentage: 100}]", 1},
		"delay": {"[{delay: {fixedDelay: 200ms}, percentage: 100}]", 1},
		"half":  {"[{abort: {httpStatus: 503}, percentage: 50}]", 0.5},
	} {
		t.Run(name, func(t *testing.T) {
			_, hitBefore := clientsCount(t)
			s := runFile(t, spec{
				faults: test.faults, duration: "10s", more: "effect: {minRequests: 50}\n  recovery: {within: 30s}",
				// Recovery takes long enough for the last scrape.
				probes: "[{name: always, query: vector(1), min: 1, settle: 4s}]",
			}, "--report", "json")
			s.exits(0)
			_, hit := clientsCount(t)
			effect := s.reported().Effect
			if !effect.Complete || effect.Requests != hit-hitBefore {
				t.Errorf("%+v, but the clients counted %.0f", effect, hit-hitBefore)
			}
			if effect.Share == nil {
				t.Fatalf("no share: %s", effect.Untold)
			}
			t.Logf("asked %.1f %%, achieved %.2f %% of %.0f; all %.0f hits counted", 100*effect.Share.Asked, 100*effect.Share.Achieved, effect.Share.Requests, effect.Requests)
			// Four standard deviations of chance, or a point.
			off := max(0.01, 4*math.Sqrt(test.asked*(1-test.asked)/effect.Share.Requests))
			if effect.Share.Asked != test.asked || math.Abs(effect.Share.Achieved-test.asked) > off {
				t.Errorf("share %+v", effect.Share)
			}
			if !strings.Contains(s.stdout.String(), fmt.Sprintf("expected %.1f %%", 100*test.asked)) {
				t.Error("the summary does not say the share")
			}
		})
	}
}

// An alert of Prometheus' own rules ends the run; a condition that no rule could
// fire refuses it.
func TestAlerts(t *testing.T) {
	abort := spec{duration: "40s", more: "effect: {minRequests: 0}\n  stopConditions: [{name: nothing fires, alerts: {severity: warning}}]"}
	s := runFile(t, abort, "--report", "json")
	s.exits(1)
	if r := s.reported(); r.Status != "stopped" || !strings.HasPrefix(r.Reason, "nothing fires: ") || !strings.Contains(r.Reason, "RatingsFail") && !strings.Contains(r.Reason, "1 is above 0") {
		t.Errorf("%+v", r)
	}
	abort.more = strings.Replace(abort.more, "warning", "wraning", 1)
	s = runFile(t, abort, "--report", "json")
	s.exits(3)
	if r := s.reported(); r.Status != "refused" || !strings.Contains(r.Reason, `no alerting rule fires alerts with severity="wraning"`) {
		t.Errorf("%+v", r)
	}
}
