package oracle_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/squall-chaos/squall/sandbox/internal/testbed"
)

// This file sends drawn requests through a real Envoy, which must do with them
// what the oracle's own evaluation of its routes says. The Envoy has the routes
// that istiod sends to a caller during the fault, with every condition and fault.
// In place of its action a route answers with its number, so the Envoy needs no
// upstreams; clusters, weights, timeouts and retries are tested on the sandbox
// with sidecars. A second listener has the routes as they are, so that Envoy
// would reject what it does not accept.

var proxied = flag.Int("proxied", 120, "how many planned scenarios are also sent through a real Envoy")

// requestsPerEnvoy is how many requests of a scenario go through Envoy for each
// of its virtual hosts.
const requestsPerEnvoy = 40

// The headers with which a route answers.
const (
	routeHeader = "x-oracle-route"
	flagsHeader = "x-oracle-flags"
)

// exchange is a virtual host with a listener, and what is sent to it.
type exchange struct {
	tr       *trial
	who      string
	host     virtualHost
	socket   string
	requests []request
}

// throughEnvoy sends requests of the planned scenarios through an Envoy.
func throughEnvoy(t *testing.T, trials []*trial) {
	t.Helper()
	program, err := findEnvoy()
	if err != nil && os.Getenv("CI") == "" {
		t.Logf("no request goes through a real Envoy: %v", err)
		return
	} else if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "oracle-") //nolint:usetesting // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // temporary
	exchanges := exchangesOf(trials, dir)
	runEnvoy(t, program, dir, exchanges)
	sent, skipped, faulted := 0, 0, 0
	for _, e := range exchanges {
		got, err := e.conduct(t.Context())
		if err != nil {
			t.Fatalf("%s on port %d: %v", e.who, e.host.port, err)
		}
		sent, skipped, faulted = sent+got.sent, skipped+got.skipped, faulted+got.faulted
		for _, disagreement := range got.disagreements {
			t.Errorf("%s on port %d: %s\n%s", e.who, e.host.port, disagreement, e.tr)
		}
	}
	t.Logf("a real Envoy agrees on %d requests, of which %d met a fault, to %d virtual hosts; %d cannot be sent by HTTP/1.1", sent, faulted, len(exchanges), skipped)
	if sent == 0 || faulted == 0 || faulted == sent {
		t.Error("the requests through Envoy cannot tell a fault from none")
	}
}

func findEnvoy() (string, error) {
	if path := os.Getenv("ENVOY"); path != "" {
		return exec.LookPath(path)
	}
	bin, err := testbed.BinDir("envoy")
	return filepath.Join(bin, "envoy"), err
}

// exchangesOf returns the virtual hosts of the target that the callers of planned
// scenarios have during the fault.
func exchangesOf(trials []*trial, dir string) []exchange {
	var all []exchange
	scenarios := 0
	for _, tr := range trials {
		if !tr.planned() || len(tr.temporary) == 0 || scenarios == *proxied {
			continue
		}
		scenarios++
		requests := tr.requests()
		for _, who := range tr.who.targeted {
			for _, host := range tr.during[key(who)].routesTo(tr.experiment.host) {
				socket := filepath.Join(dir, strconv.Itoa(len(all)))
				all = append(all, exchange{tr: tr, who: key(who), host: host, socket: socket, requests: requests[:min(len(requests), requestsPerEnvoy)]})
			}
		}
	}
	return all
}

