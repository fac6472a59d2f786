package prom_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/squall-chaos/squall/steady-state/prom"
)

const one = `{"status":"success","data":{"resultType":"scalar","result":[1,"7"]}}`

// asking returns a client of a server, with the content of an http_config unless it
// is empty.
func asking(t *testing.T, httpConfig string, handler http.HandlerFunc) *prom.Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	file := ""
	if httpConfig != "" {
		file = filepath.Join(t.TempDir(), "http.yaml")
		if err := os.WriteFile(file, []byte(httpConfig), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	client, err := prom.New(server.URL, file)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// Credentials are for the configured server. It may be taken over, or redirect
// without a bad intent.
func TestCredentialsDoNotFollowARedirect(t *testing.T) {
	const secrets = "http_headers: {X-Secret: {secrets: [s3cret]}}\n"
	for name, credentials := range map[string]string{
		"authorization": "authorization: {credentials: s3cret}\n" + secrets,
		"basic":         "basic_auth: {username: ann, password: s3cret}\n" + secrets,
		"bearer":        "bearer_token: s3cret\n" + secrets,
	} {
		t.Run(name, func(t *testing.T) {
			var other *httptest.Server
			reached := 0
			other = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				reached++
				if r.Header.Get("Authorization") != "" || r.Header.Get("X-Secret") != "" {
					t.Errorf("the other server is sent %v", r.Header)
				}
				fmt.Fprint(w, one)
			}))
			defer other.Close()
			handler := func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") == "" || r.Header.Get("X-Secret") != "s3cret" {
					t.Errorf("the server is sent %v", r.Header)
				}
				if r.URL.Path != "/moved" {
					http.Redirect(w, r, "/moved", http.StatusTemporaryRedirect)
					return
				}
				http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
			}
			samples, err := asking(t, credentials, handler).Query(t.Context(), "up")
			if err != nil || len(samples) != 1 || reached != 1 {
				t.Errorf("%v, error %v, reached %d times", samples, err, reached)
			}
			_, err = asking(t, credentials+"follow_redirects: false\n", handler).Query(t.Context(), "up")
			if err == nil || !strings.Contains(err.Error(), "/moved, and follow_redirects is false") || reached != 1 {
				t.Errorf("error %v, reached %d times", err, reached)
			}
		})
	}
}

// An answer without end, also packed, has no verdict and takes no memory.
func TestAnswersAreBounded(t *testing.T) {
	endless := func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := w.Write(bytes.Repeat([]byte(" "), 1<<16)); err != nil {
				return
			}
		}
	}
	var bomb bytes.Buffer
	writer := gzip.NewWriter(&bomb)
	_, _ = writer.Write(make([]byte, 8<<20))
	_ = writer.Close()
	packed := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(bomb.Bytes())
	}
	for name, test := range map[string]struct {
		handler    http.HandlerFunc
		httpConfig string
		// notUnpacked reports that the transport does not unpack, so that the answer is
		// not JSON.
		notUnpacked bool
	}{
		"endless": {handler: endless}, "packed": {handler: packed},
		"endless, configured": {handler: endless, httpConfig: "enable_http2: true\n"}, "packed, configured": {handler: packed, httpConfig: "enable_http2: true\n", notUnpacked: true},
	} {
		t.Run(name, func(t *testing.T) {
			client := asking(t, test.httpConfig, test.handler)
			_, query := client.Query(t.Context(), "up")
			_, alerts := client.Alerts(t.Context(), nil)
			_, version := client.Version(t.Context())
			for _, err := range []error{query, alerts, version} {
				if err == nil || !strings.Contains(err.Error(), "the answer is larger than 4096 KiB") && !test.notUnpacked {
					t.Errorf("error %v", err)
				}
			}
		})
	}
}

func TestSeriesAndMessagesAreBounded(t *testing.T) {
	series := func(n int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.FormValue("limit") != "10000" {
				t.Errorf("form %v", r.Form)
			}
			fmt.Fprint(w, `{"status":"success","data":{"resultType":"vector","result":[`+strings.TrimSuffix(strings.Repeat(`{"metric":{},"value":[1,"1"]},`, n), ",")+`]}}`)
		}
	}
	if samples, err := asking(t, "", series(9_999)).Query(t.Context(), "up"); err != nil || len(samples) != 9_999 {
		t.Errorf("%d samples, error %v", len(samples), err)
	}
	if _, err := asking(t, "", series(10_000)).Query(t.Context(), "up"); err == nil || err.Error() != "the query returns 10000 series or more" {
		t.Errorf("error %v", err)
	}
	_, err := asking(t, "", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"status":"error","errorType":"bad_data","error":%q}`, strings.Repeat("x", 1<<20))
	}).Query(t.Context(), "up")
	if err == nil || len(err.Error()) > 1200 {
		t.Errorf("error of %d bytes", len(err.Error()))
	}
}

// The time and memory for answers of a server that means harm.
func BenchmarkHostileAnswers(b *testing.B) {
	series := []byte(`{"status":"success","data":{"resultType":"vector","result":[` + strings.TrimSuffix(strings.Repeat(`{"metric":{"__name__":"x","instance":"i"},"value":[1,"1"]},`, 300_000), ",") + `]}}`)
	var packed bytes.Buffer
	writer := gzip.NewWriter(&packed)
	for range 256 {
		_, _ = writer.Write(make([]byte, 1<<20))
	}
	_ = writer.Close()
	largest := []byte(`{"status":"success","data":{"resultType":"vector","result":[` + strings.TrimSuffix(strings.Repeat(`{"metric":{},"value":[1,"1"]},`, 130_000), ",") + `]}}`)
	for name, answer := range map[string]struct {
		body     []byte
		encoding string
	}{"300000 series": {series, ""}, "packed": {packed.Bytes(), "gzip"}, "largest": {largest, ""}} {
		b.Run(name, func(b *testing.B) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if answer.encoding != "" {
					w.Header().Set("Content-Encoding", answer.encoding)
				}
				_, _ = w.Write(answer.body)
			}))
			defer server.Close()
			client, err := prom.New(server.URL, "")
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := client.Query(b.Context(), "up"); err == nil {
					b.Fatal("the answer is accepted")
				}
			}
		})
	}
}
