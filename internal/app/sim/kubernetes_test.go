package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/kube"
	"github.com/squall-chaos/squall/kube/kubetest"
	"github.com/squall-chaos/squall/mesh/objects"
)

// process is one process of Squall, as its surroundings see it.
type process struct {
	name string
	// dead is true after the process was killed. cut is true while it reaches nothing.
	dead, cut bool
	world     *world
}

// cluster returns the process's client of the API server.
func (p *process) cluster() *kube.Cluster {
	c, err := kube.Connect(&rest.Config{Host: "http://kubernetes", Transport: p})
	if err != nil {
		panic(err)
	}
	return c
}

// client is a cluster as a runner uses it. The requests of a snapshot, of the check of
// permissions and of the search for other runs, which change nothing, are one call each.
type client struct {
	*kube.Cluster
	process *process
}

// Snapshot implements runner.Mesh.
func (c client) Snapshot(ctx context.Context) (config.Snapshot, error) {
	answer, err := c.process.ask(ctx, "snapshot", func() any { return c.process.world.snapshot() })
	snapshot, _ := answer.(config.Snapshot)
	return snapshot, err
}

// Permitted implements runner.Mesh.
func (c client) Permitted(ctx context.Context, namespace string, _ []string) error {
	_, err := c.process.ask(ctx, "permitted in "+namespace, func() any { return nil })
	return err
}

// Earlier implements runner.Rivals.
func (c client) Earlier(ctx context.Context, created *unstructured.Unstructured, wanted func(*unstructured.Unstructured) bool) ([]*unstructured.Unstructured, error) {
	answer, err := c.process.ask(ctx, "earlier in "+created.GetNamespace(), func() any {
		all, err := c.process.world.api.ListAt("virtualservices", created.GetResourceVersion())
		if err != nil {
			return fail{err}
		}
		var found []*unstructured.Unstructured
		for _, object := range all {
			if objects.IsOurs(object) && wanted(object) {
				found = append(found, object.DeepCopy())
			}
		}
		return found
	})
	found, _ := answer.([]*unstructured.Unstructured)
	return found, err
}

// ask sends a question to the API server that is not a request.
func (p *process) ask(ctx context.Context, question string, answer func() any) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second) // as kube's requests have it
	defer cancel()
	seam, _, _ := strings.Cut(question, " in ")
	got, err := p.world.enter(&call{key: question, from: p, ctx: ctx, arrive: func(c *call) {
		p.world.pass(c, seam, &p.world.apiWeather, answer, func(fate) any { return fail{errRefused} })
	}})
	if failed, is := got.(fail); is {
		return nil, failed.err
	}
	return got, err
}

// snapshot returns the configuration of the mesh.
func (w *world) snapshot() config.Snapshot {
	s := config.Defaults()
	s.APIVersion = api
	for resource, into := range map[string]*[]*unstructured.Unstructured{"virtualservices": &s.VirtualServices, "serviceentries": &s.ServiceEntries} {
		for _, object := range w.api.List(resource) {
			*into = append(*into, object.DeepCopy())
		}
	}
	for _, name := range []string{"ratings", "details"} {
		s.Services = append(s.Services, config.Service{Namespace: "prod", Name: name, Ports: []config.Port{{Number: 80, Name: "http", Declared: "TCP", OfService: true}}})
	}
	for _, name := range namespaces {
		s.Namespaces[name] = map[string]string{}
	}
	return s
}

// RoundTrip implements http.RoundTripper: it is the way to the API server.
func (p *process) RoundTrip(request *http.Request) (*http.Response, error) {
	r := kubetest.Request{Method: request.Method, Path: request.URL.Path, ContentType: request.Header.Get("Content-Type"), Query: map[string]string{}}
	for name, values := range request.URL.Query() {
		r.Query[name] = values[0]
	}
	if request.Body != nil {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			return nil, err
		}
		r.Body = body
		_ = request.Body.Close()
	}
	c := &call{key: r.Method + " " + request.URL.String() + " " + string(r.Body), from: p, ctx: request.Context(), arrive: func(c *call) { p.world.serve(c, r) }}
	answer, err := p.world.enter(c)
	if err != nil {
		return nil, err
	}
	switch a := answer.(type) {
	case fail:
		return nil, a.err
	case kubetest.Response:
		header := http.Header{"Content-Type": {"application/json"}, "Date": {p.world.api.Now().UTC().Format(http.TimeFormat)}}
		if a.Code == http.StatusTooManyRequests {
			header.Set("Retry-After", "1")
		}
		return &http.Response{StatusCode: a.Code, Status: http.StatusText(a.Code), Header: header, Body: io.NopCloser(bytes.NewReader(a.Body)), Request: request, ContentLength: int64(len(a.Body)), ProtoMajor: 1, ProtoMinor: 1}, nil
	case *stream:
		a.ctx = request.Context()
		return &http.Response{StatusCode: http.StatusOK, Status: "OK", Header: http.Header{"Content-Type": {"application/json"}}, Body: a, Request: request, ContentLength: -1, ProtoMajor: 1, ProtoMinor: 1}, nil
	default:
		panic(fmt.Sprintf("%T", answer))
	}
}

