package envoy_test

import (
	"fmt"
	"testing"
)

// Users come through the ingress gateway, and see what a fault behind it does.
func TestThroughTheGateway(t *testing.T) {
	t.Parallel()
	const shop = "shop.example.com"
	path := []string{"--path", "/productpage"}
	reserve(t, detailsTarget)
	isClean(t, "outside", shop, path...)
	s := start(t, experiment{target: detailsTarget, callers: "[{namespace: shop, labels: {app: productpage}}]"})
	s.hits("outside", shop, "503", path...) // the page passes the failure on
	want(t, "pages", call(t, "outside", shop, path...), "503")
	want(t, "other paths", call(t, "outside", shop, "--path", "/health"), "200")
	s.ends()
	isClean(t, "outside", shop, path...)
}

// The host outside of the mesh.
const (
	payments       = "api.payments.example.com:80"
	paymentsTarget = "{host: api.payments.example.com}"
)

// Calls to a host outside of the mesh leave through the egress gateway. A fault
// for one caller hits only that caller, before the gateway.
func TestThroughTheEgressGateway(t *testing.T) {
	t.Parallel()
	reserve(t, paymentsTarget)
	through := func() int { return completedBy(t, egress, "80", "api.payments.example.com") }
	before := through()
	want(t, "before", call(t, other, payments), "200")
	if got := through() - before; got < 20 {
		t.Fatalf("%d of 20 requests went through the egress gateway", got)
	}
	s := start(t, experiment{target: paymentsTarget, callers: others})
	s.hits(other, payments, "555")
	want(t, "the callers", call(t, other, payments), "555")
	want(t, "other callers", call(t, productpage, payments), "200")
	s.ends()
	isClean(t, other, payments)
}

// The pods of the gateways.
const (
	ingress = "istio-ingress/istio-ingressgateway"
	egress  = "istio-egress/istio-egressgateway"
)

// completedBy returns how many requests to a host an Envoy has seen answered.
func completedBy(t *testing.T, pod, port, host string) int {
	t.Helper()
	return counterOf(t, pod, `cluster\.outbound\|`+port+`\|\|`+host+`;?\.upstream_rq_completed`)
}

// The metrics of gateways are Envoy's own counts.
func TestMetricsOfGateways(t *testing.T) {
	t.Parallel()
	reserve(t, paymentsTarget)
	want(t, "pages", call(t, "outside", "shop.example.com", "--path", "/health"), "200")
	want(t, "payments", call(t, other, payments), "200")
	for _, test := range []struct{ pod, workload, port, host string }{
		{ingress, "istio-ingressgateway", "9080", "productpage.shop.svc.cluster.local"},
		{egress, "istio-egressgateway", "80", "api.payments.example.com"},
	} {
		selector := fmt.Sprintf(`{reporter="source",source_workload=%q,destination_service=%q,response_flags="-"}`, test.workload, test.host)
		// Requests go on meanwhile, so the metrics are between two counts.
		eventually(t, func() error {
			before := completedBy(t, test.pod, test.port, test.host)
			counted, err := query("sum(istio_requests_total" + selector + ")")
			if err != nil {
				return err
			}
			after := completedBy(t, test.pod, test.port, test.host)
			// A scrape is at most a second old.
			if slack := 25; before == 0 || int(counted) < before-slack || int(counted) > after {
				return fmt.Errorf("%s: %g requests in the metrics, and %d to %d in Envoy's statistics", test.workload, counted, before, after)
			}
			return nil
		})
	}
}
