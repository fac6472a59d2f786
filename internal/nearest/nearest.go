// Package nearest finds the known name that an unknown one resembles most.
package nearest

import (
	"strings"

	"github.com/agnivade/levenshtein"
)

// Of returns the name that unknown resembles most, and an empty string if it resembles
// none: more than half of it would have to be changed.
func Of(unknown string, names []string) string {
	best, distance := "", len(unknown)/2+1
	for _, name := range names {
		if len(unknown) >= 3 && name != "" && (strings.HasPrefix(unknown, name) || strings.HasPrefix(name, unknown)) {
			return name
		}
		if d := levenshtein.ComputeDistance(strings.ToLower(unknown), strings.ToLower(name)); d < distance {
			best, distance = name, d
		}
	}
	return best
}