// runEnvoy starts an Envoy with the exchanges' listeners, and ends it with the
// test.
func runEnvoy(t *testing.T, program, dir string, exchanges []exchange) {
	t.Helper()
	var listeners []any
	for _, e := range exchanges {
		listeners = append(listeners, listener(e.socket, e.numbered()), listener(e.socket+"-raw", e.host.config()))
	}
	config, err := json.Marshal(m{"staticResources": m{"listeners": listeners}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "envoy.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	var log testbed.Output
	envoy := exec.CommandContext(context.WithoutCancel(t.Context()), program, "-c", file, "--disable-hot-restart", "--concurrency", "1", "--log-level", "error")
	envoy.Stdout, envoy.Stderr = &log, &log
	if err := envoy.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- envoy.Wait() }()
	t.Cleanup(func() {
		err := envoy.Process.Kill() // ended already
		_ = errors.Join(err, <-ended)
	})
	eventually(t, func() error {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("Envoy has ended: %v: %s", err, &log)
		default:
		}
		conn, err := net.Dial("unix", exchanges[len(exchanges)-1].socket) //nolint:noctx // a local socket
		if err == nil {
			err = conn.Close()
		}
		return err
	})
}

// config returns the virtual host as istiod sent it, for any host.
func (v virtualHost) config() m {
	out := maps.Clone(v.frame)
	out["domains"], out["routes"] = list("*"), anys(v.routes)
	return out
}

// numbered returns the virtual host with routes that answer with their number and
// their flags. Faults hit all requests, and take no time.
func (e exchange) numbered() m {
	out := e.host.config()
	var routes []m
	for i, route := range e.host.routes {
		copied := without(route, "route", "redirect", "directResponse", "typedPerFilterConfig", "requestHeadersToAdd", "requestHeadersToRemove", "responseHeadersToRemove")
		copied["directResponse"] = m{"status": http.StatusOK}
		copied["responseHeadersToAdd"] = list(
			m{"header": m{"key": routeHeader, "value": strconv.Itoa(i)}},
			m{"header": m{"key": flagsHeader, "value": "%RESPONSE_FLAGS%"}},
		)
		if fault := faultOf(route); fault != nil {
			copied["typedPerFilterConfig"] = m{faultFilter: certain(fault)}
		}
		routes = append(routes, copied)
	}
	out["routes"] = anys(routes)
	return out
}

// certain returns a fault without its chance and its duration.
func certain(fault m) m {
	all := m{"numerator": 100, "denominator": "HUNDRED"}
	out := maps.Clone(fault)
	if abort := mapOf(fault["abort"]); abort != nil {
		out["abort"] = merged(abort, m{"percentage": all})
	}
	if delay := mapOf(fault["delay"]); delay != nil {
		out["delay"] = merged(delay, m{"percentage": all, "fixedDelay": "0.001s"})
	}
	return out
}

// listener returns a listener with one virtual host and istiod's filters.
func listener(socket string, host m) m {
	typed := func(name string) m { return m{"@type": "type.googleapis.com/envoy.extensions.filters." + name} }
	manager := merged(typed("network.http_connection_manager.v3.HttpConnectionManager"), m{
		"statPrefix": "oracle", "normalizePath": true,
		"routeConfig": m{"validateClusters": false, "virtualHosts": list(host)},
		"httpFilters": list(
			m{"name": "envoy.filters.http.cors", "typedConfig": typed("http.cors.v3.Cors")},
			m{"name": faultFilter, "typedConfig": typed("http.fault.v3.HTTPFault")},
			m{"name": "envoy.filters.http.router", "typedConfig": typed("http.router.v3.Router")},
		),
	})
	return m{
		"name": socket, "address": m{"pipe": m{"path": socket}},
		"filterChains": list(m{"filters": list(m{"name": "http", "typedConfig": manager})}),
	}
}

// outcome is the result of an exchange.
type outcome struct {
	sent, skipped, faulted int
	disagreements          []string
}

