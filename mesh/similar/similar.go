// Package similar names what exists in a mesh in place of a name that does not.
package similar

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/squall-chaos/squall/internal/nearest"
	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/fields"
)

// Host returns a sentence that names the host of a mesh which an unknown one
// resembles most; it is empty if there is none.
func Host(s config.Snapshot, unknown string) string {
	var names []string
	for _, service := range s.Services {
		names = append(names, fmt.Sprintf("%s.%s.svc.%s", service.Name, service.Namespace, s.ClusterDomain))
	}
	for _, entry := range s.ServiceEntries {
		names = append(names, fields.Strings(entry.Object, "spec", "hosts")...)
	}
	// The domain would make all hosts similar.
	short := func(name string) string { return strings.TrimSuffix(name, ".svc."+s.ClusterDomain) }
	shorts := make([]string, len(names))
	for i, name := range names {
		shorts[i] = short(name)
	}
	best := nearest.Of(short(unknown), shorts)
	if i := slices.Index(shorts, best); i >= 0 && best != "" {
		return fmt.Sprintf("did you mean %s? ", names[i])
	}
	return ""
}

// Namespace returns a sentence that names the namespace of a mesh which an unknown
// one resembles most; it is empty if there is none.
func Namespace(s config.Snapshot, unknown string) string {
	if best := nearest.Of(unknown, slices.Sorted(maps.Keys(s.Namespaces))); best != "" {
		return fmt.Sprintf("did you mean %s? ", best)
	}
	return ""
}

// Ports lists the ports of a host: "80 (http), 9090 (grpc)".
func Ports(ports []config.Port) string {
	var texts []string
	for _, port := range ports {
		text := fmt.Sprint(port.Number)
		if port.Name != "" {
			text += " (" + port.Name + ")"
		}
		if !slices.Contains(texts, text) {
			texts = append(texts, text)
		}
	}
	return strings.Join(texts, ", ")
}
