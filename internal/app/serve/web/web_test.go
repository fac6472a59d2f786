package web

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/squall-chaos/squall/internal/app/metrics"
	"github.com/squall-chaos/squall/internal/app/serve/directory"
	"github.com/squall-chaos/squall/internal/app/serve/history"
	"github.com/squall-chaos/squall/internal/app/serve/leadership"
	"github.com/squall-chaos/squall/internal/app/serve/runs"
	"github.com/squall-chaos/squall/internal/app/serve/scheduler"
	"github.com/squall-chaos/squall/reports"
	"github.com/squall-chaos/squall/runner/event"
	"github.com/squall-chaos/squall/runner/journal"
)

const (
	token = "t0k3n"
	past  = "20260102-030405-outage-aaaaaa"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fakeReplica is the state of a replica that does not lead.
type fakeReplica struct {
	status Status
	leader string // its address
}

func (r *fakeReplica) Status() Status { return r.status }

func (r *fakeReplica) Ready() error { return errors.New("no replica leads") }

func (r *fakeReplica) Leader() Peer { return Peer{Identity: "leader", Address: r.leader} }

// fakeControls knows one run of another process.
type fakeControls struct{}

func (fakeControls) StartNow(string, string) (string, error) { return "", leadership.ErrNotLeading }

func (fakeControls) Stop(_ context.Context, run, _ string) error {
	if run != "theirs" {
		return runs.ErrNotLive
	}
	return nil
}

func (fakeControls) Pause(context.Context, bool, string) error { return nil }

// fakeRecords shows past runs.
type fakeRecords struct {
	*history.History
	past []reports.Summary
}

func (r *fakeRecords) Past(int) []reports.Summary { return r.past }

// site is a page and an API with a token, and one past run.
func site(t *testing.T) (*Site, http.Handler) {
	t.Helper()
	out := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	records := history.New(history.Config{Directory: out, Log: log})
	writer, err := records.Create(past)
	must(t, err)
	must(t, writer.Close())
	must(t, os.Remove(filepath.Join(out, past, journal.FileName)))
	must(t, os.WriteFile(filepath.Join(out, past, "report.html"), []byte("<p>a report</p>"), 0o600))
	must(t, os.WriteFile(filepath.Join(out, "starts.json"), []byte("not to be seen"), 0o600))
	must(t, os.WriteFile(filepath.Join(filepath.Dir(out), "report.html"), []byte("not to be seen"), 0o600))
	secret := filepath.Join(t.TempDir(), "token")
	must(t, os.WriteFile(secret, []byte(token+"\n"), 0o600))
	s := New(Config{
		Replica:  &fakeReplica{status: Status{Identity: "me", Experiments: []scheduler.Status{{Name: "outage", File: "a.yaml"}}}},
		Records:  &fakeRecords{History: records, past: []reports.Summary{{Run: past, Experiment: "outage", Status: event.StatusCompleted, Link: past + "/report.html"}}},
		Controls: fakeControls{}, Metrics: metrics.New("test").Handler(), Identity: "me", TokenFile: secret, Version: "squall v1",
	})
	return s, s.HTTPServer().Handler
}

func request(t *testing.T, handler http.Handler, method, target, body string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	r.Host = "127.0.0.1:8080"
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w
}

var bearer = []string{"Authorization", "Bearer " + token}

// Each route has the right status, type and content.
func TestRoutes(t *testing.T) {
	_, handler := site(t)
	long := "20260102-030405-" + strings.Repeat("x", 5000)
	for _, test := range []struct {
		method, target, body string
		header               []string
		code                 int
		contentType, says    string
	}{
		{"GET", "/", "", nil, 200, "text/html; charset=utf-8", "<h1>Squall</h1>"},
		{"HEAD", "/", "", nil, 200, "text/html; charset=utf-8", ""},
		{"GET", "/page.js", "", nil, 200, "text/javascript; charset=utf-8", "use strict"},
		{"GET", "/healthz", "", nil, 200, "", "ok"},
		{"GET", "/readyz", "", nil, 503, "", "no replica leads"},
		{"GET", "/metrics", "", nil, 200, "text/plain", "squall_build_info"},
		{"GET", "/api/v1/status", "", nil, 200, "application/json", `"identity": "me"`},
		{"GET", "/api/v1/runs", "", nil, 200, "application/json", past},
		{"GET", "/runs/" + past + "/report.html", "", nil, 200, "text/html; charset=utf-8", "a report"},
		{"GET", "/api/v1/runs/" + past, "", nil, 404, "application/json", "no such record yet"},
		{"GET", "/runs/" + past + "/journal.jsonl", "", nil, 404, "application/json", "no such record yet"},
		{"GET", "/runs/" + past + "/starts.json", "", nil, 404, "", ""},
		{"GET", "/nothing", "", nil, 404, "", ""},

		{"POST", "/", "", bearer, 405, "", ""},
		{"DELETE", "/api/v1/runs/" + past, "", bearer, 405, "", ""},
		{"GET", "/api/v1/pause", "", bearer, 405, "", ""},
		{"PUT", "/api/v1/pause", "", bearer, 405, "", ""},
		{"GET", "/api/v1/experiments/outage/run", "", bearer, 405, "", ""},
		{"POST", "/metrics", "", bearer, 405, "", ""},

		{"POST", "/api/v1/pause", "", nil, 401, "application/json", "missing or wrong"},
		{"POST", "/api/v1/runs/theirs/stop", "", []string{"Authorization", "Bearer wrong"}, 401, "application/json", "missing or wrong"},
		{"POST", "/api/v1/experiments/outage/run", "", []string{"Authorization", "Bearer"}, 401, "application/json", "missing or wrong"},
		{"POST", "/api/v1/pause", "", []string{"Authorization", "Basic " + token}, 401, "application/json", ""},
		{"POST", "/api/v1/pause", "", []string{"Authorization", token}, 401, "application/json", ""},
		{"POST", "/api/v1/pause", "", []string{"Authorization", "Bearer " + token + "x"}, 401, "application/json", ""},
		{"POST", "/api/v1/pause", "", []string{"Authorization", "Bearer "}, 401, "application/json", ""},
		{"POST", "/api/v1/pause?token=" + token, "", []string{"Cookie", "token=" + token}, 401, "application/json", ""},

		{"POST", "/api/v1/pause", "", bearer, 200, "application/json", `"paused": true`},
		{"POST", "/api/v1/pause", `{"paused": false} `, bearer, 200, "application/json", `"paused": false`},
		{"POST", "/api/v1/pause", `{"paused": true}`, bearer, 200, "application/json", `"paused": true`},
		{"POST", "/api/v1/pause", `{"paused"`, bearer, 400, "application/json", "the body is"},
		{"POST", "/api/v1/pause", `{"paused": "false"}`, bearer, 400, "application/json", "the body is"},
		{"POST", "/api/v1/pause", `{"resume": true}`, bearer, 400, "application/json", "the body is"},
		{"POST", "/api/v1/pause", `{"paused": false}{"paused": true}`, bearer, 400, "application/json", "the body is"},
		{"POST", "/api/v1/pause", `{"paused": false}]`, bearer, 400, "application/json", "the body is"},
		{"POST", "/api/v1/pause", `[]`, bearer, 400, "application/json", "the body is"},
		{"POST", "/api/v1/pause", `{"paused": ` + strings.Repeat(" ", 5000) + `true}`, bearer, 413, "application/json", "too large"},
		{"POST", "/api/v1/pause", `{"paused": true}` + strings.Repeat(" ", 5000), bearer, 413, "application/json", "too large"},

		{"POST", "/api/v1/experiments/outage/run", "", bearer, 503, "application/json", "another replica leads"},
		{"POST", "/api/v1/runs/theirs/stop", "", bearer, 200, "application/json", "stopping theirs"},
		{"POST", "/api/v1/runs/nobodys/stop", "", bearer, 404, "application/json", "no such"},
		{"POST", "/api/v1/runs/..%2f..%2ftheirs/stop", "", bearer, 404, "application/json", "no such"},

		// A path out of the directory does not name a run.
		{"GET", "/runs/../report.html", "", nil, 307, "", ""},
		{"GET", "/runs/%2e%2e/report.html", "", nil, 404, "application/json", "no such run"},
		{"GET", "/runs/..%2f/report.html", "", nil, 404, "application/json", "no such run"},
		{"GET", "/runs/%2e%2e%2f" + past + "/report.html", "", nil, 404, "application/json", "no such run"},
		{"GET", "/runs/" + past + "%2f..%2f..%2f/report.html", "", nil, 404, "application/json", "no such run"},
		{"GET", "/runs/" + past + "%2f/report.html", "", nil, 404, "application/json", "no such run"},
		{"GET", "/runs/" + past + "%00/report.html", "", nil, 404, "application/json", "no such run"},
		{"GET", "/runs/..%5c..%5creport.html/report.html", "", nil, 404, "application/json", "no such run"},
		{"GET", "/runs/C:%5c/report.html", "", nil, 404, "application/json", "no such run"},
		{"GET", "/runs/%252e%252e/report.html", "", nil, 404, "application/json", "no such run"},
		{"GET", "/runs/" + long + "/report.html", "", nil, 404, "application/json", "no such run"},
		{"GET", "/api/v1/runs/" + long, "", nil, 404, "application/json", "no such run"},
		{"GET", "/runs//report.html", "", nil, 307, "", ""},
	} {
		t.Run(test.method+" "+test.target[:min(50, len(test.target))], func(t *testing.T) {
			response := request(t, handler, test.method, test.target, test.body, test.header...)
			body := response.Body.String()
			if response.Code != test.code || !strings.HasPrefix(response.Header().Get("Content-Type"), test.contentType) || !strings.Contains(body, test.says) {
				t.Errorf("%d %s: %.300s", response.Code, response.Header().Get("Content-Type"), body)
			}
			if strings.Contains(body, "not to be seen") || strings.Contains(body, token) {
				t.Errorf("it reveals %s", body)
			}
			want := map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
			for name, value := range want {
				if response.Header().Get(name) != value {
					t.Errorf("%s: %q", name, response.Header().Get(name))
				}
			}
			csp := response.Header().Get("Content-Security-Policy")
			for _, part := range []string{"default-src 'none'", "script-src 'self'", "form-action 'none'", "frame-ancestors 'none'", "base-uri 'none'"} {
				if !strings.Contains(csp, part) || strings.Contains(csp, "script-src 'unsafe") {
					t.Errorf("policy %q", csp)
				}
			}
			if (test.code == http.StatusUnauthorized) != (response.Header().Get("WWW-Authenticate") != "") {
				t.Errorf("WWW-Authenticate %q", response.Header().Get("WWW-Authenticate"))
			}
			if location := response.Header().Get("Location"); strings.HasPrefix(location, "//") || strings.Contains(location, ":") {
				t.Errorf("it leads to %s", location)
			}
		})
	}
}

// The token is the current content of the file. Without one every token is
// refused.
func TestTokenFile(t *testing.T) {
	web, handler := site(t)
	name := web.config.TokenFile
	for _, step := range []struct {
		do    func()
		given string
		code  int
	}{
		{func() {}, token, 200},
		{func() { must(t, os.WriteFile(name, []byte("another\n"), 0o600)) }, token, 401},
		{func() {}, "another", 200},
		{func() { must(t, os.WriteFile(name, []byte(" \n"), 0o600)) }, "", 403},
		{func() {}, " ", 403},
		{func() { must(t, os.Remove(name)) }, "another", 403},
		{func() { must(t, os.Mkdir(name, 0o750)) }, "another", 403},
		{func() { web.config.TokenFile = "" }, "", 403},
	} {
		step.do()
		response := request(t, handler, http.MethodPost, "/api/v1/pause", "", "Authorization", "Bearer "+step.given)
		if body := response.Body.String(); response.Code != step.code {
			t.Errorf("%q: %d %s", step.given, response.Code, body)
		}
		writable := strings.Contains(request(t, handler, http.MethodGet, "/", "").Body.String(), "data-post")
		if writable != (step.code != http.StatusForbidden) {
			t.Errorf("%d, but the page has buttons: %t", step.code, writable)
		}
	}
}

// The script finds an element that has the focus or is scrolled by its label, so
// labels are unique.
func TestLabelsAreUnique(t *testing.T) {
	_, handler := site(t)
	page := request(t, handler, http.MethodGet, "/", "").Body.String()
	labels := map[string]bool{}
	regions := regexp.MustCompile(`<[^>]*tabindex="0"[^>]*>`).FindAllString(page, -1)
	for _, region := range regions {
		label := regexp.MustCompile(`aria-label="([^"]+)"`).FindStringSubmatch(region)
		if label == nil || labels[label[1]] || !strings.Contains(region, `class="scroll"`) {
			t.Errorf("%s", region)
			continue
		}
		labels[label[1]] = true
	}
	if len(regions) < 2 {
		t.Errorf("%d regions", len(regions))
	}
}

// The page says how many requests were hit, if that is known.
func TestHits(t *testing.T) {
	web, handler := site(t)
	one, many := 1.2, 12.0
	for want, hit := range map[string]*float64{"<p>observe</p>": nil, "<p>observe, 1 request hit</p>": &one, "<p>observe, 12 requests hit</p>": &many} {
		web.config.Replica = &fakeReplica{status: Status{Live: []runs.Status{{Run: "r", Phase: "observe", Hit: hit}}}}
		if page := request(t, handler, http.MethodGet, "/", "").Body.String(); !strings.Contains(page, want) {
			t.Errorf("no %q in %s", want, page)
		}
	}
}

const hostile = `</script><script>alert(1)</script>"'><img src=x onerror=alert(1)>`

// Text from files and from the cluster is escaped.
func TestHostileTextIsEscaped(t *testing.T) {
	web, handler := site(t)
	web.config.Replica = &fakeReplica{status: Status{
		Paused: hostile, Problem: hostile,
		Live: []runs.Status{{
			Run: hostile, Experiment: hostile, Title: hostile, By: hostile, Host: hostile, Callers: []string{hostile}, Phase: hostile,
			Probes: []runs.ProbeStatus{{Name: hostile, Tolerance: hostile, Value: hostile, Reason: hostile}},
		}},
		Experiments: []scheduler.Status{{Name: hostile, Title: hostile, File: hostile, Cron: hostile, TimeZone: hostile, Forbidden: hostile, Waiting: hostile}, {Name: "b" + hostile}},
		Broken:      []directory.Broken{{File: hostile, Problem: hostile}},
	}}
	web.config.Records = &fakeRecords{past: []reports.Summary{{Run: hostile, Experiment: hostile, Reason: hostile, Link: `javascript:alert(1)//` + hostile}}}
	page := request(t, handler, http.MethodGet, "/", "").Body.String()
	for _, part := range []string{"<script>alert", "<img", `href="javascript:`, "onerror=alert(1)>"} {
		if strings.Contains(page, part) {
			t.Errorf("the page holds %s", part)
		}
	}
	if !strings.Contains(page, "&lt;img") || strings.Count(page, "<script") != 1 {
		t.Error("the text is not shown, or there is another script")
	}
	for _, path := range []string{"/api/v1/status", "/api/v1/runs"} {
		response := request(t, handler, http.MethodGet, path, "")
		if body := response.Body.String(); strings.Contains(body, "<img") || response.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: %s", path, body)
		}
	}
}