// conduct sends the requests, and compares the answers with the evaluation.
func (e exchange) conduct(ctx context.Context) (outcome, error) {
	var result outcome
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", e.socket)
	if err != nil {
		return result, err
	}
	defer conn.Close() //nolint:errcheck // all answers are there
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return result, err
	}
	answers := bufio.NewReader(conn)
	for _, r := range e.requests {
		if !r.sendable() {
			result.skipped++
			continue
		}
		route, err := e.host.first(r)
		if err != nil {
			return result, err
		}
		if _, err := io.WriteString(conn, r.wire()); err != nil {
			return result, fmt.Errorf("%v: %w", r, err)
		}
		response, err := http.ReadResponse(answers, &http.Request{Method: r.headers[":method"]})
		if err != nil {
			return result, fmt.Errorf("%v: %w", r, err)
		}
		body, err := io.ReadAll(response.Body)
		if err := errors.Join(err, response.Body.Close()); err != nil {
			return result, fmt.Errorf("%v: %w", r, err)
		}
		result.sent++
		if faultOf(route) != nil {
			result.faulted++
		}
		if err := e.compare(route, response, body); err != nil {
			result.disagreements = append(result.disagreements, fmt.Sprintf("%v: %v", r, err))
		}
	}
	return result, nil
}

// compare returns an error unless Envoy's answer is the one of a route, which is
// nil if none takes the request.
func (e exchange) compare(route m, response *http.Response, body []byte) error {
	got := fmt.Sprintf("Envoy answers %d, route %q, flags %q, body %q", response.StatusCode, response.Header.Get(routeHeader), response.Header.Get(flagsHeader), body)
	fault := faultOf(route)
	if abort := mapOf(fault["abort"]); abort != nil {
		// An answer to HEAD has no body.
		if response.Header.Get(routeHeader) != "" || response.Request.Method != http.MethodHead && !bytes.Contains(body, []byte("fault filter abort")) {
			return fmt.Errorf("%s; the evaluation says that it is aborted: %v", got, abort)
		}
		if status, is := abort["httpStatus"].(float64); is && response.StatusCode != int(status) {
			return fmt.Errorf("%s; the evaluation says that it is aborted with %g", got, status)
		}
		return nil
	}
	if route == nil {
		if response.StatusCode != http.StatusNotFound || response.Header.Get(routeHeader) != "" {
			return fmt.Errorf("%s; the evaluation says that no route takes it", got)
		}
		return nil
	}
	number := slices.IndexFunc(e.host.routes, func(candidate m) bool { return equal(candidate, route) })
	if response.Header.Get(routeHeader) != strconv.Itoa(number) {
		return fmt.Errorf("%s; the evaluation says route %d", got, number)
	}
	if delayed := strings.Contains(response.Header.Get(flagsHeader), "DI"); delayed != (fault["delay"] != nil) {
		return fmt.Errorf("%s; the evaluation says that its fault is %v", got, fault)
	}
	return nil
}

// methods are what Envoy's parser of HTTP/1.1 accepts, except for CONNECT.
var methods = []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"}

// sendable reports whether the request can be written as HTTP/1.1 such that
// Envoy sees what the evaluation does.
func (r request) sendable() bool {
	plain := func(s, forbidden string) bool {
		return !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune(forbidden, c) })
	}
	if !slices.Contains(methods, r.headers[":method"]) || r.headers[":scheme"] != "http" || !plain(r.headers[":authority"], "/@") || r.headers[":authority"] == "" {
		return false
	}
	// Envoy would normalize other paths.
	if !plain(r.path, `?#%\`) || strings.Contains(r.path, "/.") || strings.Contains(r.path, "//") {
		return false
	}
	for name, value := range r.query {
		if !plain(name, "&=#%+") || !plain(value, "&=#%+") {
			return false
		}
	}
	for name, value := range r.headers {
		if !plain(value, "") && value != "" || slices.Contains([]string{"host", "connection", "te", "transfer-encoding", "upgrade", "content-length"}, name) {
			return false
		}
	}
	return true
}

// wire returns the request as HTTP/1.1.
func (r request) wire() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nhost: %s\r\n", r.headers[":method"], r.allHeaders()[":path"], r.headers[":authority"])
	for _, name := range slices.Sorted(maps.Keys(r.headers)) {
		if !strings.HasPrefix(name, ":") {
			fmt.Fprintf(&b, "%s: %s\r\n", name, r.headers[name])
		}
	}
	b.WriteString("\r\n")
	return b.String()
}
