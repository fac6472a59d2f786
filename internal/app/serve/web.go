package serve

import (
	"crypto/sha256"
	"crypto/subtle"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/squall-chaos/squall/internal/app/records"
	"github.com/squall-chaos/squall/reports"
	"github.com/squall-chaos/squall/runner/journal"
)

//go:embed page.html
var pageText string

//go:embed page.js
var pageScript []byte

//nolint:gochecknoglobals // a constant template
var page = template.Must(template.New("page").Parse(pageText))

// Web is the status page and the API.
type Web struct {
	Server  *Server
	Metrics http.Handler
	// TokenFile holds the token of whoever may start, stop and pause; nobody may
	// without one.
	TokenFile string
	// Version is shown.
	Version string
}

// The bounds on what a client may ask of the server.
const (
	maxBody      = 4 << 10
	maxHeader    = 16 << 10
	readTimeout  = 5 * time.Second
	writeTimeout = 30 * time.Second
	idleTimeout  = time.Minute
	pastShown    = 200
)

// HTTPServer gives the server of the page, without a listener.
func (w *Web) HTTPServer() *http.Server {
	return &http.Server{
		Handler: w.handler(), ReadHeaderTimeout: readTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeader,
	}
}

func (w *Web) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", w.page)
	mux.HandleFunc("GET /page.js", func(out http.ResponseWriter, _ *http.Request) {
		out.Header().Set("Content-Type", "text/javascript; charset=utf-8")
		_, _ = out.Write(pageScript) // the client's error
	})
	mux.HandleFunc("GET /healthz", w.healthy)
	mux.HandleFunc("GET /readyz", w.ready)
	mux.Handle("GET /metrics", w.Metrics)
	mux.HandleFunc("GET /api/v1/status", func(out http.ResponseWriter, _ *http.Request) { answer(out, http.StatusOK, w.Server.Status()) })
	mux.HandleFunc("GET /api/v1/runs", func(out http.ResponseWriter, _ *http.Request) {
		answer(out, http.StatusOK, struct {
			Runs []reports.Summary `json:"runs"`
		}{w.Server.Past(pastShown)})
	})
	mux.HandleFunc("GET /api/v1/runs/{id}", w.record(reports.FormatJSON.FileName(), "application/json"))
	mux.HandleFunc("GET /runs/{id}/report.html", w.record(reports.FormatHTML.FileName(), "text/html; charset=utf-8"))
	mux.HandleFunc("GET /runs/{id}/journal.jsonl", w.record(journal.FileName, "application/jsonl"))
	mux.HandleFunc("POST /api/v1/runs/{id}/stop", w.trusted(w.stop))
	mux.HandleFunc("POST /api/v1/experiments/{name}/run", w.trusted(w.run))
	mux.HandleFunc("POST /api/v1/pause", w.trusted(w.pause))
	return guarded(w.forwarding(mux, toLeader(lookTimeout), toLeader(actTimeout)))
}

// healthy answers as long as the server's state can be had: a server that has
// locked itself in is restarted.
func (w *Web) healthy(out http.ResponseWriter, _ *http.Request) {
	w.Server.Status()
	_, _ = io.WriteString(out, "ok\n") // the client's error
}

// ready answers whether the replica can do its part: it knows the experiments, and
// which replica leads, so that it reaches the API server.
func (w *Web) ready(out http.ResponseWriter, _ *http.Request) {
	if reason := w.Server.unready(); reason != "" {
		http.Error(out, reason, http.StatusServiceUnavailable)
		return
	}
	_, _ = io.WriteString(out, "ok\n") // the client's error
}

// unready says what is missing; it is empty when nothing is.
func (s *Server) unready() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.unreadable != "":
		return "the experiments cannot be read: " + s.unreadable
	case s.leader == "":
		return "no replica leads, as far as this one knows"
	default:
		return ""
	}
}

// forwardedHeader marks a request that a replica has passed on, so that none goes
// in circles.
const forwardedHeader = "X-Squall-Forwarded"

