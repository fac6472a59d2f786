package config

import (
	"slices"
	"strings"

	"github.com/squall-chaos/squall/istio/fields"
)

// Unaddressed is a host of a ServiceEntry without addresses. Proxies listen for its
// TCP and TLS connections at all addresses, together with the ones of other entries
// (https://istio.io/latest/docs/reference/config/networking/service-entry/, addresses).
type Unaddressed struct {
	Host  string
	Port  Port
	Entry Entry
	// rank is the place of the entry's visibility in istiod's order of services.
	rank int
}

// Before reports whether istiod certainly handles the host before another one:
// services that are not public first, then the older ones
// (istio.io/istio/pilot/pkg/model, servicesExportedToNamespace and
// SortServicesByCreationTime).
func (u Unaddressed) Before(other Unaddressed) bool {
	switch {
	case u.rank != other.rank:
		return u.rank < other.rank
	case u.Entry.Created.IsZero() || other.Entry.Created.IsZero():
		return false
	case !u.Entry.Created.Equal(other.Entry.Created):
		return u.Entry.Created.Before(other.Entry.Created)
	default:
		return strings.Compare(u.Host, other.Host) < 0
	}
}

// Unaddressed returns the hosts without an address on a port that the proxies of a
// namespace import by an egress listener.
func (s Snapshot) Unaddressed(port int64, namespace string, l Listener) []Unaddressed {
	var found []Unaddressed
	for _, object := range s.ServiceEntries {
		for _, name := range fields.Strings(object.Object, "spec", "hosts") {
			for _, entry := range s.Entries(name) {
				at := slices.IndexFunc(entry.Ports, func(p Port) bool { return p.Number == port })
				if at < 0 || entry.Addressed || entry.Kind != "ServiceEntry" || entry.Name != object.GetName() || entry.Namespace != object.GetNamespace() ||
					!s.CanSee(entry, namespace) || !l.ImportsHost(entry.Namespace, name) {
					continue
				}
				found = append(found, Unaddressed{Host: name, Port: entry.Ports[at], Entry: entry, rank: rankOf(s, entry, namespace)})
			}
		}
	}
	return found
}

// rankOf returns the place of an entry's visibility in istiod's order of services.
func rankOf(s Snapshot, entry Entry, namespace string) int {
	switch to := s.exportToOf(entry); {
	case s.isPublic(entry):
		return 2
	case entry.Namespace == namespace && (slices.Contains(to, ".") || slices.Contains(to, namespace)):
		return 0
	default:
		return 1
	}
}
