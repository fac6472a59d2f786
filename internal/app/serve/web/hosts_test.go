package web

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

// A request is answered only if its host is known, or is an address.
func TestHosts(t *testing.T) {
	handler := addressed(Hosts("https://Chaos.example.com:8443/squall", []string{"squall.chaos.svc"}), http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(out, "the page")
	}))
	for host, want := range map[string]int{
		"127.0.0.1": http.StatusOK, "127.0.0.1:8080": http.StatusOK, "10.1.2.3:8080": http.StatusOK, "[::1]:8080": http.StatusOK, "[::1]": http.StatusOK,
		"localhost": http.StatusOK, "LocalHost.:8080": http.StatusOK, "chaos.example.com": http.StatusOK, "squall.chaos.svc:8080": http.StatusOK,
		"evil.example.com": http.StatusMisdirectedRequest, "evil.example.com:8080": http.StatusMisdirectedRequest, "chaos.example.com.evil.example": http.StatusMisdirectedRequest,
		"127.0.0.1.evil.example": http.StatusMisdirectedRequest, "squall.chaos": http.StatusMisdirectedRequest, "": http.StatusMisdirectedRequest, "x.localhost": http.StatusMisdirectedRequest,
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
		r.Host = host
		w := httptest.NewRecorder()
		if handler.ServeHTTP(w, r); w.Code != want || (w.Body.String() == "the page") != (want == http.StatusOK) {
			t.Errorf("%q: %d %s", host, w.Code, w.Body)
		}
	}
}
