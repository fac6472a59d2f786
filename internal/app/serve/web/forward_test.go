package web

import (
	"cmp"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
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

// leading serves a handler as the leader does, with its proofs.
func leading(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	s, _ := site(t)
	s.config.Identity = "leader"
	leader := httptest.NewServer(s.proven(handler))
	t.Cleanup(leader.Close)
	return leader
}

// A standby forwards requests to the leader, except for those about itself. It sends
// no token.
func TestAStandbyForwards(t *testing.T) {
	leader := leading(t, func(out http.ResponseWriter, request *http.Request) {
		client, forwarded := clientOf(request)
		if request.Header.Get(forwardedHeader) != "standby" || request.Header.Get("Authorization") != "" || !forwarded || client.String() != "127.0.0.1" {
			t.Errorf("%s with %v for %s", request.URL, request.Header, client)
		}
		out.Header().Set("X-Content-Type-Options", "nosniff")
		out.WriteHeader(http.StatusTeapot)
		body, _ := io.ReadAll(request.Body)
		_, _ = io.WriteString(out, request.Method+" "+request.URL.Path+" "+string(body))
	})
	replica := standby(t, strings.TrimPrefix(leader.URL, "http://"))
	for path, want := range map[string]int{
		"GET /": http.StatusTeapot, "GET /api/v1/status": http.StatusTeapot, "POST /api/v1/pause": http.StatusTeapot, "GET /runs/a/report.html": http.StatusTeapot,
		"HEAD /": http.StatusTeapot, "GET /healthz": http.StatusOK, "GET /readyz": http.StatusOK, "GET /metrics": http.StatusOK, "GET /page.js": http.StatusOK,
	} {
		method, path, _ := strings.Cut(path, " ")
		code, body, header := ask(t, method, replica.URL+path)
		if code != want || want == http.StatusTeapot && method != http.MethodHead && body != method+" "+path+" {}" || len(header.Values("X-Content-Type-Options")) != 1 {
			t.Errorf("%s %s: %d %q %v", method, path, code, body, header)
		}
	}
}

// The address of the leader is from a Lease that others may be able to write: what
// listens there is sent no token, and what it answers is not shown.
func TestAFalseLeader(t *testing.T) {
	listener := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, request *http.Request) {
		content, _ := httputil.DumpRequest(request, true)
		if strings.Contains(string(content), token) {
			t.Errorf("it is sent %s", content)
		}
		out.Header().Set(proofHeader, request.Header.Get(proofHeader))
		_, _ = io.WriteString(out, "<script>")
	}))
	defer listener.Close()
	replica := standby(t, strings.TrimPrefix(listener.URL, "http://"))
	for path, want := range map[string]string{
		"GET /": "squall", "GET /api/v1/status": `"identity": "standby"`, "POST /api/v1/pause": "does not prove that it knows the token", "POST /api/v1/experiments/a/run": "does not prove",
	} {
		method, path, _ := strings.Cut(path, " ")
		if code, body, _ := ask(t, method, replica.URL+path); !strings.Contains(body, want) || strings.Contains(body, "<script>") || (method == http.MethodPost) != (code == http.StatusBadGateway) {
			t.Errorf("%s %s: %d %s", method, path, code, body)
		}
	}
}

// A standby forwards no act of a client without the token.
func TestAStandbyRequiresTheToken(t *testing.T) {
	listener := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it is forwarded") }))
	defer listener.Close()
	handler := standbySite(t, strings.TrimPrefix(listener.URL, "http://")).handler()
	if got := request(t, handler, http.MethodPost, "/api/v1/pause", "", "Authorization", "Bearer wrong"); got.Code != http.StatusUnauthorized {
		t.Errorf("%d %s", got.Code, got.Body)
	}
}

