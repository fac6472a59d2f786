package envoy_test

import (
	"fmt"
	"testing"
)

// A client of gRPC without a sidecar calls a server with one, by mTLS. istiod
// configures it, and faults apply to it as to sidecars.
func TestProxyless(t *testing.T) {
	t.Parallel()
	const warehouse, stock, target = "shop/warehouse-v1", "stock.prod.svc.cluster.local:9090", "{host: stock.prod.svc.cluster.local}"
	grpc := func(what, from, code string) {
		t.Helper()
		want(t, what, call(t, from, stock, "--grpc"), code)
	}
	reserve(t, target)
	grpc("before", warehouse, "OK")
	for faults, code := range map[string]string{
		"[{abort: {grpcStatus: ABORTED}, percentage: 100}]": "ABORTED",
		"[{blackhole: {mode: reject}}]":                     "UNAVAILABLE",
	} {
		s := start(t, experiment{target: target, callers: "[{namespace: shop, labels: {app: warehouse}}]", faults: faults, duration: "20s", more: "effect: {minRequests: 20}\n  recovery: {within: 60s}"})
		s.hits(warehouse, stock, code, "--grpc")
		grpc(faults, warehouse, code)
		grpc("callers with a sidecar", other, "OK")
		s.exits(0) // the warehouse's own calls were hit
		eventually(t, func() error { return allAre(call(t, warehouse, stock, "--grpc"), "OK") })
	}
	// The server reports who has called it.
	calls, err := query(`sum(istio_requests_total{reporter="destination",destination_workload="stock-v1",source_workload="warehouse-v1",connection_security_policy="mutual_tls",source_principal="cluster.local/ns/shop/sa/warehouse"})`)
	if err == nil && calls == 0 {
		err = fmt.Errorf("stock has no call of the warehouse by mTLS")
	}
	if err != nil {
		t.Error(err)
	}
}
