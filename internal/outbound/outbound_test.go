package outbound_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/squall-chaos/squall/internal/outbound"
)

const limit = 10_000

// counted counts what is read of a body.
type counted struct {
	io.Reader
	read *int
}

func (c counted) Read(to []byte) (int, error) {
	n, err := c.Reader.Read(to)
	*c.read += n
	return n, err
}

func (counted) Close() error { return nil }

// roundTrip is a transport as a function.
type roundTrip func(*http.Request) (*http.Response, error)

func (r roundTrip) RoundTrip(request *http.Request) (*http.Response, error) { return r(request) }

// An answer one byte too long is an error, and no more than the bound is read.
func TestBounded(t *testing.T) {
	for _, test := range []struct {
		length int
		fits   bool
	}{{0, true}, {limit - 1, true}, {limit, true}, {limit + 1, false}, {100 * limit, false}} {
		read := 0
		transport := outbound.Bounded(roundTrip(func(*http.Request) (*http.Response, error) {
			return &http.Response{Body: counted{strings.NewReader(strings.Repeat("x", test.length)), &read}}, nil
		}), limit)
		response, err := transport.RoundTrip(nil)
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		large, is := errors.AsType[*outbound.TooLargeError](err)
		if is == test.fits || len(content) != min(test.length, limit) || read > limit+1 || is && large.Error() != "the answer is larger than 9 KiB" {
			t.Errorf("%d bytes: got %d, read %d, error %v", test.length, len(content), read, err)
		}
	}
}

// A small answer that unpacks to a large one is bounded after it is unpacked.
func TestBoundedUnpacked(t *testing.T) {
	var packed bytes.Buffer
	writer := gzip.NewWriter(&packed)
	_, _ = writer.Write(make([]byte, 100*limit))
	_ = writer.Close()
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
		out.Header().Set("Content-Encoding", "gzip")
		_, _ = out.Write(packed.Bytes())
	}))
	defer server.Close()
	if packed.Len() > limit {
		t.Fatalf("%d bytes are packed", packed.Len())
	}
	client := http.Client{Transport: outbound.Bounded(&http.Transport{}, limit)}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // the server is gone next
	content, err := io.ReadAll(response.Body)
	if _, is := errors.AsType[*outbound.TooLargeError](err); !is || len(content) != limit {
		t.Errorf("%d bytes, error %v", len(content), err)
	}
}

func TestForOrigin(t *testing.T) {
	use := func(name string, used *string) http.RoundTripper {
		return roundTrip(func(*http.Request) (*http.Response, error) { *used = name; return nil, nil })
	}
	for _, test := range []struct {
		server, request string
		trusted         bool
	}{
		{"http://prometheus:9090/sub", "http://prometheus:9090/other", true},
		{"https://user:pw@prometheus", "https://prometheus:443/api", true},
		{"http://prometheus:80", "http://prometheus/", true},
		{"http://prometheus:9090", "https://prometheus:9090/", false},
		{"http://prometheus:9090", "http://prometheus:9091/", false},
		{"http://prometheus", "http://prometheus.evil.example/", false},
		{"https://prometheus", "http://prometheus/", false},
	} {
		server, err := url.Parse(test.server)
		if err != nil {
			t.Fatal(err)
		}
		request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, test.request, http.NoBody)
		used := ""
		_, _ = outbound.ForOrigin(server, use("trusted", &used), use("bare", &used)).RoundTrip(request) //nolint:bodyclose // there is no response
		if (used == "trusted") != test.trusted {
			t.Errorf("%s for %s: %s", test.request, test.server, used)
		}
	}
}
