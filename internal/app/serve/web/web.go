// Package web serves the status page, the API and the health checks of squall
// serve.
package web

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"html/template"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"time"

	"github.com/squall-chaos/squall/internal/app/serve/directory"
	"github.com/squall-chaos/squall/internal/app/serve/history"
	"github.com/squall-chaos/squall/internal/app/serve/runs"
	"github.com/squall-chaos/squall/internal/app/serve/scheduler"
	"github.com/squall-chaos/squall/reports"
	"github.com/squall-chaos/squall/runner/journal"
)

//go:embed page.html
var pageText string

//go:embed page.js
var pageScript []byte

//nolint:gochecknoglobals // a constant template
var page = template.Must(template.New("page").Parse(pageText))

// Replica is the state of this replica.
type Replica interface {
	Status() Status
	// Ready returns an error if the replica cannot do its part: it has not read
	// the experiments, or does not know which replica leads.
	Ready() error
	// Leader returns another replica that leads. Its address is empty when this one
	// leads, or the address is not known.
	Leader() Peer
}

// Peer is another replica.
type Peer struct {
	Identity string
	// Address is its host and port.
	Address string
}

// Records are the records of past runs.
type Records interface {
	// Past returns at most limit past runs, the newest first.
	Past(limit int) []reports.Summary
	// Open opens a file in the directory of a run. The error is
	// history.ErrUnknown if there is no such run.
	Open(run, name string) (fs.File, error)
}

// Controls are what a client with the token may do. The owner is who does it.
type Controls interface {
	// StartNow starts an experiment, and returns the run. The error wraps one of
	// the errors of package scheduler, or leadership.ErrNotLeading.
	StartNow(experiment, owner string) (run string, err error)
	// Stop ends a run. The error wraps runs.ErrNotLive if there is no such run.
	Stop(ctx context.Context, run, owner string) error
	// Pause pauses all starts by schedule, or resumes them.
	Pause(ctx context.Context, paused bool, owner string) error
}

// Status is the answer to GET /api/v1/status.
type Status struct {
	Time     time.Time `json:"time"`
	Identity string    `json:"identity"`
	// Leader is the replica that starts runs. Leading reports whether it is this
	// one.
	Leader  string `json:"leader"`
	Leading bool   `json:"leading"`
	// Problem is why this replica cannot do its part; empty when it can.
	Problem     string             `json:"problem,omitempty"`
	Paused      string             `json:"paused,omitempty"`
	Live        []runs.Status      `json:"live"`
	Others      runs.Others        `json:"others,omitzero"`
	Experiments []scheduler.Status `json:"experiments"`
	Broken      []directory.Broken `json:"broken"`
}

// Config has the parts of a Site.
type Config struct {
	Replica  Replica
	Records  Records
	Controls Controls
	// Metrics serves /metrics.
	Metrics http.Handler
	// Identity is the name of this replica.
	Identity string
	// TokenFile holds the token that Controls require. Without one they are
	// refused.
	TokenFile string
	// Version is shown on the page.
	Version string
	// Hosts are the names by which it is reached, besides all addresses.
	Hosts []string
}

// Site is the status page and the API.
type Site struct {
	config Config
	acts   nonces
}

// New returns a Site.
func New(config Config) *Site {
	return &Site{config: config, acts: nonces{used: map[string]time.Time{}}}
}

// The bounds of a request. writeTimeout leaves time for the answer to a Stop.
const (
	maxBody      = 4 << 10
	maxHeader    = 16 << 10
	readTimeout  = 5 * time.Second
	writeTimeout = runs.StopTimeout + 5*time.Second
	idleTimeout  = time.Minute
	// maxPast is the maximum number of past runs in an answer.
	maxPast = 200
)

// HTTPServer returns the server of the site, without a listener.
func (s *Site) HTTPServer() *http.Server {
	return &http.Server{
		Handler: s.handler(), ReadHeaderTimeout: readTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeader,
	}
}

