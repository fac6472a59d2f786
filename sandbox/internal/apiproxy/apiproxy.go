// Package apiproxy is a proxy between a program under test and a server. It notifies a
// test of every call, and lets it delay, lose or break any of them.
package apiproxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Class is what a call does to a cluster.
type Class string

// The classes. A dry run and a question about permissions are reads.
const (
	Read  Class = "read"
	Watch Class = "watch"
	Write Class = "write"
)

// Call is one request of the client.
type Call struct {
	// Number counts all calls of the client, from 1.
	Number int
	Class  Class
	// Name says what is asked, such as "create jobs". Calls that a client makes
	// at the same time come in any order, so a test names a call by what it
	// asks and by its place among those that ask the same.
	Name string
	Nth  int
}

func (c Call) String() string { return fmt.Sprintf("%s #%d", c.Name, c.Nth) }

// Hooks are what a test does with the calls. They are called from several
// goroutines at the same time.
type Hooks struct {
	// Before is called when a call has arrived, before the server receives it. It may
	// block. The call gets the returned fault, if it is not nil.
	Before func(Call) Fault
	// After is called when the server has answered, before the client receives it.
	After func(Call)
}

// Proxy is a server on loopback that passes calls on to another one.
type Proxy struct {
	target    *url.URL
	transport *http.Transport
	hooks     Hooks
	server    *httptest.Server
	closed    chan struct{}
	serving   sync.WaitGroup

	mu      sync.Mutex
	closing bool
	calls   []Call
	count   map[string]int
	conns   []*link
	state   state
	back    chan struct{} // closed when the server is reachable again
}

// state is whether a client can reach the server.
type state int

const (
	reachable state = iota
	gone            // connections are reset
	hung            // calls are never answered
)

// ForHTTP starts a proxy in front of a plain HTTP server.
func ForHTTP(target string, hooks Hooks) (*Proxy, error) {
	p, err := newProxy(target, &http.Transport{}, hooks)
	if err == nil {
		p.server.Start()
	}
	return p, err
}

// ForAPIServer starts a proxy for the API server of a kubeconfig. It uses TLS and HTTP/2
// on both sides, like the client and the server without it, and passes credentials on.
// It writes a kubeconfig for the proxy into the directory.
func ForAPIServer(kubeconfig, folder string, hooks Hooks) (*Proxy, string, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, "", err
	}
	trust, err := rest.TLSConfigFor(&rest.Config{Host: config.Host, TLSClientConfig: config.TLSClientConfig})
	if err != nil {
		return nil, "", err
	}
	p, err := newProxy(config.Host, &http.Transport{TLSClientConfig: trust, ForceAttemptHTTP2: true}, hooks)
	if err != nil {
		return nil, "", err
	}
	p.server.EnableHTTP2 = true
	p.server.StartTLS()
	file := filepath.Join(folder, "kubeconfig")
	return p, file, writeKubeconfig(kubeconfig, file, p.URL(), p.server.Certificate())
}

func newProxy(target string, transport *http.Transport, hooks Hooks) (*Proxy, error) {
	parsed, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	p := &Proxy{target: parsed, transport: transport, hooks: hooks, closed: make(chan struct{}), count: map[string]int{}, back: make(chan struct{})}
	p.server = httptest.NewUnstartedServer(p)
	p.server.Listener = listener{Listener: p.server.Listener, proxy: p}
	p.server.Config.ErrorLog = log.New(io.Discard, "", 0) // broken connections are what it is for
	p.server.Config.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, conn)
	}
	return p, nil
}

// writeKubeconfig writes a kubeconfig with the same users for another address.
func writeKubeconfig(from, to, server string, certificate *x509.Certificate) error {
	config, err := clientcmd.LoadFromFile(from)
	if err != nil {
		return err
	}
	for _, cluster := range config.Clusters {
		cluster.Server, cluster.CertificateAuthority = server, ""
		cluster.CertificateAuthorityData = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})
	}
	return clientcmd.WriteToFile(*config, to)
}

// URL is the proxy's address.
func (p *Proxy) URL() string { return p.server.URL }

// Close ends the proxy. It waits for calls that it has not passed on yet: what
// a network has delayed may arrive long after its sender has gone.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closing = true
	p.mu.Unlock()
	close(p.closed)
	p.resetAll()
	p.serving.Wait()
	p.server.Close()
	p.transport.CloseIdleConnections()
}

// Calls returns the calls so far, in the order of their arrival.
func (p *Proxy) Calls() []Call {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.calls)
}

// Vanish makes the server unreachable: connections are reset.
func (p *Proxy) Vanish() {
	p.leave(gone)
	p.resetAll()
}

// Hang makes the server silent: calls are never answered.
func (p *Proxy) Hang() { p.leave(hung) }

func (p *Proxy) leave(how state) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = how
}

// Return makes the server reachable again.
func (p *Proxy) Return() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != reachable {
		p.state = reachable
		close(p.back)
		p.back = make(chan struct{})
	}
}

// reach returns whether the server can be reached, and a channel that is closed when
// this changes.
func (p *Proxy) reach() (state, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state, p.back
}

// listener hands out connections that the proxy can reset.
type listener struct {
	net.Listener
	proxy *Proxy
}

func (l listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if state, _ := l.proxy.reach(); state == gone {
			reset(conn)
			continue
		}
		taken := &link{Conn: conn, frozen: make(chan struct{}), closed: make(chan struct{})}
		l.proxy.mu.Lock()
		l.proxy.conns = append(l.proxy.conns, taken)
		l.proxy.mu.Unlock()
		return taken, nil
	}
}

// link is a connection that may freeze: then it passes nothing on, without closing.
type link struct {
	net.Conn
	freezing, closing sync.Once
	frozen, closed    chan struct{}
}

