package advice

import (
	"strings"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/host"
	"github.com/squall-chaos/squall/mesh"
)

// settingsUnread warns that Istio's default settings are assumed for some callers.
func (w *warnings) settingsUnread(d mesh.Decision) {
	if plane := w.s.Plane; plane.Unread && d.Placement != mesh.Refused {
		w.add("the MeshConfig of %s (ConfigMap %s/%s) may not be read, and Istio's defaults are assumed: a default of exportTo, discoverySelectors or a root namespace there would change what is effective in %s",
			plane.Name(), plane.Namespace, plane.ConfigMap(), d.Callers)
	}
}

// otherVersion warns of a version of Istio whose rules are not known.
func (w *warnings) otherVersion() {
	if version := w.s.Plane.Version; !config.IsKnown(version) {
		w.add("the control plane %s is Istio %s, and Squall knows the rules of Istio %s: compare the routes of a first run with istioctl proxy-config routes", w.s.Plane.Name(), version, config.Versions())
	}
}

// otherDomain warns of a query for a host in the default cluster domain if the mesh has
// another one. Built-in queries complete a short name with the default domain.
func (w *warnings) otherDomain() {
	if w.s.ClusterDomain == "" || w.s.ClusterDomain == host.DefaultDomain {
		return
	}
	forQueries(w.e.Spec, func(what, query string) {
		if strings.Contains(query, ".svc."+host.DefaultDomain) {
			w.add("%s asks for a host in %s, and the cluster domain is %s: write the full name of the host", what, host.DefaultDomain, w.s.ClusterDomain)
		}
	})
}
