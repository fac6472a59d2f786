package telemetry

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// divertedDomain ends the names of the hosts that calls are diverted to. The
// top-level domain is reserved for private use, so no public resolver has it
// (ICANN, .internal).
const divertedDomain = ".squall.internal"

// divertedPrefix begins their names.
const divertedPrefix = "squall-"

// Diverted returns the host that calls to a host are sent to while they are
// diverted. Istio's metrics report them under that host, so its name contains the
// original one: To matches both. The label distinguishes hosts that the same calls
// are diverted to; it is one DNS label that begins with "squall-".
func Diverted(host, label string) string { return label + "." + inDNS(host) + divertedDomain }

// IsDiverted reports whether a host is one that calls are diverted to.
func IsDiverted(host string) bool {
	return strings.HasPrefix(host, divertedPrefix) && strings.HasSuffix(host, divertedDomain)
}

// inDNS returns a host as a part of a DNS name: IPv6 addresses have colons.
func inDNS(host string) string { return strings.ReplaceAll(host, ":", "-") }

// To matches calls to one host, and the calls to it that are diverted.
func To(host string) Matcher { return ToAny([]string{host}) }

// ToAny matches calls to any of some hosts, and the calls to them that are diverted.
func ToAny(hosts []string) Matcher {
	var own, diverted []string
	for _, host := range hosts {
		own = append(own, regexp.QuoteMeta(host))
		diverted = append(diverted, regexp.QuoteMeta(inDNS(host)))
	}
	pattern := `(squall-[^.]+\.)?` + oneOf(own) + `(` + regexp.QuoteMeta(divertedDomain) + `)?`
	if !slices.Equal(own, diverted) {
		pattern = oneOf(own) + `|squall-[^.]+\.` + oneOf(diverted) + regexp.QuoteMeta(divertedDomain)
	}
	return Matcher(fmt.Sprintf("%s=~%q", LabelDestination, pattern))
}

// oneOf returns a regular expression for any of some expressions.
func oneOf(patterns []string) string {
	patterns = slices.Compact(slices.Sorted(slices.Values(patterns)))
	if len(patterns) == 1 {
		return patterns[0]
	}
	return "(" + strings.Join(patterns, "|") + ")"
}

// Answered reports whether a series counts requests that were answered as usual: no
// server error, and no response flag. A diverted request is answered only by a
// filter of the caller's proxy, such as the preflight of CORS. Connections have no
// answer.
func Answered(labels map[string]string) bool {
	code := labels[LabelResponseCode]
	return code != "" && code != "0" && !strings.HasPrefix(code, "5") && labels[LabelResponseFlags] == NoFlag
}