// listen serves on a real listener with short timeouts.
func listen(t *testing.T) string {
	t.Helper()
	web, _ := site(t)
	server := web.HTTPServer()
	if server.ReadHeaderTimeout == 0 || server.ReadTimeout == 0 || server.WriteTimeout == 0 || server.IdleTimeout == 0 {
		t.Error("a client may take forever")
	}
	server.ReadHeaderTimeout, server.ReadTimeout = 200*time.Millisecond, 400*time.Millisecond
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.Serve(listener) }() // it ends with an error, always
	t.Cleanup(func() { _ = server.Close(); <-ended })
	return listener.Addr().String()
}

// A client that sends its header or its body byte by byte is cut off.
func TestSlowClients(t *testing.T) {
	address := listen(t)
	for name, start := range map[string]string{
		"header": "GET / HTTP/1.1\r\nHost: x\r\nX-A: ",
		"body":   "POST /api/v1/pause HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token + "\r\nContent-Length: 4000\r\n\r\n{",
	} {
		t.Run(name, func(t *testing.T) {
			connection, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
			must(t, err)
			defer connection.Close() //nolint:errcheck // it is of no use any more
			_, err = io.WriteString(connection, start)
			must(t, err)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				ticker := time.NewTicker(20 * time.Millisecond)
				defer ticker.Stop()
				for range ticker.C {
					if _, err := io.WriteString(connection, " "); err != nil {
						return
					}
				}
			}()
			must(t, connection.SetReadDeadline(time.Now().Add(10*time.Second)))
			if _, err := io.Copy(io.Discard, connection); err != nil && strings.Contains(err.Error(), "timeout") {
				t.Error("the client is not cut off")
			}
			_ = connection.Close()
			<-ended
		})
	}
}

// A header that is too large is refused, and a fragment of HTTP does no harm.
func TestOversizedAndMalformedRequests(t *testing.T) {
	address := listen(t)
	for request, want := range map[string]string{
		"GET / HTTP/1.1\r\nHost: x\r\nX-A: " + strings.Repeat("x", 64<<10) + "\r\n\r\n": " 431 ",
		"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n":                                         " 400 ",
		"GET / HTTP/1.1\r\n\r\n":                                                        " 400 ",
	} {
		connection, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
		must(t, err)
		_, _ = io.WriteString(connection, request) // it may be cut off meanwhile
		line, _ := bufio.NewReader(connection).ReadString('\n')
		if !strings.Contains(line, want) {
			t.Errorf("%.30q: %q", request, line)
		}
		_ = connection.Close()
	}
}