func (s *Site) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.page)
	mux.HandleFunc("GET /page.js", func(out http.ResponseWriter, _ *http.Request) {
		out.Header().Set("Content-Type", "text/javascript; charset=utf-8")
		_, _ = out.Write(pageScript) // the client's error
	})
	mux.HandleFunc("GET /healthz", s.healthy)
	mux.HandleFunc("GET /readyz", s.ready)
	mux.Handle("GET /metrics", s.config.Metrics)
	mux.HandleFunc("GET /api/v1/status", func(out http.ResponseWriter, _ *http.Request) { answer(out, http.StatusOK, s.config.Replica.Status()) })
	mux.HandleFunc("GET /api/v1/runs", func(out http.ResponseWriter, _ *http.Request) {
		answer(out, http.StatusOK, struct {
			Runs []reports.Summary `json:"runs"`
		}{Runs: s.config.Records.Past(maxPast)})
	})
	mux.HandleFunc("GET /api/v1/runs/{id}", s.record(reports.FormatJSON.FileName(), "application/json"))
	mux.HandleFunc("GET /runs/{id}/report.html", s.record(reports.FormatHTML.FileName(), "text/html; charset=utf-8"))
	mux.HandleFunc("GET /runs/{id}/journal.jsonl", s.record(journal.FileName, "application/jsonl"))
	mux.HandleFunc("POST /api/v1/runs/{id}/stop", s.trusted(s.stop))
	mux.HandleFunc("POST /api/v1/experiments/{name}/run", s.trusted(s.run))
	mux.HandleFunc("POST /api/v1/pause", s.trusted(s.pause))
	return guarded(addressed(s.config.Hosts, s.proven(s.forwarding(mux, toLeader(readLeader), toLeader(actLeader)))))
}

// guarded sets headers that restrict a browser to what the page needs, and bounds
// the body of a request.
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

// healthy answers as long as the state of the replica can be read: a process that
// is deadlocked is restarted.
func (s *Site) healthy(out http.ResponseWriter, _ *http.Request) {
	s.config.Replica.Status()
	_, _ = io.WriteString(out, "ok\n") // the client's error
}

func (s *Site) ready(out http.ResponseWriter, _ *http.Request) {
	if err := s.config.Replica.Ready(); err != nil {
		http.Error(out, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = io.WriteString(out, "ok\n") // the client's error
}

// record serves a file of a run's directory.
func (s *Site) record(name, contentType string) http.HandlerFunc {
	return func(out http.ResponseWriter, request *http.Request) {
		file, err := s.config.Records.Open(request.PathValue("id"), name)
		switch {
		case errors.Is(err, history.ErrUnknown):
			answer(out, http.StatusNotFound, problem{Error: err.Error()})
			return
		case err != nil:
			answer(out, http.StatusNotFound, problem{Error: "the run has no such record yet"})
			return
		}
		defer file.Close() //nolint:errcheck // opened for reading
		out.Header().Set("Content-Type", contentType)
		_, _ = io.Copy(out, file) // the client's error
	}
}

// pageData is the data of page.html.
type pageData struct {
	Status
	Version  string
	Writable bool
	Past     []reports.Summary
}

func (s *Site) page(out http.ResponseWriter, _ *http.Request) {
	_, err := s.token()
	data := pageData{Status: s.config.Replica.Status(), Version: s.config.Version, Writable: err == nil, Past: s.config.Records.Past(maxPast)}
	var text strings.Builder
	if err := page.Execute(&text, data); err != nil {
		http.Error(out, "cannot render the page", http.StatusInternalServerError)
		return
	}
	out.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = io.WriteString(out, text.String()) // the client's error
}

// problem is the JSON of an error.
type problem struct {
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"`
}

// answer writes a JSON document.
func answer(out http.ResponseWriter, code int, document any) {
	out.Header().Set("Content-Type", "application/json")
	out.WriteHeader(code)
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(document) // the client's error
}
