// Package impact computes what the objects of a plan do to callers beyond the requests
// that they hit: how long a dropped request waits, and which open connections the
// callers' proxies close.
package impact

import (
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/istio/fields"
	"github.com/squall-chaos/squall/istio/routing"
)

// Wait is how long the callers' proxies wait for an address that never answers. A
// caller may stop waiting earlier.
type Wait struct {
	// Protocol is http, or tcp for connections to TCP and TLS ports.
	Protocol string `json:"protocol"`
	// Longest is the wait of one request or connection alone.
	Longest experiments.Duration `json:"longest"`
	// Attempts is how often the proxy tries to connect, each for as long as
	// ConnectTimeout.
	Attempts       int64                `json:"attempts"`
	ConnectTimeout experiments.Duration `json:"connectTimeout"`
	// Timeout is the timeout of the route, if it ends the wait.
	Timeout experiments.Duration `json:"timeout,omitzero"`
}

// Closing is the open connections that the callers' proxies close. They replace the
// filter chain of a port when its routes change, and close the connections of the old
// one later, whatever share of new connections is diverted
// (https://www.envoyproxy.io/docs/envoy/latest/configuration/listeners/listener_filters).
type Closing struct {
	// Ports are the ports of the target.
	Ports []int64 `json:"ports"`
	// After is the time from a change to the end of the connections that were open
	// then.
	After experiments.Duration `json:"after"`
}

// Of returns what objects with blackholes do, given the target's ports.
func Of(s config.Snapshot, objects []*unstructured.Unstructured, ports []config.Port) (waits []Wait, closes *Closing) {
	i := newImpact(s, objects, ports)
	closing := map[int64]bool{}
	for _, object := range objects {
		spec := fields.Map(object.Object, "spec")
		for _, route := range fields.Maps(spec, "http") {
			i.http(route)
		}
		for _, route := range slices.Concat(fields.Maps(spec, "tcp"), fields.Maps(spec, "tls")) {
			i.connections(route, closing)
		}
	}
	if len(closing) > 0 {
		closes = &Closing{After: experiments.Duration{Duration: s.DrainDuration}}
		for _, port := range ports {
			if closing[port.Number] {
				closes.Ports = append(closes.Ports, port.Number)
			}
		}
	}
	return i.waits, closes
}

type impact struct {
	mesh  config.Snapshot
	ports []config.Port
	// drops are the hosts with an address that never answers, with their settings.
	drops map[string]routing.Policies
	waits []Wait
}

func newImpact(s config.Snapshot, objects []*unstructured.Unstructured, ports []config.Port) *impact {
	i := &impact{mesh: s, ports: ports, drops: map[string]routing.Policies{}}
	for _, object := range objects {
		spec := fields.Map(object.Object, "spec")
		if len(fields.Maps(spec, "endpoints")) > 0 {
			for _, host := range fields.Strings(spec, "hosts") {
				i.drops[host] = routing.Policies{}
			}
		}
	}
	for _, object := range objects {
		host := fields.String(fields.Map(object.Object, "spec"), "host")
		if _, drops := i.drops[host]; drops {
			i.drops[host] = routing.Policies{Rules: []*unstructured.Unstructured{object}}
		}
	}
	return i
}

// http adds the wait of a route for HTTP.
func (i *impact) http(route map[string]any) {
	connect, drops := i.connectTimeout(route, config.Port.HasHTTPRoutes)
	if !drops {
		return
	}
	attempts := i.attempts(route)
	wait := Wait{Protocol: "http", Attempts: attempts, ConnectTimeout: experiments.Duration{Duration: connect}}
	wait.Longest.Duration = time.Duration(attempts) * connect
	if timeout := duration(route, "timeout"); timeout > 0 && timeout < wait.Longest.Duration {
		wait.Timeout.Duration, wait.Longest.Duration = timeout, timeout
	}
	i.add(wait)
}

// connections adds the wait of a route for connections, and the ports whose open
// connections are closed.
func (i *impact) connections(route map[string]any, closing map[int64]bool) {
	for _, match := range fields.Maps(route, "match") {
		if port, ok := fields.Int(match["port"]); ok {
			closing[port] = true
		}
	}
	if connect, drops := i.connectTimeout(route, func(p config.Port) bool { return !p.HasHTTPRoutes() || p.HasTCPRoutes() }); drops {
		timeout := experiments.Duration{Duration: connect}
		i.add(Wait{Protocol: "tcp", Longest: timeout, Attempts: 1, ConnectTimeout: timeout})
	}
}

func (i *impact) add(wait Wait) {
	if !slices.Contains(i.waits, wait) {
		i.waits = append(i.waits, wait)
	}
}

// connectTimeout returns the longest connect timeout of the addresses that never
// answer to which a route sends a part of its calls, if it does.
func (i *impact) connectTimeout(route map[string]any, relevant func(config.Port) bool) (longest time.Duration, drops bool) {
	for _, weighted := range fields.Maps(route, "route") {
		destination := fields.Map(weighted, "destination")
		policies, known := i.drops[fields.String(destination, "host")]
		if !known {
			continue
		}
		drops = true
		explicit, _ := fields.Int(fields.Map(destination, "port")["number"])
		for _, port := range i.ports {
			if explicit == 0 && !relevant(port) || explicit != 0 && explicit != port.Number && slices.ContainsFunc(i.ports, func(p config.Port) bool { return p.Number == explicit }) {
				continue
			}
			number := port.Number
			if explicit != 0 {
				number = explicit
			}
			tcp := fields.Map(fields.Map(policies.Effective(fields.String(destination, "subset"), number), "connectionPool"), "tcp")
			timeout := duration(tcp, "connectTimeout")
			if timeout == 0 {
				timeout = i.mesh.ConnectTimeout
			}
			longest = max(longest, timeout)
		}
	}
	return longest, drops
}

// attempts returns how often a proxy tries a request of a route whose connections
// fail. A route without retries has the default of the mesh
// (istio.io/istio/pilot/pkg/networking/core/route/retry). Its perTryTimeout does not
// matter: Envoy starts it when an attempt has a connection.
func (i *impact) attempts(route map[string]any) int64 {
	retries := fields.Map(route, "retries")
	if retries == nil {
		return 1 + i.mesh.Retries
	}
	if on := fields.String(retries, "retryOn"); on != "" && !slices.ContainsFunc(strings.Split(on, ","), retriesConnections) {
		return 1
	}
	more, _ := fields.Int(retries["attempts"])
	return 1 + max(more, 0)
}

// retriesConnections reports whether a condition of retryOn holds for a connection
// that cannot be established, or for the 503 that follows from it
// (https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/router_filter#x-envoy-retry-on).
func retriesConnections(condition string) bool {
	return slices.Contains([]string{"5xx", "503", "gateway-error", "reset", "reset-before-request", "connect-failure", "unavailable"}, strings.TrimSpace(condition))
}

func duration(object map[string]any, field string) time.Duration {
	d, err := time.ParseDuration(fields.String(object, field))
	if err != nil {
		return 0
	}
	return d
}
