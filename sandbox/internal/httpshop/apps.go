package httpshop

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// userHeader contains the user, through all calls, as in Bookinfo.
const userHeader = "end-user"

// The ports of the applications.
const (
	httpPort     = ":9080"
	grpcPort     = ":9090"
	tcpPort      = ":7070"
	paymentsPort = ":8080"
	tlsPort      = ":8443"
)

// Run runs an application until ctx ends.
func Run(ctx context.Context, name string) error {
	client := newClient()
	switch name {
	case "ratings":
		return serve(ctx, httpPort, answer("GET /ratings/{id}", map[string]any{"Reviewer1": 5, "Reviewer2": 4}))
	case "details":
		return serve(ctx, httpPort, answer("GET /details/{id}", map[string]any{"title": "The Comedy of Errors", "pages": 200, "language": "English"}))
	case "reviews":
		return serve(ctx, httpPort, reviews(client))
	case "productpage":
		return serve(ctx, httpPort, productPage(client))
	case "payments":
		return payments(ctx)
	case "stock":
		return serveGRPC(ctx)
	case "ledger":
		return serveEcho(ctx)
	case "checkout":
		return checkout(ctx, client)
	case "warehouse":
		return warehouse(ctx)
	case "load":
		return load(ctx, client)
	default:
		return fmt.Errorf("the shop has no application %q", name)
	}
}

func newClient() *http.Client {
	return &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: maxInFlight}}
}

// serve serves HTTP until ctx ends. Any other path than the application's
// answers 200 too, so that tests can choose paths.
func serve(ctx context.Context, address string, mux *http.ServeMux) error {
	server := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })() // the process ends
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func answer(pattern string, value map[string]any) *http.ServeMux {
	mux := http.NewServeMux()
	write := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(value) // the client may be gone
	}
	mux.HandleFunc(pattern, write)
	if pattern != "/" {
		mux.HandleFunc("/", echo)
	}
	return mux
}

// maxWait bounds what a request may ask for.
const maxWait = time.Minute

