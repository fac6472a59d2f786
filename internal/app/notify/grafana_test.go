package notify

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// exchange is one request that Grafana expects, and its answer.
type exchange struct {
	want   string
	code   int
	answer string
}

func grafana(t *testing.T, exchanges ...exchange) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		got := r.Method + " " + r.URL.Path + " " + r.Header.Get("Authorization") + " " + string(data)
		if len(exchanges) == 0 {
			t.Errorf("nobody expected %s", got)
			return
		}
		next := exchanges[0]
		exchanges = exchanges[1:]
		if diff := cmp.Diff(next.want, got); diff != "" {
			t.Errorf("request (-want +got):\n%s", diff)
		}
		w.WriteHeader(next.code)
		_, _ = io.WriteString(w, next.answer)
	}))
	t.Cleanup(func() {
		server.Close()
		if len(exchanges) > 0 {
			t.Errorf("%d requests have not come", len(exchanges))
		}
	})
	return server
}

func TestGrafana(t *testing.T) {
	at := time.Date(2026, 11, 22, 19, 31, 48, 0, time.UTC)
	started := &message{Event{Kind: Started, Run: "r1", Experiment: "x", Host: "h"}, at}
	stopped := &message{Event{Kind: Stopped, Run: "r1", Experiment: "x", Host: "h"}, at.Add(30 * time.Second)}
	finished := &message{Event{
		Kind: Finished, Run: "r1", Experiment: "x", Host: "h", Verdict: "held", Status: "completed", From: at.Add(10 * time.Second), To: at.Add(time.Minute),
	}, at.Add(2 * time.Minute)}
	refused := &message{Event{Kind: Finished, Run: "r1", Experiment: "x", Host: "h", Verdict: "inconclusive", Status: "refused"}, at.Add(time.Second)}
	const (
		post   = `POST /sub/api/annotations Bearer one {"time":1795375908000,"tags":["squall","experiment:x","host:h"],"text":"squall: x started: it disturbs calls to h\nto stop it: squall rollback r1"}`
		region = `{"time":1795375918000,"timeEnd":1795375968000,"tags":["squall","experiment:x","host:h","verdict:held"],"text":"squall: x finished, held: it disturbed calls to h from 2026-11-22 19:31:58 to 19:32:48 UTC"}`
		patch  = `PATCH /sub/api/annotations/7 Bearer two ` + region
		whole  = `POST /sub/api/annotations Bearer two ` + region
		none   = `PATCH /sub/api/annotations/7 Bearer two {"tags":["squall","experiment:x","host:h","verdict:inconclusive"],"text":"squall: x finished, inconclusive (refused): no fault was injected in calls to h"}`
	)
	created := exchange{post, 200, `{"id":7,"message":"Annotation added"}`}
	for _, test := range []struct {
		name      string
		messages  []*message
		exchanges []exchange
		want      []string
	}{
		{"a run", []*message{started, stopped, finished}, []exchange{created, {patch, 200, `{}`}}, []string{"", "", ""}},
		{"refused", []*message{started, refused}, []exchange{created, {none, 200, `{}`}}, []string{"", ""}},
		{"refused, and nothing was known of it", []*message{refused}, nil, []string{""}},
		{"the start fails", []*message{started, finished}, []exchange{{post, 403, `one`}, {whole, 200, `{"id":8}`}}, []string{"it answered 403 Forbidden", ""}},
		{"the start's answer is garbage", []*message{started, finished}, []exchange{{post, 200, `<html>one`}, {whole, 200, `{"id":8}`}}, []string{"its answer is not the expected JSON", ""}},
		{"the start's answer has no id", []*message{started, finished}, []exchange{{post, 200, `{}`}, {whole, 200, `{"id":8}`}}, []string{"its answer has no annotation", ""}},
		{"somebody deletes it", []*message{started, finished}, []exchange{created, {patch, 404, ``}, {whole, 200, `{"id":8}`}}, []string{"", ""}},
		{"the end fails for now", []*message{started, finished, finished}, []exchange{created, {patch, 502, ``}, {patch, 200, ``}}, []string{"", "it answered 502 Bad Gateway", ""}},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := grafana(t, test.exchanges...)
			file := filepath.Join(t.TempDir(), "token")
			write(t, file, " one\n")
			client := newClient()
			defer client.CloseIdleConnections()
			_, a, err := newAnnotator(Grafana{server.URL + "/sub/", file}, client)
			if err != nil {
				t.Fatal(err)
			}
			for i, m := range test.messages {
				told := ""
				if err := a.send(t.Context(), m); err != nil {
					told = explain(err).text
				}
				if told != test.want[i] {
					t.Errorf("%s: %q, want %q", m.Kind, told, test.want[i])
				}
				write(t, file, "two")
			}
		})
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestGrafanaRefused(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "token")
	write(t, empty, "\n")
	for _, test := range []struct {
		grafana Grafana
		want    string
	}{
		{Grafana{URL: "grafana.example.com"}, "the URL of Grafana: it must begin with http:// or https://"},
		{Grafana{URL: "https://u:s3cr3t@%zz"}, "this is not the URL of a Grafana server"},
		{Grafana{URL: "https://grafana", TokenFile: empty}, "the token of Grafana: FILE is empty"},
		{Grafana{URL: "https://grafana", TokenFile: empty + "s"}, "the token of Grafana: open FILEs: no such file or directory"},
	} {
		_, err := New(nil, &test.grafana, nil)
		if err == nil || strings.ReplaceAll(err.Error(), empty, "FILE") != test.want {
			t.Errorf("%v, want %s", err, test.want)
		}
	}
}

func TestGrafanaThroughTheNotifier(t *testing.T) {
	server := httptest.NewServer(answer(http.StatusUnauthorized))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "token")
	write(t, file, "s3cr3t")
	var told failures
	n, err := New(nil, &Grafana{server.URL, file}, told.add)
	if err != nil {
		t.Fatal(err)
	}
	n.Notify(Event{Kind: Started, Run: "r1"})
	n.Close(t.Context())
	want := []string{strings.Replace(server.URL, "http", "grafana", 1) + `: "started" of run r1 was not delivered: it answered 401 Unauthorized`}
	if diff := cmp.Diff(want, told.all()); diff != "" {
		t.Errorf("failures (-want +got):\n%s", diff)
	}
}