func (l *link) freeze() { l.freezing.Do(func() { close(l.frozen) }) }

func (l *link) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	select {
	case <-l.frozen:
		<-l.closed
		return 0, net.ErrClosed
	default:
		return n, err
	}
}

func (l *link) Write(p []byte) (int, error) {
	select {
	case <-l.frozen:
		return len(p), nil
	default:
		return l.Conn.Write(p)
	}
}

func (l *link) Close() error {
	l.closing.Do(func() { close(l.closed) })
	return l.Conn.Close()
}

// Freeze makes the connections that there are useless; new ones work. So does a
// load balancer that forgets its connections.
func (p *Proxy) Freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range p.conns {
		conn.freeze()
	}
}

func (p *Proxy) resetAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range p.conns {
		reset(conn)
	}
	p.conns = nil
}

// reset ends a connection as a host does that knows nothing of it.
func reset(conn net.Conn) {
	if wrapped, ok := conn.(*tls.Conn); ok {
		conn = wrapped.NetConn()
	}
	under := conn
	if wrapped, ok := conn.(*link); ok {
		under = wrapped.Conn
	}
	if tcp, ok := under.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // fails on one that is closed already
	}
	_ = conn.Close() // as above
}

// connKey is the key of a request's connection in its context.
type connKey struct{}

// names knows what a path of the Kubernetes API asks for.
var names = request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")} //nolint:gochecknoglobals // a constant

// register counts a call.
func (p *Proxy) register(r *http.Request) Call {
	call := Call{Class: Read, Name: strings.ToLower(r.Method) + " " + r.URL.Path}
	dryRun := r.URL.Query().Has("dryRun")
	if info, err := names.NewRequestInfo(r); err == nil && info.IsResourceRequest {
		call.Name = info.Verb + " " + info.Resource
		switch {
		case info.Verb == "watch":
			call.Class = Watch
		case info.Verb != "get" && info.Verb != "list" && !dryRun && info.Resource != "selfsubjectaccessreviews":
			call.Class = Write
		}
	}
	if dryRun {
		call.Name += " (dry run)"
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count[call.Name]++
	call.Nth, call.Number = p.count[call.Name], len(p.calls)+1
	p.calls = append(p.calls, call)
	return call
}

// enter counts a call that Close waits for.
func (p *Proxy) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closing {
		p.serving.Add(1)
	}
	return !p.closing
}

// ServeHTTP takes one call.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || !p.enter() {
		return // one of the two has left
	}
	defer p.serving.Done()
	x := &exchange{proxy: p, w: w, r: r, body: body, call: p.register(r)}
	x.conn, _ = r.Context().Value(connKey{}).(net.Conn)
	var fault Fault
	if p.hooks.Before != nil {
		fault = p.hooks.Before(x.call)
	}
	if fault == nil {
		fault = pass
	}
	if state, back := p.reach(); state != reachable {
		x.keepSilent(back)
		return
	}
	fault(x)
}

// exchange is one call and its answer.
type exchange struct {
	proxy *Proxy
	w     http.ResponseWriter
	r     *http.Request
	body  []byte
	call  Call
	conn  net.Conn
}

// keepSilent holds a call until its client leaves; when the server is back the
// call is lost, as those are that a host took before it died.
func (x *exchange) keepSilent(back <-chan struct{}) {
	select {
	case <-x.r.Context().Done(): // the connection's other calls are still held
		return
	case <-x.proxy.closed:
	case <-back:
	}
	reset(x.conn)
}

// send passes the call on. The answer of a watch comes as it is written.
func (x *exchange) send(ctx context.Context) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, x.r.Method, x.proxy.target.Scheme+"://"+x.proxy.target.Host+x.r.URL.RequestURI(), bytes.NewReader(x.body))
	if err != nil {
		return nil, err
	}
	request.Header = x.r.Header.Clone()
	return x.proxy.transport.RoundTrip(request)
}

// answer is what the server says to a call.
type answer struct {
	header http.Header
	code   int
	body   []byte
}

// ask passes the call on and returns the whole answer. It does not depend on the
// client.
func (x *exchange) ask() (answer, error) {
	response, err := x.send(context.WithoutCancel(x.r.Context()))
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close() //nolint:errcheck // read to the end
	body, err := io.ReadAll(response.Body)
	if x.proxy.hooks.After != nil {
		x.proxy.hooks.After(x.call)
	}
	return answer{header: response.Header, code: response.StatusCode, body: body}, err
}

// pass lets a call through.
func pass(x *exchange) {
	if x.call.Class == Watch {
		x.stream()
		return
	}
	a, err := x.ask()
	if err != nil {
		reset(x.conn)
		return
	}
	x.tell(a)
}

// tell sends an answer to the client, which may have left.
func (x *exchange) tell(a answer) {
	maps.Copy(x.w.Header(), a.header)
	x.w.WriteHeader(a.code)
	_, _ = flusher{x.w}.Write(a.body)
}

// stream passes a watch on.
func (x *exchange) stream() {
	response, err := x.send(x.r.Context())
	if err != nil {
		if x.r.Context().Err() == nil { // who leaves a watch may use its connection for more
			reset(x.conn)
		}
		return
	}
	defer response.Body.Close() //nolint:errcheck // dropped when the client leaves
	x.tell(answer{header: response.Header, code: response.StatusCode, body: nil})
	_, _ = io.Copy(flusher{x.w}, response.Body) // until one of the two ends it
}

// flusher sends everything that is written at once.
type flusher struct{ http.ResponseWriter }

func (f flusher) Write(p []byte) (int, error) {
	n, err := f.ResponseWriter.Write(p)
	_ = http.NewResponseController(f.ResponseWriter).Flush() // the next write says so too
	return n, err
}
