package mesh

// Injected reports whether a namespace's labels ask for sidecars. The webhooks
// of revisions leave alone what istio-injection decides (istio.io/istio,
// manifests/charts/istio-control/istio-discovery).
func Injected(labels map[string]string) bool {
	injection, decided := labels["istio-injection"]
	return injection == "enabled" || !decided && labels[revisionLabel] != ""
}

// IsAmbient reports whether the pods of a namespace with these labels are
// captured without sidecars.
func IsAmbient(labels map[string]string) bool { return labels["istio.io/dataplane-mode"] == "ambient" }
