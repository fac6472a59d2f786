package config

import (
	"fmt"
	"regexp"
	"strconv"
)

// The first and the last version of Istio whose rules are known, as 1.X. The rules of
// the last one are used.
const (
	firstMinor = 29
	lastMinor  = 31
)

// Versions returns the versions of Istio whose rules are known: "1.29 to 1.31".
func Versions() string { return fmt.Sprintf("1.%d to 1.%d", firstMinor, lastMinor) }

// AssumedVersion is the version of Istio whose rules are used: 1.31.
func AssumedVersion() string { return fmt.Sprintf("1.%d", lastMinor) }

var minor = regexp.MustCompile(`^v?1\.(\d+)(\D|$)`)

// IsKnown reports whether the rules of a version of Istio are known. A version that is
// not of Istio's form may be any.
func IsKnown(version string) bool {
	parts := minor.FindStringSubmatch(version)
	if parts == nil {
		return true
	}
	number, err := strconv.Atoi(parts[1])
	return err == nil && number >= firstMinor && number <= lastMinor
}
