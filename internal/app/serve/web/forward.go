package web

import (
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"

	"github.com/squall-chaos/squall/internal/app/serve/runs"
)

// forwardedHeader marks a request that a replica has forwarded, which is not
// forwarded again.
const forwardedHeader = "X-Squall-Forwarded"

// forwarding forwards requests to the replica that leads, which knows the live
// runs, if its address is known. Requests about this process itself are not
// forwarded. Requests that read have another transport than those that act.
func (s *Site) forwarding(next http.Handler, read, act *http.Transport) http.Handler {
	return http.HandlerFunc(func(out http.ResponseWriter, request *http.Request) {
		address := s.config.Replica.LeaderAddress()
		switch request.URL.Path {
		case "/metrics", "/healthz", "/readyz":
			address = ""
		}
		if address == "" || request.Header.Get(forwardedHeader) != "" {
			next.ServeHTTP(out, request)
			return
		}
		proxy := httputil.ReverseProxy{
			Transport: act,
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(&url.URL{Scheme: "http", Host: address})
				r.Out.Header.Set(forwardedHeader, s.config.Identity)
				r.SetXForwarded()
			},
			ModifyResponse: func(r *http.Response) error {
				for name := range out.Header() {
					r.Header.Del(name) // guarded has set it
				}
				return nil
			},
			ErrorLog: log.New(io.Discard, "", 0), // ErrorHandler reports the error
			ErrorHandler: func(out http.ResponseWriter, _ *http.Request, _ error) {
				answer(out, http.StatusBadGateway, problem{Error: "the replica that leads does not answer", Hint: "try again: another leads within seconds"})
			},
		}
		if request.Method == http.MethodGet || request.Method == http.MethodHead {
			proxy.Transport = read
			proxy.ErrorHandler = func(out http.ResponseWriter, request *http.Request, _ error) {
				next.ServeHTTP(out, request) // the state of this replica, which may be old
			}
		}
		proxy.ServeHTTP(out, request)
	})
}

// The timeouts of a forwarded request. A read falls back on this replica well
// before writeTimeout. An act has as long as the leader may take for it.
const (
	dialLeader = 2 * time.Second
	readLeader = 5 * time.Second
	actLeader  = runs.StopTimeout + time.Second
)

// toLeader returns a transport to the leader. It uses no HTTP proxy, which would
// see the token.
func toLeader(timeout time.Duration) *http.Transport {
	return &http.Transport{
		DialContext: (&net.Dialer{Timeout: dialLeader}).DialContext, ResponseHeaderTimeout: timeout, IdleConnTimeout: idleTimeout,
	}
}