// A proof is worth something once, for one request, at one replica.
func TestProofs(t *testing.T) {
	s, _ := site(t)
	s.config.Identity = "leader"
	acted := 0
	handler := s.proven(s.trusted(func(owner string, _ *http.Request) (any, error) {
		if acted++; owner != "API from 192.0.2.7 through 192.0.2.1" { // the second is from httptest
			t.Errorf("by %s", owner)
		}
		return done{}, nil
	}))
	const body = `{"paused": false}`
	for name, test := range map[string]struct {
		to     string
		change func(r *http.Request)
		body   string
		want   int
	}{
		"valid":              {want: http.StatusOK},
		"for another":        {to: "false-leader", want: http.StatusUnauthorized},
		"another body":       {body: "{}", want: http.StatusUnauthorized},
		"another method":     {change: func(r *http.Request) { r.Method = http.MethodPut }, want: http.StatusUnauthorized},
		"another path":       {change: func(r *http.Request) { r.URL.Path = "/api/v1/experiments/a/run" }, want: http.StatusUnauthorized},
		"another query":      {change: func(r *http.Request) { r.URL.RawQuery = "a=b" }, want: http.StatusUnauthorized},
		"another client":     {change: func(r *http.Request) { r.Header.Set(clientHeader, "192.0.2.9") }, want: http.StatusUnauthorized},
		"another time":       {change: func(r *http.Request) { r.Header.Set(timeHeader, time.Now().Format(time.RFC3339Nano)) }, want: http.StatusUnauthorized},
		"another nonce":      {change: func(r *http.Request) { r.Header.Set(nonceHeader, "x") }, want: http.StatusUnauthorized},
		"without a proof":    {change: func(r *http.Request) { r.Header.Del(proofHeader) }, want: http.StatusUnauthorized},
		"no address":         {change: func(r *http.Request) { sign(r, "root, the boss", time.Now()) }, want: http.StatusUnauthorized},
		"an hour ago":        {change: func(r *http.Request) { sign(r, "192.0.2.7", time.Now().Add(-time.Hour)) }, want: http.StatusUnauthorized},
		"in an hour":         {change: func(r *http.Request) { sign(r, "192.0.2.7", time.Now().Add(time.Hour)) }, want: http.StatusUnauthorized},
		"clocks that differ": {change: func(r *http.Request) { sign(r, "192.0.2.7", time.Now().Add(5*time.Minute)) }, want: http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api/v1/pause", strings.NewReader(cmp.Or(test.body, body)))
			prove(token, "standby", cmp.Or(test.to, "leader"), "192.0.2.7", r, []byte(body))
			if test.change != nil {
				test.change(r)
			}
			again := r.Clone(t.Context())
			again.Body = io.NopCloser(strings.NewReader(cmp.Or(test.body, body)))
			acted = 0
			got := httptest.NewRecorder()
			handler.ServeHTTP(got, r)
			if got.Code != test.want || (acted == 1) != (test.want == http.StatusOK) {
				t.Errorf("%d %s, acted %d times", got.Code, got.Body, acted)
			}
			got = httptest.NewRecorder()
			if handler.ServeHTTP(got, again); got.Code != http.StatusUnauthorized {
				t.Errorf("again: %d %s", got.Code, got.Body)
			}
		})
	}
}

// sign replaces the client and the time of a request with a proof.
func sign(r *http.Request, client string, at time.Time) {
	r.Header.Set(clientHeader, client)
	r.Header.Set(timeHeader, at.Format(time.RFC3339))
	r.Header.Set(proofHeader, requestMAC(token, "leader", r, []byte(`{"paused": false}`)))
}

// The owner of an act is the address of the peer, whatever the headers say.
func TestTheOwnerCannotBeMadeUp(t *testing.T) {
	s, _ := site(t)
	handler := s.proven(s.trusted(func(owner string, _ *http.Request) (any, error) {
		if owner != "API from 192.0.2.1" {
			t.Errorf("by %s", owner)
		}
		return done{}, nil
	}))
	header := append([]string{forwardedHeader, "y", clientHeader, "192.0.2.7", "X-Forwarded-For", "root, the boss"}, bearer...)
	if got := request(t, handler, http.MethodPost, "/api/v1/pause", "", header...); got.Code != http.StatusOK {
		t.Errorf("%d %s", got.Code, got.Body)
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
