package router

import (
	"slices"
	"strings"
)

// Intersection returns the hosts that are in both of two lists; of a host and a wildcard
// that covers it, the host (istio.io/istio/pkg/config/host, Names.Intersection).
func Intersection(a, b []string) []string {
	var names []string
	for _, one := range a {
		for _, other := range b {
			name := ""
			switch {
			case Within(one, other):
				name = one
			case Within(other, one):
				name = other
			default:
				continue
			}
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// Within reports whether every host that a name covers is covered by another one; both
// may be wildcards (istio.io/istio/pkg/config/host, Name.SubsetOf).
func Within(name, other string) bool {
	suffix, wild := strings.CutPrefix(other, "*")
	own, isWild := strings.CutPrefix(name, "*")
	switch {
	case !wild:
		return name == other
	case isWild:
		return len(name) >= len(other) && strings.HasSuffix(own, suffix)
	default:
		return strings.HasSuffix(name, suffix)
	}
}