// echo answers with what it was asked, after the duration in the query parameter
// wait if there is one.
func echo(w http.ResponseWriter, r *http.Request) {
	if wait, err := time.ParseDuration(r.URL.Query().Get("wait")); err == nil {
		select {
		case <-r.Context().Done():
			return
		case <-time.After(min(wait, maxWait)):
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{ // the client may be gone
		"method": r.Method, "path": r.URL.Path, "query": r.URL.RawQuery, "host": r.Host, "app": os.Getenv("APP"), "version": os.Getenv("VERSION"),
	})
}

// statusError is an answer other than 200.
type statusError int

func (s statusError) Error() string { return fmt.Sprintf("status %d", int(s)) }

// fetch calls a service for the user of a request.
func fetch(ctx context.Context, client *http.Client, url, user string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	if user != "" {
		request.Header.Set(userHeader, user)
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // read to the end or dropped
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return statusError(response.StatusCode)
	}
	return json.Unmarshal(body, into)
}

// ratingsTimeout is how long reviews wait for ratings.
const ratingsTimeout = 250 * time.Millisecond

// reviews answers without stars when ratings fails or is slow.
func reviews(client *http.Client) *http.ServeMux {
	version := os.Getenv("VERSION")
	colour := map[string]string{"v1": "black", "v2": "red", "v3": "blue"}[version]
	mux := http.NewServeMux()
	mux.HandleFunc("/", echo)
	mux.HandleFunc("GET /reviews/{id}", func(w http.ResponseWriter, r *http.Request) {
		result := map[string]any{"version": version, "reviews": map[string]string{"Reviewer1": "An extremely entertaining play.", "Reviewer2": "Absolutely fun and entertaining."}}
		ctx, cancel := context.WithTimeout(r.Context(), ratingsTimeout)
		defer cancel()
		var stars map[string]any
		if err := fetch(ctx, client, "http://ratings.prod:9080/ratings/0", r.Header.Get(userHeader), &stars); err == nil {
			result["stars"], result["colour"] = stars, colour
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(result) // the client may be gone
	})
	return mux
}

//nolint:gochecknoglobals // a constant template
var page = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<html lang="en"><head><title>{{.Details.title}}</title></head><body>
<h1>{{.Details.title}}</h1>
<p>{{.Details.pages}} pages, {{.Details.language}}</p>
{{range $reviewer, $text := .Reviews.reviews}}<blockquote>{{$text}} {{with index $.Stars $reviewer}}<span class="stars" style="color: {{$.Colour}}">{{.}} stars</span>{{end}}<footer>{{$reviewer}}</footer></blockquote>
{{end}}{{if not .Stars}}<p>Ratings are not available at the moment.</p>{{end}}
</body></html>
`))

// productPage answers 200 as long as details and reviews do. It waits for
// details without a deadline, which is the weakness that the demo finds.
func productPage(client *http.Client) *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("/", echo)
	mux.HandleFunc("GET /productpage", func(w http.ResponseWriter, r *http.Request) {
		user := r.Header.Get(userHeader)
		var details, reviews map[string]any
		if err := fetch(r.Context(), client, "http://details.prod:9080/details/0", user, &details); err != nil {
			http.Error(w, "details: "+err.Error(), codeOf(err))
			return
		}
		if err := fetch(r.Context(), client, "http://reviews:9080/reviews/0", user, &reviews); err != nil {
			http.Error(w, "reviews: "+err.Error(), codeOf(err))
			return
		}
		stars, _ := reviews["stars"].(map[string]any)
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = page.Execute(w, map[string]any{"Details": details, "Reviews": reviews, "Stars": stars, "Colour": reviews["colour"]}) // the client may be gone
	})
	return mux
}

// codeOf returns what the product page answers when a service fails.
func codeOf(err error) int {
	if errors.Is(err, statusError(http.StatusGatewayTimeout)) {
		return http.StatusGatewayTimeout
	}
	return http.StatusServiceUnavailable
}

// serveGRPC serves health checks, the one method that any client knows.
func serveGRPC(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", grpcPort)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, health.NewServer())
	defer context.AfterFunc(ctx, server.Stop)()
	return server.Serve(listener)
}

// serveEcho returns to each connection what it sends.
func serveEcho(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", tcpPort)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = listener.Close() })() // the process ends
	return echoTo(ctx, listener)
}

// echoTo returns to the connections of a listener what they send.
func echoTo(ctx context.Context, listener net.Listener) error {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return ctx.Err()
		}
		go func() {
			_, _ = io.Copy(conn, conn) // until the client is done
			_ = conn.Close()
		}()
	}
}

// payments takes payments over HTTP, and returns to TLS connections what they
// send.
func payments(ctx context.Context) error {
	certificate, err := selfSigned()
	if err != nil {
		return err
	}
	plain, err := (&net.ListenConfig{}).Listen(ctx, "tcp", tlsPort)
	if err != nil {
		return err
	}
	listener := tls.NewListener(plain, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12})
	defer context.AfterFunc(ctx, func() { _ = listener.Close() })() // the process ends
	go func() { _ = echoTo(ctx, listener) }()                       // until it is closed
	return serve(ctx, paymentsPort, answer("/", map[string]any{"paid": true}))
}

// selfSigned returns a certificate that only a client that checks none accepts.
func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().AddDate(1, 0, 0)}
	encoded, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{encoded}, PrivateKey: key}, nil
}

// The load.
const (
	pagesPerSecond     = 50
	checkoutsPerSecond = 5
	// pageTimeout is how long a visitor waits.
	pageTimeout = 10 * time.Second
	// maxInFlight bounds the calls that wait at the same time.
	maxInFlight = 1000
)

// every calls do at a steady rate, whether earlier calls have ended or not,
// until ctx ends.
func every(ctx context.Context, perSecond int, do func(context.Context)) {
	inFlight := make(chan struct{}, maxInFlight)
	ticker := time.NewTicker(time.Second / time.Duration(perSecond))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		select {
		case inFlight <- struct{}{}:
		default:
			continue
		}
		go func() {
			defer func() { <-inFlight }()
			ctx, cancel := context.WithTimeout(ctx, pageTimeout)
			defer cancel()
			do(ctx)
		}()
	}
}

// load visits the product page, every tenth time as the user jason. The result of
// a visit is in the metrics.
func load(ctx context.Context, client *http.Client) error {
	var visits atomic.Uint64
	every(ctx, pagesPerSecond, func(ctx context.Context) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://productpage:9080/productpage", http.NoBody)
		if err != nil {
			return
		}
		if visits.Add(1)%10 == 0 {
			request.Header.Set(userHeader, "jason")
		}
		response, err := client.Do(request)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, response.Body) // counted by its status
		_ = response.Body.Close()
	})
	return nil
}

// checkout calls a gRPC service, a TCP service and a host outside of the mesh.
func checkout(ctx context.Context, client *http.Client) error {
	stock, err := grpc.NewClient("dns:///stock.prod:9090", grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer stock.Close() //nolint:errcheck // the process ends
	var all sync.WaitGroup
	all.Go(func() {
		every(ctx, checkoutsPerSecond, func(ctx context.Context) {
			_, _ = healthpb.NewHealthClient(stock).Check(ctx, &healthpb.HealthCheckRequest{}) // counted in the metrics
		})
	})
	all.Go(func() {
		every(ctx, checkoutsPerSecond, func(ctx context.Context) {
			var paid map[string]any
			_ = fetch(ctx, client, "http://api.payments.example.com/pay", "", &paid) // counted in the metrics
		})
	})
	all.Go(func() { every(ctx, checkoutsPerSecond, book) })
	all.Wait()
	return nil
}

// book sends a line to the TCP service and reads it back.
func book(ctx context.Context) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", "ledger.prod:7070")
	if err != nil {
		return
	}
	defer conn.Close() //nolint:errcheck // nothing is written any longer
	deadline, _ := ctx.Deadline()
	line := []byte("1 book\n")
	_ = conn.SetDeadline(deadline) // a new connection has one
	_, _ = conn.Write(line)        // counted in the metrics
	_, _ = io.ReadFull(conn, line)
}
