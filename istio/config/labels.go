package config

// RevisionLabel binds an object to one revision of the control plane; istiod of
// another revision does not read it.
const RevisionLabel = "istio.io/rev"

// Injected reports whether a namespace's labels ask for sidecars. The webhooks of
// revisions ignore namespaces that have the label istio-injection
// (istio.io/istio, manifests/charts/istio-control/istio-discovery).
func Injected(labels map[string]string) bool {
	injection, decided := labels["istio-injection"]
	return injection == "enabled" || !decided && labels[RevisionLabel] != ""
}

// IsAmbient reports whether the pods of a namespace with these labels are captured
// without sidecars.
func IsAmbient(labels map[string]string) bool { return labels["istio.io/dataplane-mode"] == "ambient" }
