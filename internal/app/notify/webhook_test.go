package notify

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestWebhookBody(t *testing.T) {
	var got string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		got = r.Method + " " + r.URL.String() + " " + r.Header.Get("Content-Type") + "\n" + string(data)
	}))
	defer server.Close()
	w := &webhook{newClient(), server.URL + "/hooks?key=1"}
	defer w.client.CloseIdleConnections()
	at := time.Date(2026, 11, 22, 19, 31, 48, 0, time.UTC)
	m := &message{Event{
		Kind: Finished, Run: "r1", Experiment: "ratings-outage", Title: "It survives", Host: "ratings.prod", Callers: []string{"shop"},
		Verdict: "deviated", Status: "stopped", Reason: "0.2 is below 0.99", ReportURL: "https://squall/r1", From: at, To: at.Add(time.Minute),
	}, at.Add(time.Hour)}
	if err := w.send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	want := "POST /hooks?key=1 application/json\n" +
		`{"event":"finished","run":"r1","experiment":"ratings-outage","title":"It survives","host":"ratings.prod","callers":["shop"],` +
		`"verdict":"deviated","status":"stopped","reason":"0.2 is below 0.99","reportURL":"https://squall/r1","from":"2026-11-22T19:31:48Z","to":"2026-11-22T19:32:48Z",` +
		`"time":"2026-11-22T20:31:48Z","text":"squall: ratings-outage finished, deviated (stopped): it disturbed calls from shop to ratings.prod from 2026-11-22 19:31:48 to 19:32:48 UTC\nreason: 0.2 is below 0.99\nreport: https://squall/r1"}`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
}

// reset closes a connection without an answer.
func reset(w http.ResponseWriter, _ *http.Request) {
	connection, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	if tcp, ok := connection.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = connection.Close()
}

func answer(code int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		// The answer of a server must not be printed: here it contains the secret.
		_, _ = io.WriteString(w, r.URL.String()+" "+r.Header.Get("Authorization"))
	}
}

func TestWebhookFailures(t *testing.T) {
	const secret = "s3cr3t"
	for _, test := range []struct {
		name       string
		handler    http.HandlerFunc
		want       string
		final      bool
		retryAfter time.Duration
	}{
		{"broken", answer(500), "it answered 500 Internal Server Error", false, 0},
		{"unknown", answer(404), "it answered 404 Not Found", true, 0},
		{"strange", answer(599), "it answered 599", false, 0},
		{"too many", answer(429, "Retry-After", "7"), "it answered 429 Too Many Requests", false, 7 * time.Second},
		{"elsewhere", answer(302, "Location", "/"+secret), "it answered 302 Found", true, 0},
		{"reset", reset, "connection reset by peer", false, 0},
		{"hangs", func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		}, "no answer within 10s", false, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := httptest.NewServer(test.handler)
			defer server.Close()
			client := newClient()
			defer client.CloseIdleConnections()
			address := strings.Replace(server.URL, "http://", "http://user:"+secret+"@", 1) + "/" + secret + "?token=" + secret
			name, s, err := parse(address, client)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			got := explain(s.send(ctx, &message{}))
			if diff := cmp.Diff(failure{test.want, test.final, test.retryAfter}, *got, cmp.AllowUnexported(failure{})); diff != "" {
				t.Errorf("failure (-want +got):\n%s", diff)
			}
			if name != server.URL {
				t.Errorf("the target is called %s", name)
			}
		})
	}
}

func TestWebhookTLS(t *testing.T) {
	var calls atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1) }))
	server.Config.ErrorLog = quiet()
	server.StartTLS()
	defer server.Close()
	stranger := &webhook{newClient(), server.URL + "/s3cr3t"}
	if err := stranger.send(t.Context(), &message{}); err == nil || explain(err).text != "certificate signed by unknown authority" {
		t.Errorf("a certificate that nobody knows: %v", err)
	}
	friend := &webhook{server.Client(), server.URL + "/s3cr3t"}
	if err := friend.send(t.Context(), &message{}); err != nil || calls.Load() != 1 {
		t.Errorf("%v, %d calls", err, calls.Load())
	}
}

// One server fails once, one always fails, and one hangs.
func TestDelivery(t *testing.T) {
	var first, hung atomic.Int32
	recovers := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if first.Add(1) == 1 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		}
	}))
	defer recovers.Close()
	refuses := httptest.NewServer(answer(http.StatusForbidden))
	defer refuses.Close()
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		hung.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	defer hangs.Close()
	var told failures
	n, err := New([]string{recovers.URL, refuses.URL + "/s3cr3t", hangs.URL + "/s3cr3t"}, nil, told.add)
	if err != nil {
		t.Fatal(err)
	}
	n.Notify(Event{Kind: Started, Run: "r1"})
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	n.Close(ctx)
	want := []string{
		refuses.URL + `: "started" of run r1 was not delivered: it answered 403 Forbidden`,
		hangs.URL + `: "started" of run r1 was not delivered: ` + errEnded.Error(),
	}
	if diff := cmp.Diff(want, told.all()); diff != "" {
		t.Errorf("failures (-want +got):\n%s", diff)
	}
	if first.Load() != 2 || hung.Load() != 1 {
		t.Errorf("%d calls of the server that recovers, %d of the one that hangs; want 2 and 1", first.Load(), hung.Load())
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 22, 19, 31, 48, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"": 0, "0": 0, "120": 2 * time.Minute, "-3": 0, "soon": 0, "99999999999999999999": 0,
		"Sun, 22 Nov 2026 19:32:18 GMT": 30 * time.Second, "Sun, 22 Nov 2026 19:30:00 GMT": 0,
	} {
		if got := retryAfter(header, now); got != want {
			t.Errorf("%q means %s, want %s", header, got, want)
		}
	}
}