// CancelRequest is called by net/http beside the end of the request's context.
func (*process) CancelRequest(*http.Request) {}

// seamOf names a request for the counts.
func seamOf(r kubetest.Request) string {
	verb := map[string]string{http.MethodGet: "get", http.MethodPost: "create", http.MethodPut: "update", http.MethodPatch: "patch", http.MethodDelete: "delete"}[r.Method]
	parts := strings.Split(strings.Trim(r.Path, "/"), "/")
	i := slices.Index(parts, "namespaces")
	switch {
	case r.IsWatch():
		verb = "watch"
	case r.Query["dryRun"] != "":
		verb = "check"
	}
	switch {
	case i >= 0 && len(parts) > i+2:
		if r.Method == http.MethodGet && len(parts) == i+3 && verb == "get" {
			verb = "list"
		}
		return verb + " " + parts[i+2]
	case i >= 0:
		return "list namespaces"
	case len(parts) > 3 && parts[0] == "apis":
		if verb == "get" {
			verb = "list"
		}
		return verb + " " + parts[3]
	default:
		return verb + " " + parts[len(parts)-1]
	}
}

// serve carries out a request of a process.
func (w *world) serve(c *call, r kubetest.Request) {
	throttled := w.chance(0.3)
	w.pass(c, seamOf(r), &w.apiWeather, func() any {
		w.forbid(c.from, r)
		if r.IsWatch() {
			return w.watch(r)
		}
		return w.api.Do(r)
	}, func(f fate) any {
		switch {
		case f == before && throttled:
			return kubetest.Response{Code: http.StatusTooManyRequests, Body: status(http.StatusTooManyRequests, "TooManyRequests", "the server is currently unable to handle the request")}
		case f == before:
			return fail{errRefused}
		case throttled:
			return kubetest.Response{Code: http.StatusGatewayTimeout, Body: status(http.StatusGatewayTimeout, "Timeout", "request did not complete within the allotted timeout")}
		default:
			return kubetest.Response{Code: http.StatusInternalServerError, Body: status(http.StatusInternalServerError, "InternalError", "etcdserver: leader changed")}
		}
	})
}

func status(code int, reason, message string) []byte {
	return fmt.Appendf(nil, `{"kind":"Status","apiVersion":"v1","status":"Failure","code":%d,"reason":%q,"message":%q}`, code, reason, message)
}

// stream is the body of a watch.
type stream struct {
	ctx   interface{ Done() <-chan struct{} }
	watch *kubetest.Watch
	// lag is how long after a change the watch sends it. silent is true after the
	// connection has died without a sign.
	lag    time.Duration
	silent bool

	mu     sync.Mutex
	unread []byte
	err    error // after unread
	closed bool
	more   chan struct{}
}

// watch begins a watch.
func (w *world) watch(r kubetest.Request) *stream {
	s := &stream{watch: w.api.Watch(r), lag: w.skewed(time.Millisecond, 20*time.Millisecond), more: make(chan struct{}, 1)}
	if w.trouble && w.chance(w.apiWeather.slow) {
		s.lag = w.between(0, 3*time.Second)
	}
	w.streams = append(w.streams, s)
	w.pump(s)
	if w.trouble && w.chance(0.2) {
		w.in(w.between(0, 20*time.Second), func() { s.end(errReset) })
	}
	if w.trouble && w.chance(w.apiWeather.failing/2) {
		// client-go closes a connection that does not answer its pings after 5 seconds.
		w.in(w.between(0, 10*time.Second), func() {
			s.silent = true
			w.in(5*time.Second, func() { s.end(errReset) })
		})
	}
	return s
}

// pump sends the changes so far, after the lag of the watch.
func (w *world) pump(s *stream) {
	w.in(s.lag, func() {
		if s.silent || s.isClosed() || w.apiWeather.down {
			return
		}
		lines, ended := s.watch.Next()
		for _, line := range lines {
			s.send(line)
		}
		if ended {
			s.end(io.EOF)
		}
	})
}

// pumpAll sends a change to all watches.
func (w *world) pumpAll() {
	w.streams = slices.DeleteFunc(w.streams, (*stream).isClosed)
	for _, s := range w.streams {
		w.pump(s)
	}
}

func (s *stream) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed || s.err != nil
}

func (s *stream) signal() {
	select {
	case s.more <- struct{}{}:
	default:
	}
}

func (s *stream) send(line []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unread = append(s.unread, line...)
	s.signal()
}

// end ends the watch.
func (s *stream) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	s.signal()
}

// Read implements io.Reader.
func (s *stream) Read(p []byte) (int, error) {
	for {
		s.mu.Lock()
		switch {
		case s.closed:
			s.mu.Unlock()
			return 0, errors.New("read on closed body")
		case len(s.unread) > 0:
			n := copy(p, s.unread)
			s.unread = s.unread[n:]
			s.mu.Unlock()
			return n, nil
		case s.err != nil:
			s.mu.Unlock()
			return 0, s.err
		}
		s.mu.Unlock()
		select {
		case <-s.more:
		case <-s.ctx.Done():
			return 0, errReset
		}
	}
}

// Close implements io.Closer.
func (s *stream) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.signal()
	return nil
}
