// Package caller makes calls as one workload of the mesh: with grpc-go's xDS
// client, which istiod configures by the workload's identity, or from inside of
// a pod, whose sidecar sees them.
package caller

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	xdscreds "google.golang.org/grpc/credentials/xds"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	_ "google.golang.org/grpc/xds" // the xds:/// scheme

	"github.com/squall-chaos/squall/sandbox/internal/telemetry"
)

// Calls says what to call and how often.
type Calls struct {
	// Target is HOST:PORT; for gRPC it may begin with a scheme of grpc-go.
	Target string
	// Method, Path and Connect are of HTTP only. Connect is the HOST:PORT that
	// is connected to; empty for the target.
	Method  string
	Path    string
	Connect string
	Headers map[string]string
	Count   int
	// Rate is in calls per second; a call does not wait for the one before.
	Rate    float64
	Timeout time.Duration
}

// Result is the result of the calls.
type Result struct {
	Calls int `json:"calls"`
	// Codes counts the calls by gRPC's code or HTTP's status; TIMEOUT and ERROR
	// are those without an answer.
	Codes map[string]int `json:"codes"`
	// Injected counts the calls that a fault aborted or delayed.
	Injected int     `json:"injected"`
	Latency  Latency `json:"latency_ms"`
}

// Latency is in milliseconds.
type Latency struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// connectTimeout is how long the first connection may take. A target that
// cannot be reached is called all the same: that is a result too.
const connectTimeout = 5 * time.Second

// outcome is the result of one call.
type outcome struct {
	code     string
	injected bool
	took     time.Duration
}

// MakeGRPC calls the health service, which every gRPC server of the sandbox has.
func MakeGRPC(ctx context.Context, calls Calls) (Result, error) {
	// They are istiod's choice for a target with the scheme xds.
	credentials, err := xdscreds.NewClientCredentials(xdscreds.ClientOptions{FallbackCreds: insecure.NewCredentials()})
	if err != nil {
		return Result{}, fmt.Errorf("credentials of gRPC: %w", err)
	}
	conn, err := grpc.NewClient(calls.Target, grpc.WithTransportCredentials(credentials), grpc.WithStatsHandler(telemetry.DelayDetector{}))
	if err != nil {
		return Result{}, fmt.Errorf("dial %s: %w", calls.Target, err)
	}
	defer conn.Close() //nolint:errcheck // the program ends
	connect(ctx, conn)
	client := healthpb.NewHealthClient(conn)
	return spread(ctx, calls, func(ctx context.Context) outcome { return call(ctx, client, calls) })
}

// spread makes the calls at their rate.
func spread(ctx context.Context, calls Calls, call func(context.Context) outcome) (Result, error) {
	outcomes := make([]outcome, calls.Count)
	var running sync.WaitGroup
	start := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i := range outcomes {
		timer.Reset(time.Until(start.Add(time.Duration(float64(i) / calls.Rate * float64(time.Second)))))
		select {
		case <-ctx.Done():
			return Result{}, ctx.Err()
		case <-timer.C:
		}
		running.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, calls.Timeout)
			defer cancel()
			outcomes[i] = call(ctx)
		})
	}
	running.Wait()
	return summarize(outcomes), nil
}

// connect waits until the connection is ready or cannot be made.
func connect(ctx context.Context, conn *grpc.ClientConn) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn.Connect()
	for state := conn.GetState(); state != connectivity.Ready && state != connectivity.TransientFailure; state = conn.GetState() {
		if !conn.WaitForStateChange(ctx, state) {
			return
		}
	}
}

func call(ctx context.Context, client healthpb.HealthClient, calls Calls) outcome {
	ctx = metadata.NewOutgoingContext(ctx, metadata.New(calls.Headers))
	ctx, timing := telemetry.WithTiming(ctx)
	start := time.Now()
	_, err := client.Check(ctx, &healthpb.HealthCheckRequest{})
	injected := timing.Flags(err) != "-" || strings.Contains(status.Convert(err).Message(), abortBody)
	return outcome{code: codeName(err), injected: injected, took: time.Since(start)}
}

// codeName writes a status as gRPC's specification does: UNAVAILABLE.
func codeName(err error) string {
	name := status.Code(err).String() // DeadlineExceeded
	if name == "OK" {
		return name
	}
	var b strings.Builder
	for i, r := range name {
		if i > 0 && r >= 'A' && r <= 'Z' {
			b.WriteByte('_')
		}
		b.WriteRune(r)
	}
	return strings.ToUpper(b.String())
}

func summarize(outcomes []outcome) Result {
	result := Result{Calls: len(outcomes), Codes: map[string]int{}}
	durations := make([]time.Duration, len(outcomes))
	for i, o := range outcomes {
		result.Codes[o.code]++
		if o.injected {
			result.Injected++
		}
		durations[i] = o.took
	}
	slices.Sort(durations)
	result.Latency = Latency{P50: quantile(durations, 0.5), P99: quantile(durations, 0.99), Max: quantile(durations, 1)}
	return result
}

// quantile returns the smallest duration that at least the share q does not
// exceed, in milliseconds.
func quantile(sorted []time.Duration, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	d := sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
	return math.Round(float64(d)/float64(time.Microsecond)) / 1000
}