// forwarding lets the replica that leads answer, which knows the live runs, when
// its identity holds an address. What is about this process itself stays here.
// Requests that look have another way to it than those that act.
func (w *Web) forwarding(next http.Handler, look, act *http.Transport) http.Handler {
	return http.HandlerFunc(func(out http.ResponseWriter, request *http.Request) {
		address := w.Server.leadsElsewhere()
		switch request.URL.Path {
		case "/metrics", "/healthz", "/readyz":
			address = ""
		}
		if address == "" || request.Header.Get(forwardedHeader) != "" {
			next.ServeHTTP(out, request)
			return
		}
		transport := act
		if request.Method == http.MethodGet || request.Method == http.MethodHead {
			transport = look
		}
		proxy := httputil.ReverseProxy{
			Transport: transport,
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(&url.URL{Scheme: "http", Host: address})
				r.Out.Header.Set(forwardedHeader, w.Server.Identity)
				r.SetXForwarded()
			},
			ModifyResponse: func(r *http.Response) error {
				for name := range out.Header() {
					r.Header.Del(name) // they stand already
				}
				return nil
			},
			ErrorLog: log.New(io.Discard, "", 0), // the answer says it
			ErrorHandler: func(out http.ResponseWriter, request *http.Request, err error) {
				if transport == look {
					next.ServeHTTP(out, request) // what we know is better than nothing
					return
				}
				answer(out, http.StatusBadGateway, problem{"the replica that leads does not answer", "try again: another leads within seconds"})
			},
		}
		proxy.ServeHTTP(out, request)
	})
}

// How long a standby waits for the leader. What only shows falls back on what the
// standby knows, well before the client's connection is closed; an act gets as
// long as the leader may take for it.
const (
	dialTimeout = 2 * time.Second
	lookTimeout = 5 * time.Second
	actTimeout  = stopTimeout + time.Second
)

// toLeader is the way to the leader. No proxy is on it: the token is not for one.
func toLeader(timeout time.Duration) *http.Transport {
	return &http.Transport{
		DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext, ResponseHeaderTimeout: timeout, IdleConnTimeout: idleTimeout,
	}
}

// leadsElsewhere gives the address of another replica that leads; empty when this
// one does, or nobody knows.
func (s *Server) leadsElsewhere() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leads != nil || s.leader == s.Identity {
		return ""
	}
	_, address, _ := strings.Cut(s.leader, "@")
	return address
}

// guarded sets what keeps a browser from doing more than the page wants, and
// bounds what is read.
func guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(out http.ResponseWriter, request *http.Request) {
		header := out.Header()
		header.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; script-src 'self'; connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'")
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("Cache-Control", "no-store")
		request.Body = http.MaxBytesReader(out, request.Body, maxBody)
		next.ServeHTTP(out, request)
	})
}

// answer writes a JSON document.
func answer(out http.ResponseWriter, code int, document any) {
	out.Header().Set("Content-Type", "application/json")
	out.WriteHeader(code)
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(document) // the client's error
}

// problem is the JSON of an error.
type problem struct {
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"`
}

// trusted lets through only who has the token. It stands in a header that no
// page of another origin can set, so that no form of another page acts for a
// user; a browser keeps no cookie of ours.
func (w *Web) trusted(next func(owner string, request *http.Request) (any, error)) http.HandlerFunc {
	return func(out http.ResponseWriter, request *http.Request) {
		token, err := w.token()
		if err != nil {
			answer(out, http.StatusForbidden, problem{"nobody may do that here", "squall serve --api-token-file FILE names the token that does"})
			return
		}
		given, is := strings.CutPrefix(request.Header.Get("Authorization"), "Bearer ")
		// Hashed, so that the lengths are the same.
		wanted, got := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(given))
		if !is || subtle.ConstantTimeCompare(wanted[:], got[:]) != 1 {
			out.Header().Set("WWW-Authenticate", `Bearer realm="squall"`)
			answer(out, http.StatusUnauthorized, problem{"the token is missing or wrong", "Authorization: Bearer TOKEN"})
			return
		}
		done, err := next(caller(request), request)
		if err != nil {
			answer(out, codeOf(err), problem{Error: err.Error()})
			return
		}
		answer(out, http.StatusOK, done)
	}
}

var errNoToken = errors.New("there is no token")

// token reads the token anew, so that it can be changed. An empty one is none.
func (w *Web) token() (string, error) {
	if w.TokenFile == "" {
		return "", errNoToken
	}
	content, err := os.ReadFile(w.TokenFile)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(content))
	if token == "" {
		return "", errNoToken
	}
	return token, nil
}

