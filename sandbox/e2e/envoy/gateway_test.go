package envoy_test

import "testing"

// The ingress gateway is a caller like any other.
func TestGateway(t *testing.T) {
	const shop = "shop.example.com"
	path := []string{"--path", "/productpage"}
	isClean(t, "outside", shop, path...)
	s := start(t, experiment{
		target:  "{host: productpage.shop.svc.cluster.local}",
		callers: "[{namespace: istio-ingress, labels: {istio: ingressgateway}}]",
	})
	s.hits("outside", shop, "555", path...)
	want(t, "calls through the gateway", call(t, "outside", shop, path...), "555")
	want(t, "calls inside of the mesh", call(t, other, "productpage.shop:9080", path...), "200")
	s.ends()
	isClean(t, "outside", shop, path...)
}
