package routes

import (
	"context"
	"regexp"
	"sync"
	"time"

	"github.com/squall-chaos/squall/sandbox/internal/identity"
)

// cluster is the name of a cluster: direction, port, subset and host.
var cluster = regexp.MustCompile(`"outbound\|\d+\|[^|"]*\|([^"]+)"`)

// routedFor is how long an answer of Routed is valid.
const routedFor = 200 * time.Millisecond

// Routed returns a function that returns the host that a workload's calls to a
// service go to, which may be another one: proxyless gRPC does not report which
// cluster it has chosen. It asks istiod at an address.
func Routed(istiod string, w identity.Workload) func(ctx context.Context, service string) string {
	type answer struct {
		host string
		at   time.Time
	}
	var mu sync.Mutex
	known := map[string]answer{}
	return func(ctx context.Context, service string) string {
		mu.Lock()
		defer mu.Unlock()
		if a, fresh := known[service]; fresh && time.Since(a.at) < routedFor {
			return a.host
		}
		host := service
		if configs, err := fetch(context.WithoutCancel(ctx), istiod, w, "sidecar", service); err == nil {
			for _, found := range cluster.FindAllSubmatch(configs, -1) {
				if string(found[1]) != service {
					host = string(found[1])
				}
			}
		}
		known[service] = answer{host: host, at: time.Now()}
		return host
	}
}
