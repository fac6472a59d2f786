package torture_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"

	"github.com/squall-chaos/squall/sandbox/internal/layout"
)

// counters answers queries about Istio's metrics in place of Prometheus: the callers of
// a slot are namespaces without pods, so nothing would be scraped there. It has 100 calls
// a second that no fault hits, scraped at every moment. All other queries go to the real
// Prometheus.
func counters(s *slot) *httptest.Server {
	real := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: layout.Prometheus})
	return httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			return // the client has left
		}
		form, _ := url.ParseQuery(string(body))
		if !strings.Contains(cmp.Or(form.Get("query"), request.URL.Query().Get("query")), "istio_requests_total") {
			request.Body = io.NopCloser(bytes.NewReader(body))
			real.ServeHTTP(out, request)
			return
		}
		out.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(out).Encode(map[string]any{"status": "success", "data": map[string]any{"resultType": "vector", "result": scraped(s)}})
	}))
}

// scraped returns the counters, and the times of their last scrape, in the form of the
// queries of the effect.
func scraped(s *slot) []any {
	now := float64(time.Now().UnixMilli()) / 1000
	var samples []any
	add := func(kind string, value float64, more ...string) {
		labels := map[string]string{"source_workload_namespace": s.callers[0], "job": "torture", "instance": "torture"}
		for i := 0; i < len(more); i += 2 {
			labels[more[i]] = more[i+1]
		}
		if kind != "" {
			labels["squall"] = kind
		}
		samples = append(samples, map[string]any{"metric": labels, "value": []any{now, fmt.Sprint(value)}})
	}
	calls := []string{"reporter", "source", "destination_service", s.host, "response_flags", "-"}
	add("", 100*now, calls...)
	add("scraped", now, calls...)
	add("target", now)
	return samples
}
