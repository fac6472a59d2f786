package envoy_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
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

// The faults at a gateway, each on the requests with one header. code is the answer to
// the requests that are hit; with a delay it is the target's.
var gatewayFaults = []struct{ name, fault, code string }{
	{"abort", "{abort: {httpStatus: 555}, percentage: 100}", "555"},
	{"delay", "{delay: {fixedDelay: 4s}, percentage: 100}", timedOut},
	{"reject", "{blackhole: {mode: reject}}", "503"},
	{"drop", "{blackhole: {mode: drop}}", timedOut},
}

// timedOut is the result of a call without an answer.
const timedOut = "TIMEOUT"

// The ingress gateway injects the faults into the requests for one path of one host that
// have a header. Other requests through it, and the calls in the mesh, stay as they are.
func TestFaultsAtTheIngressGateway(t *testing.T) { //nolint:tparallel // its runs are for one host
	t.Parallel()
	const shop = "shop.example.com"
	call1 := []string{"-n", "1", "--timeout", "2s", "--path", "/edge/a", "--header", "x-edge=yes"}
	for _, test := range gatewayFaults {
		t.Run(test.name, func(t *testing.T) {
			s := start(t, experiment{
				target: pageTarget, callers: "[{gateway: {namespace: istio-ingress, labels: {istio: ingressgateway}}}]",
				match: "[{authority: {exact: " + shop + "}, uri: {prefix: /edge/}, headers: {x-edge: {exact: \"yes\"}}}]", faults: "[" + test.fault + "]",
			})
			s.hits("outside", shop, test.code, call1...)
			want(t, "the requests", call(t, "outside", shop, append(call1, "-n", "5")...), test.code)
			want(t, "other requests", call(t, "outside", shop, "-n", "5", "--path", "/edge/a"), "200")
			want(t, "other paths", call(t, "outside", shop, "-n", "5", "--path", "/health", "--header", "x-edge=yes"), "200")
			want(t, "calls in the mesh", call(t, other, "productpage.shop.svc.cluster.local:9080", "-n", "5", "--path", "/edge/a", "--header", "x-edge=yes"), "200")
			s.ends()
			isClean(t, "outside", shop, "-n", "5", "--path", "/edge/a", "--header", "x-edge=yes")
		})
	}
}

// pageTarget is the target of the ingress gateway.
const pageTarget = "{host: productpage.shop.svc.cluster.local}"

// The egress gateway injects the faults into the calls of all workloads that leave through
// it.
func TestFaultsAtTheEgressGateway(t *testing.T) { //nolint:tparallel // its runs are for one host
	t.Parallel()
	call1 := []string{"-n", "1", "--timeout", "2s", "--header", "x-edge=yes"}
	for _, test := range gatewayFaults {
		t.Run(test.name, func(t *testing.T) {
			s := start(t, experiment{
				target: paymentsTarget, callers: "[{gateway: {namespace: istio-egress, labels: {istio: egressgateway}}}]",
				match: "[{headers: {x-edge: {exact: \"yes\"}}}]", faults: "[" + test.fault + "]",
			})
			s.hits(other, payments, test.code, call1...)
			want(t, "the requests", call(t, other, payments, append(call1, "-n", "5")...), test.code)
			want(t, "other requests", call(t, other, payments, "-n", "5"), "200")
			s.ends()
			isClean(t, other, payments, "-n", "5", "--header", "x-edge=yes")
		})
	}
}

// A run proves its hits by what the gateway reports, and the cluster removes the fault
// when the run is killed.
func TestKilledAtTheGateway(t *testing.T) {
	t.Parallel()
	const shop = "shop.example.com"
	request := []string{"--path", "/edge/killed"}
	s := start(t, experiment{
		target: pageTarget, callers: "[{gateway: {namespace: istio-ingress, labels: {istio: ingressgateway}}}]",
		match: "[{uri: {exact: /edge/killed}}]", more: "effect: {minRequests: 5}",
	})
	s.hits("outside", shop, "555", request...)
	eventually(t, func() error {
		call(t, "outside", shop, append(request, "-n", "5")...)
		if !strings.Contains(s.stderr.String(), "the fault hits requests") {
			return errors.New("the run has seen no hit")
		}
		return nil
	})
	s.signal(os.Kill)
	isClean(t, "outside", shop, request...)
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
		selector := fmt.Sprintf(`{reporter="source",source_workload=%q,destination_service=%q,response_flags=~"-|DI"}`, test.workload, test.host)
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
