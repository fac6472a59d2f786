package config

// RevisionLabel binds an object to one revision of the control plane; istiod of
// another revision does not read it.
const RevisionLabel = "istio.io/rev"

// useWaypointLabel sends calls to a host through a waypoint.
const useWaypointLabel = "istio.io/use-waypoint"

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

// UsesWaypoint reports whether calls to an entry of the registry may go through a
// waypoint, by the label of the entry or of its namespace.
func (s Snapshot) UsesWaypoint(entry Entry) bool {
	waypoint, own := entry.Labels[useWaypointLabel]
	if !own {
		waypoint = s.Namespaces[entry.Namespace][useWaypointLabel]
	}
	return waypoint != "" && waypoint != "none"
}
