package web

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// Hosts returns the names by which users reach the page: the one of its URL, which
// may be empty, and others.
func Hosts(externalURL string, others []string) []string {
	hosts := []string{"localhost"}
	if external, err := url.Parse(externalURL); err == nil && external.Hostname() != "" {
		hosts = append(hosts, external.Hostname())
	}
	return append(hosts, others...)
}

// addressed refuses requests to another host: a page of another origin, whose name
// was made to resolve to this server, would read everything (DNS rebinding). Such a
// page cannot use an address, because its origin would be that address.
func addressed(hosts []string, next http.Handler) http.Handler {
	known := make(map[string]bool, len(hosts))
	for _, host := range hosts {
		known[plainHost(host)] = true
	}
	return http.HandlerFunc(func(out http.ResponseWriter, request *http.Request) {
		host := plainHost(request.Host)
		if _, err := netip.ParseAddr(host); err != nil && !known[host] {
			answer(out, http.StatusMisdirectedRequest, problem{Error: "this is not the host of the page", Hint: "squall serve --allowed-host NAME permits another one"})
			return
		}
		next.ServeHTTP(out, request)
	})
}

// plainHost returns a host in lower case, without a port, brackets and the dot of
// the root.
func plainHost(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
