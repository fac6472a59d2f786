package web

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/squall-chaos/squall/internal/app/serve/runs"
)

// standby serves a replica that is a standby of a leader at an address.
func standby(t *testing.T, address string) *httptest.Server {
	t.Helper()
	replica := httptest.NewServer(standbySite(t, address).handler())
	t.Cleanup(replica.Close)
	return replica
}

func standbySite(t *testing.T, address string) *Site {
	t.Helper()
	s, _ := site(t)
	s.config.Identity = "standby"
	s.config.Replica = &readyReplica{fakeReplica{leader: address, status: Status{Identity: "standby"}}}
	return s
}

// readyReplica is ready.
type readyReplica struct{ fakeReplica }

func (*readyReplica) Ready() error { return nil }

func ask(t *testing.T, method, url string) (code int, body string, header http.Header) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer t0k3n")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // read to its end
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(content), response.Header
}

// A standby forwards requests to the leader, except for those about itself.
func TestAStandbyForwards(t *testing.T) {
	leader := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, request *http.Request) {
		if request.Header.Get(forwardedHeader) != "standby" || request.Header.Get("Authorization") != "Bearer t0k3n" || request.Header.Get("X-Forwarded-For") != "127.0.0.1" {
			t.Errorf("%s with %v", request.URL, request.Header)
		}
		out.Header().Set("X-Content-Type-Options", "nosniff")
		out.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(out, request.Method+" "+request.URL.Path)
	}))
	defer leader.Close()
	replica := standby(t, strings.TrimPrefix(leader.URL, "http://"))
	for path, want := range map[string]int{
		"GET /": http.StatusTeapot, "GET /api/v1/status": http.StatusTeapot, "POST /api/v1/pause": http.StatusTeapot, "GET /runs/a/report.html": http.StatusTeapot,
		"GET /healthz": http.StatusOK, "GET /readyz": http.StatusOK, "GET /metrics": http.StatusOK,
	} {
		method, path, _ := strings.Cut(path, " ")
		code, body, header := ask(t, method, replica.URL+path)
		if code != want || want == http.StatusTeapot && body != method+" "+path || len(header.Values("X-Content-Type-Options")) != 1 {
			t.Errorf("%s %s: %d %q %v", method, path, code, body, header)
		}
	}
}

// While the leader does not answer, a standby shows its own state.
func TestAStandbyWithoutItsLeader(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	replica := standby(t, strings.TrimPrefix(gone.URL, "http://"))
	if code, body, _ := ask(t, http.MethodGet, replica.URL+"/api/v1/status"); code != http.StatusOK || !strings.Contains(body, `"leading": false`) {
		t.Errorf("%d %s", code, body)
	}
	if code, body, _ := ask(t, http.MethodPost, replica.URL+"/api/v1/pause"); code != http.StatusBadGateway || !strings.Contains(body, "does not answer") {
		t.Errorf("%d %s", code, body)
	}
}

// A leader that accepts a request and never answers does not block a standby.
func TestAStandbyWhoseLeaderIsFrozen(t *testing.T) {
	frozen, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0") // the kernel accepts
	must(t, err)
	defer frozen.Close() //nolint:errcheck // it is of no use any more
	web := standbySite(t, frozen.Addr().String())
	known := http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(out, "what it knows") })
	replica := httptest.NewServer(web.forwarding(known, toLeader(50*time.Millisecond), toLeader(100*time.Millisecond)))
	defer replica.Close()
	if code, body, _ := ask(t, http.MethodGet, replica.URL+"/api/v1/status"); code != http.StatusOK || body != "what it knows" {
		t.Errorf("%d %s", code, body)
	}
	if code, body, _ := ask(t, http.MethodPost, replica.URL+"/api/v1/pause"); code != http.StatusBadGateway || !strings.Contains(body, "does not answer") {
		t.Errorf("%d %s", code, body)
	}
	if dialLeader+actLeader >= writeTimeout || actLeader <= runs.StopTimeout {
		t.Error("no time is left for the answer, or the leader has less than it may take")
	}
	if toLeader(time.Second).Proxy != nil {
		t.Error("a proxy may see the token")
	}
}

// Two replicas that each take the other for the leader do not forward forever.
func TestForwardingEnds(t *testing.T) {
	var second *httptest.Server
	first := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, request *http.Request) {
		request.RequestURI = ""
		request.URL.Scheme, request.URL.Host = "http", strings.TrimPrefix(second.URL, "http://")
		response, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			t.Error(err)
			return
		}
		defer response.Body.Close() //nolint:errcheck // read to its end
		out.WriteHeader(response.StatusCode)
		_, _ = io.Copy(out, response.Body)
	}))
	defer first.Close()
	second = standby(t, strings.TrimPrefix(first.URL, "http://"))
	if code, body, _ := ask(t, http.MethodGet, second.URL+"/api/v1/status"); code != http.StatusOK || !strings.Contains(body, `"identity": "standby"`) {
		t.Errorf("%d %s", code, body)
	}
}
