package httpshop

import (
	"context"
	"fmt"
	"net/http"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	xdscreds "google.golang.org/grpc/credentials/xds"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	_ "google.golang.org/grpc/xds" // the xds:/// scheme

	"github.com/squall-chaos/squall/sandbox/internal/identity"
	"github.com/squall-chaos/squall/sandbox/internal/layout"
	"github.com/squall-chaos/squall/sandbox/internal/routes"
	"github.com/squall-chaos/squall/sandbox/internal/telemetry"
)

// stockHost is the gRPC service that the warehouse calls.
const stockHost = "stock.prod.svc.cluster.local"

// warehouse calls the gRPC service without a sidecar: istiod configures its
// client, and signs its certificate, through pilot-agent. It serves the metrics
// of its calls.
func warehouse(ctx context.Context) error {
	self := identity.Workload{
		Namespace: os.Getenv("POD_NAMESPACE"), Name: os.Getenv("WORKLOAD"), IP: os.Getenv("POD_IP"),
		Labels: map[string]string{"app": os.Getenv("APP"), "version": os.Getenv("VERSION")},
	}
	reporter := telemetry.New(self)
	reporter.Routed = routes.Routed(layout.IstiodFromPods, self)
	credentials, err := xdscreds.NewClientCredentials(xdscreds.ClientOptions{FallbackCreds: insecure.NewCredentials()})
	if err != nil {
		return fmt.Errorf("credentials of gRPC: %w", err)
	}
	stock, err := grpc.NewClient("xds:///"+stockHost+grpcPort, append(reporter.DialOptions(stockHost), grpc.WithTransportCredentials(credentials))...)
	if err != nil {
		return err
	}
	defer stock.Close() //nolint:errcheck // the process ends
	// The first calls must not look like delayed ones.
	stock.Connect()
	for state := stock.GetState(); state != connectivity.Ready; state = stock.GetState() {
		if !stock.WaitForStateChange(ctx, state) {
			return ctx.Err()
		}
	}
	go every(ctx, checkoutsPerSecond, func(ctx context.Context) {
		_, _ = healthpb.NewHealthClient(stock).Check(ctx, &healthpb.HealthCheckRequest{}) // counted in the metrics
	})
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", reporter.Handler())
	return serve(ctx, ":"+layout.ProxylessMetricsPort, mux)
}
