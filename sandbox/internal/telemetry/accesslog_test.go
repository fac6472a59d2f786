package telemetry

import (
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/squall-chaos/squall/sandbox/internal/identity"
)

type cluster map[string]identity.Workload

func (c cluster) WorkloadAt(address netip.Addr) (identity.Workload, bool) {
	w, ok := c[address.String()]
	return w, ok
}

func (cluster) HostOf(netip.Addr, string) string { return "reviews.shop.svc.cluster.local" }

func (cluster) NamespaceOf(host string) string {
	if host == "api.example.com" {
		return "shop"
	}
	return ""
}

// The lines are of a real Envoy.
func TestReadAccessLog(t *testing.T) {
	reviews := identity.Workload{Namespace: "shop", Name: "reviews-v1", IP: "10.77.1.5", Labels: map[string]string{"app": "reviews", "version": "v1"}}
	pods := cluster{
		"10.77.1.5": reviews,
		"10.77.1.1": {Namespace: "prod", Name: "ratings-v1", Labels: map[string]string{"app": "ratings", "version": "v1"}},
		"10.77.1.8": {Namespace: "shop", Name: "productpage-v1", Labels: map[string]string{"app": "productpage", "version": "v1"}},
	}
	for name, test := range map[string]struct {
		line, metric string
		labels       []string
	}{
		"request": {
			`{"code":200,"flags":"-","cluster":"outbound|9080||ratings.prod.svc.cluster.local;","upstream":"10.77.1.1:9080","downstream":"10.77.1.5","upstream_peer":"spiffe://cluster.local/ns/prod/sa/ratings","upstream_local":"spiffe://cluster.local/ns/shop/sa/reviews","duration_us":1500,"protocol":"HTTP/1.1","authority":"ratings.prod:9080"}`,
			"istio_requests_total",
			[]string{`reporter="source"`, `source_workload="reviews-v1"`, `destination_workload="ratings-v1"`, `destination_service="ratings.prod.svc.cluster.local"`, `destination_service_name="ratings"`, `destination_service_namespace="prod"`, `destination_principal="cluster.local/ns/prod/sa/ratings"`, `source_principal="cluster.local/ns/shop/sa/reviews"`, `response_code="200"`, `request_protocol="http"`, `response_flags="-"`, `connection_security_policy="unknown"`},
		},
		"abort of gRPC": {
			`{"code":200,"flags":"FI","cluster":"outbound|9090||stock.prod.svc.cluster.local","downstream":"10.77.1.5","duration_us":100,"protocol":"HTTP/2","content_type":"application/grpc","grpc_status":14}`,
			"istio_requests_total",
			[]string{`destination_service="stock.prod.svc.cluster.local"`, `destination_workload="unknown"`, `response_flags="FI"`, `request_protocol="http"`, `grpc_response_status=""`},
		},
		"gRPC": {
			`{"code":200,"flags":"-","cluster":"outbound|9090||stock.prod.svc.cluster.local","upstream":"10.77.1.1:9090","downstream":"10.77.1.5","duration_ms":3,"protocol":"HTTP/2","content_type":"application/grpc","grpc_status":0}`,
			"istio_requests_total",
			[]string{`request_protocol="grpc"`, `grpc_response_status="0"`},
		},
		"inbound": {
			`{"code":200,"flags":"-","cluster":"inbound|9080||;","upstream":"10.77.1.5:9080","downstream":"10.77.1.8","downstream_peer":"spiffe://cluster.local/ns/shop/sa/productpage","downstream_local":"spiffe://cluster.local/ns/shop/sa/reviews","duration_us":1500,"protocol":"HTTP/1.1","authority":"reviews:9080"}`,
			"istio_requests_total",
			[]string{`reporter="destination"`, `source_workload="productpage-v1"`, `destination_workload="reviews-v1"`, `destination_service="reviews.shop.svc.cluster.local"`, `connection_security_policy="mutual_tls"`, `source_principal="cluster.local/ns/shop/sa/productpage"`},
		},
		"blackhole": {
			`{"code":503,"flags":"UH","cluster":"outbound|9080||squall-x-reject.squall.internal","downstream":"10.77.1.5","duration_us":100,"protocol":"HTTP/1.1","authority":"ratings.prod:9080"}`,
			"istio_requests_total",
			[]string{`destination_service="squall-x-reject.squall.internal"`, `destination_service_name="squall-x-reject.squall.internal"`, `destination_service_namespace="unknown"`, `response_flags="UH"`, `response_code="503"`},
		},
		"external host": {
			`{"code":200,"flags":"-","cluster":"outbound|80||api.example.com","upstream":"10.77.9.9:8080","downstream":"10.77.1.5","protocol":"HTTP/1.1","authority":"api.example.com"}`,
			"istio_requests_total",
			[]string{`destination_service="api.example.com"`, `destination_service_namespace="shop"`, `destination_workload="unknown"`},
		},
		"unknown host": {
			`{"code":404,"flags":"NR","cluster":null,"upstream":null,"downstream":"10.77.1.5","protocol":"HTTP/1.1","authority":"nothing.example.com:80"}`,
			"istio_requests_total",
			[]string{`reporter="source"`, `destination_service="nothing.example.com"`, `destination_service_name="unknown"`, `response_flags="NR"`},
		},
		"connection": {
			`{"code":0,"flags":"-","cluster":"outbound|7070||ledger.prod.svc.cluster.local","upstream":"10.77.1.1:7070","downstream":"10.77.1.5","protocol":null,"bytes_sent":7,"bytes_received":7}`,
			"istio_tcp_connections_opened_total",
			[]string{`request_protocol="tcp"`, `destination_service="ledger.prod.svc.cluster.local"`, `source_workload="reviews-v1"`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			reporter := NewSidecar(reviews)
			if err := reporter.ReadAccessLog(strings.NewReader(test.line+"\n"), pods); err != nil {
				t.Fatal(err)
			}
			recorder := httptest.NewRecorder()
			reporter.Handler().ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
			var found string
			for line := range strings.Lines(recorder.Body.String()) {
				if strings.HasPrefix(line, test.metric+"{") {
					found = line
				}
			}
			if !strings.HasSuffix(strings.TrimSpace(found), "} 1") {
				t.Fatalf("%s is not counted once:\n%s", test.metric, recorder.Body)
			}
			for _, label := range test.labels {
				if !strings.Contains(found, label) {
					t.Errorf("%s lacks %s", found, label)
				}
			}
		})
	}
}

func TestReadAccessLogRefusesGarbage(t *testing.T) {
	reporter := NewSidecar(identity.Workload{Namespace: "shop", Name: "reviews-v1"})
	err := reporter.ReadAccessLog(strings.NewReader("[2026-11-28] GET / 200\n"), cluster{})
	if err == nil || !strings.Contains(err.Error(), "access log of shop/reviews-v1") {
		t.Errorf("error %v", err)
	}
}
