package web

import (
	"bytes"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"

	"github.com/squall-chaos/squall/internal/app/serve/runs"
	"github.com/squall-chaos/squall/internal/outbound"
)

// forwarding forwards requests to the replica that leads, which knows the live
// runs, if its address is known. Requests about this process itself are not
// forwarded. Requests that read have another transport than those that act.
func (s *Site) forwarding(next http.Handler, read, act http.RoundTripper) http.Handler {
	return http.HandlerFunc(func(out http.ResponseWriter, request *http.Request) {
		leader := s.config.Replica.Leader()
		switch request.URL.Path {
		case "/metrics", "/healthz", "/readyz", "/page.js":
			leader = Peer{}
		}
		if leader.Address == "" || request.Header.Get(forwardedHeader) != "" {
			next.ServeHTTP(out, request)
			return
		}
		token, err := s.token()
		if err != nil {
			token = "" // nothing can be proven, and nothing can be done
		}
		reads := request.Method == http.MethodGet || request.Method == http.MethodHead
		if !reads {
			if refused := s.refusal(request); refused != nil {
				refused.write(out)
				return
			}
		}
		body, err := io.ReadAll(request.Body)
		if err != nil {
			answer(out, codeOf(err), problem{Error: err.Error()})
			return
		}
		request.Body = io.NopCloser(bytes.NewReader(body))
		proxy := s.proxy(token, leader, body, act)
		if reads {
			proxy.Transport = read
			proxy.ErrorHandler = func(out http.ResponseWriter, request *http.Request, _ error) {
				next.ServeHTTP(out, request) // the state of this replica, which may be old
			}
		}
		proxy.ServeHTTP(out, request)
	})
}

// proxy forwards a request with a body to the leader.
func (s *Site) proxy(token string, leader Peer, body []byte, transport http.RoundTripper) httputil.ReverseProxy {
	return httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: leader.Address})
			r.Out.Header = http.Header{forwardedHeader: {s.config.Identity}}
			for _, name := range []string{"Accept", "Content-Type"} {
				if value := r.In.Header.Get(name); value != "" {
					r.Out.Header.Set(name, value)
				}
			}
			if token != "" {
				prove(token, s.config.Identity, leader.Identity, peerOf(r.In), r.Out, body)
			}
		},
		ModifyResponse: func(r *http.Response) error {
			if token != "" {
				if err := verify(token, r); err != nil {
					return err
				}
			}
			r.Header = http.Header{"Content-Type": r.Header.Values("Content-Type")} // guarded sets the others
			return nil
		},
		ErrorLog: log.New(io.Discard, "", 0), // ErrorHandler reports the error
		ErrorHandler: func(out http.ResponseWriter, _ *http.Request, err error) {
			if errors.Is(err, errUnproven) {
				answer(out, http.StatusBadGateway, problem{Error: err.Error(), Hint: "all replicas need the same token"})
				return
			}
			answer(out, http.StatusBadGateway, problem{Error: "the replica that leads does not answer", Hint: "try again: another leads within seconds"})
		},
	}
}

// The timeouts of a forwarded request. A read falls back on this replica well
// before writeTimeout. An act has as long as the leader may take for it.
const (
	dialLeader = 2 * time.Second
	readLeader = 5 * time.Second
	actLeader  = runs.StopTimeout + time.Second
)

// toLeader returns a transport to the leader. It uses no HTTP proxy.
func toLeader(timeout time.Duration) http.RoundTripper {
	return outbound.Bounded(&http.Transport{
		DialContext: (&net.Dialer{Timeout: dialLeader}).DialContext, ResponseHeaderTimeout: timeout, IdleConnTimeout: idleTimeout,
	}, 2*maxForwarded)
}