// caller says who asks, as far as that is known.
func caller(request *http.Request) string {
	if first := request.Header.Get("X-Forwarded-For"); first != "" && request.Header.Get(forwardedHeader) != "" {
		return "API from " + reports.OneLine(first)
	}
	host, _, err := net.SplitHostPort(request.RemoteAddr)
	if err != nil {
		host = request.RemoteAddr
	}
	return "API from " + host
}

func codeOf(err error) int {
	_, tooLarge := errors.AsType[*http.MaxBytesError](err)
	switch {
	case errors.Is(err, errUnknown), errors.Is(err, errNotLive):
		return http.StatusNotFound
	case errors.Is(err, errForbidden):
		return http.StatusForbidden
	case errors.Is(err, errBusy):
		return http.StatusConflict
	case errors.Is(err, errNotLeading):
		return http.StatusServiceUnavailable
	case errors.Is(err, errBadRequest):
		return http.StatusBadRequest
	case tooLarge:
		return http.StatusRequestEntityTooLarge
	default:
		return http.StatusBadGateway // the cluster, which is asked on behalf of the client
	}
}

// started is the answer to a start, and done that to anything else.
type started struct {
	Run string `json:"run"`
}

type done struct {
	Done string `json:"done"`
}

func (w *Web) stop(owner string, request *http.Request) (any, error) {
	id := request.PathValue("id")
	if err := w.Server.Stop(request.Context(), id, owner); err != nil {
		return nil, err
	}
	return done{"stopping " + id}, nil
}

func (w *Web) run(owner string, request *http.Request) (any, error) {
	run, err := w.Server.StartNow(request.PathValue("name"), owner)
	return started{run}, err
}

var errBadRequest = errors.New("bad request")

// pause takes {"paused": false} too; without a body it pauses.
func (w *Web) pause(owner string, request *http.Request) (any, error) {
	wanted := struct {
		Paused *bool `json:"paused"`
	}{}
	decoder := json.NewDecoder(request.Body)
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&wanted)
	if err == nil {
		if _, err = decoder.Token(); err == nil {
			err = errors.New("there is more after the object")
		}
	}
	if !errors.Is(err, io.EOF) {
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			return nil, err
		}
		return nil, fmt.Errorf(`%w: %w; the body is {"paused": true} or {"paused": false}`, errBadRequest, err)
	}
	paused := wanted.Paused == nil || *wanted.Paused
	if err := w.Server.Pause(request.Context(), paused, owner); err != nil {
		return nil, err
	}
	return struct {
		Paused bool `json:"paused"`
	}{paused}, nil
}

// record serves a file of a run's folder. The id must be that of a run that is
// known, so that no path leads anywhere else.
func (w *Web) record(name, contentType string) http.HandlerFunc {
	return func(out http.ResponseWriter, request *http.Request) {
		id := request.PathValue("id")
		if _, named := records.Began(id); !named || filepath.Base(id) != id || !w.Server.knows(id) {
			answer(out, http.StatusNotFound, problem{Error: "there is no such run"})
			return
		}
		file, err := os.Open(filepath.Join(w.Server.Out, id, name)) //nolint:gosec // a run that is known
		if err != nil {
			answer(out, http.StatusNotFound, problem{Error: "the run has no such record yet"})
			return
		}
		defer file.Close() //nolint:errcheck // opened for reading
		out.Header().Set("Content-Type", contentType)
		_, _ = io.Copy(out, file) // the client's error
	}
}

// knows reports whether a run is live or among the past ones.
func (s *Server) knows(run string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, past := s.past[run]
	return past || s.live[run] != nil
}

// pageData is what the page shows.
type pageData struct {
	Status
	Version  string
	Writable bool
	Past     []reports.Summary
}

func (w *Web) page(out http.ResponseWriter, _ *http.Request) {
	_, err := w.token()
	var text strings.Builder
	data := pageData{w.Server.Status(), w.Version, err == nil, w.Server.Past(pastShown)}
	if err := page.Execute(&text, data); err != nil {
		http.Error(out, "the page cannot be made", http.StatusInternalServerError)
		return
	}
	out.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = io.WriteString(out, text.String()) // the client's error
}
