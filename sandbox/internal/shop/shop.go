// Package shop is a small shop of Bookinfo's shape: a product page that calls
// reviews and details over proxyless gRPC, reviews that call ratings, and a
// load generator for it. istiod drives their real grpc-go clients.
package shop

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	_ "google.golang.org/grpc/xds" // the xds:/// scheme

	"github.com/squall-chaos/squall/sandbox/internal/identity"
	"github.com/squall-chaos/squall/sandbox/internal/layout"
	"github.com/squall-chaos/squall/sandbox/internal/routes"
	"github.com/squall-chaos/squall/sandbox/internal/telemetry"
)

// Manifests are the shop's namespaces, services and routes.
//
//go:embed shop.yaml
var Manifests []byte

// Alerts are the shop's alerting rules.
//
//go:embed alerts.yaml
var Alerts []byte

// The hosts of the shop's services, by which the mesh knows them.
const (
	productPageHost = "productpage.shop.svc.cluster.local"
	reviewsHost     = "reviews.shop.svc.cluster.local"
	ratingsHost     = "ratings.prod.svc.cluster.local"
	detailsHost     = "details.prod.svc.cluster.local"
	port            = ":9080"
)

// Workload is one process of the shop.
type Workload struct {
	identity.Workload
	// Listen is the address of its service; empty for one that only calls.
	Listen string
	serve  func(ctx context.Context, self Workload, reporter *telemetry.Reporter) error
}

// Workloads lists the shop's processes in the order in which they start.
func Workloads() []Workload {
	workload := func(namespace, name, app, version, listen, ip string, serve func(context.Context, Workload, *telemetry.Reporter) error) Workload {
		return Workload{Workload: identity.Workload{Namespace: namespace, Name: name, IP: ip, Labels: map[string]string{"app": app, "version": version}}, Listen: listen, serve: serve}
	}
	ip := func(address string) string { host, _, _ := net.SplitHostPort(address); return host }
	return []Workload{
		workload("prod", "ratings-v1", "ratings", "v1", layout.Ratings, ip(layout.Ratings), serveRatings),
		workload("prod", "details-v1", "details", "v1", layout.Details, ip(layout.Details), serveDetails),
		workload("shop", "reviews-v1", "reviews", "v1", layout.ReviewsV1, ip(layout.ReviewsV1), serveReviews),
		workload("shop", "reviews-v2", "reviews", "v2", layout.ReviewsV2, ip(layout.ReviewsV2), serveReviews),
		workload("shop", "productpage-v1", "productpage", "v1", layout.ProductPage, ip(layout.ProductPage), serveProductPage),
		workload("shop", "loadgenerator", "loadgenerator", "v1", "", "127.0.0.20", generateLoad),
	}
}

// Find returns the workload of a name.
func Find(name string) (Workload, error) {
	for _, w := range Workloads() {
		if w.Name == name {
			return w, nil
		}
	}
	return Workload{}, fmt.Errorf("the shop has no workload %q", name)
}

// Listeners lists the addresses that the shop needs.
func Listeners() []layout.Listener {
	var listeners []layout.Listener
	for _, w := range Workloads() {
		if w.Listen != "" {
			listeners = append(listeners, layout.Listener{Owner: w.Name, Address: w.Listen})
		}
		listeners = append(listeners, layout.Listener{Owner: w.Name, Address: layout.Metrics(w.IP)})
	}
	return listeners
}

// Run serves the workload and its metrics until ctx ends.
func (w Workload) Run(ctx context.Context) error {
	reporter := telemetry.New(w.Workload)
	reporter.Routed = routes.Routed(layout.IstiodXDS, w.Workload)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	mux := http.NewServeMux()
	mux.Handle("/metrics", reporter.Handler())
	go func() { cancel(serveHTTP(ctx, layout.Metrics(w.IP), mux)) }()
	if err := w.serve(ctx, w, reporter); err != nil {
		return err
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// readHeaderTimeout bounds a client that sends no request.
const readHeaderTimeout = 5 * time.Second

// serveHTTP serves until ctx ends.
func serveHTTP(ctx context.Context, address string, handler http.Handler) error {
	server := &http.Server{Addr: address, Handler: handler, ReadHeaderTimeout: readHeaderTimeout}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })() // the process ends
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// serveGRPC serves one service of the shop, and health checks, until ctx ends.
func serveGRPC(ctx context.Context, self Workload, reporter *telemetry.Reporter, host string, service *grpc.ServiceDesc) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", self.Listen)
	if err != nil {
		return err
	}
	server := grpc.NewServer(reporter.ServerOptions(host)...)
	healthpb.RegisterHealthServer(server, health.NewServer())
	server.RegisterService(service, nil)
	defer context.AfterFunc(ctx, server.Stop)()
	return server.Serve(listener)
}

// dial connects to a service through istiod's configuration, and waits until
// the connection is ready so that the first call is not slower than others.
func dial(ctx context.Context, reporter *telemetry.Reporter, host string) (*grpc.ClientConn, error) {
	options := append(reporter.DialOptions(host), grpc.WithTransportCredentials(insecure.NewCredentials()))
	conn, err := grpc.NewClient("xds:///"+host+port, options...)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", host, err)
	}
	conn.Connect()
	for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
		if !conn.WaitForStateChange(ctx, state) {
			return nil, fmt.Errorf("dial %s: %w", host, ctx.Err())
		}
	}
	return conn, nil
}
