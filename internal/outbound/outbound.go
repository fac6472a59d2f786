// Package outbound has the rules for HTTP requests to servers that users name: an
// answer is bounded, and credentials go to the configured server only.
package outbound

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// Bounded returns a transport whose answers end with a *TooLargeError after limit
// bytes. Bytes that next has unpacked are counted unpacked.
func Bounded(next http.RoundTripper, limit int64) http.RoundTripper {
	return bounded{next: next, limit: limit}
}

// TooLargeError is the error for an answer that is longer than Limit bytes.
type TooLargeError struct{ Limit int64 }

// Error implements error.
func (e *TooLargeError) Error() string {
	return fmt.Sprintf("the answer is larger than %d KiB", e.Limit>>10)
}

type bounded struct {
	next  http.RoundTripper
	limit int64
}

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := b.next.RoundTrip(request)
	if err == nil {
		// One byte more shows that there is more.
		response.Body = &body{ReadCloser: response.Body, left: b.limit + 1, limit: b.limit}
	}
	return response, err
}

type body struct {
	io.ReadCloser
	left, limit int64
}

// Read implements io.Reader.
func (b *body) Read(to []byte) (int, error) {
	if b.left <= 0 {
		return 0, &TooLargeError{Limit: b.limit}
	}
	n, err := b.ReadCloser.Read(to[:min(int64(len(to)), b.left)])
	if b.left -= int64(n); b.left <= 0 {
		return n - 1, &TooLargeError{Limit: b.limit}
	}
	return n, err
}

// ForOrigin returns a transport that sends requests to the origin of server, its
// scheme, host and port, with trusted, and requests to all others with bare: those
// are redirects.
func ForOrigin(server *url.URL, trusted, bare http.RoundTripper) http.RoundTripper {
	return forOrigin{origin: originOf(server), trusted: trusted, bare: bare}
}

type forOrigin struct {
	origin        origin
	trusted, bare http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (f forOrigin) RoundTrip(request *http.Request) (*http.Response, error) {
	if originOf(request.URL) == f.origin {
		return f.trusted.RoundTrip(request)
	}
	return f.bare.RoundTrip(request)
}

// origin is what identifies a server.
type origin struct{ scheme, host, port string }

func originOf(u *url.URL) origin {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return origin{scheme: u.Scheme, host: u.Hostname(), port: port}
}

// RedirectError is the error for a redirect that is not followed.
type RedirectError struct {
	// To is the URL without a password.
	To string
}

// Error implements error.
func (r *RedirectError) Error() string { return "it redirects to " + r.To }

// FollowNone makes every redirect a *RedirectError. It is for
// http.Client.CheckRedirect.
func FollowNone(request *http.Request, _ []*http.Request) error {
	return &RedirectError{To: request.URL.Redacted()}
}
