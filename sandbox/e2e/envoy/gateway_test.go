package envoy_test

import "testing"

// Users come through the ingress gateway, and see what a fault behind it does.
func TestThroughTheGateway(t *testing.T) {
	const shop = "shop.example.com"
	path := []string{"--path", "/productpage"}
	isClean(t, "outside", shop, path...)
	s := start(t, experiment{target: "{host: details.prod.svc.cluster.local}", callers: "[{namespace: shop, labels: {app: productpage}}]"})
	s.hits("outside", shop, "503", path...) // the page passes the failure on
	want(t, "pages", call(t, "outside", shop, path...), "503")
	want(t, "other paths", call(t, "outside", shop, "--path", "/health"), "200")
	s.ends()
	isClean(t, "outside", shop, path...)
}
