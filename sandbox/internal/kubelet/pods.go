package kubelet

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/squall-chaos/squall/sandbox/internal/identity"
	"github.com/squall-chaos/squall/sandbox/internal/network"
	"github.com/squall-chaos/squall/sandbox/internal/telemetry"
)

// pods are the pods of the node, and the Services that lead to them.
type pods struct {
	services *services

	mu     sync.Mutex
	byName map[string]*pod // by namespace/name
}

var _ telemetry.Directory = (*pods)(nil)

func nameOf(spec *corev1.Pod) string { return spec.Namespace + "/" + spec.Name }

// find returns the pod of an object, and whether it is known.
func (l *pods) find(spec *corev1.Pod) (*pod, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, known := l.byName[nameOf(spec)]
	return p, known
}

// add adds a pod that does not run yet.
func (l *pods) add(spec *corev1.Pod) *pod {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := &pod{spec: spec, workload: identity.Workload{Namespace: spec.Namespace, Name: workloadOf(spec), Labels: spec.Labels}}
	l.byName[nameOf(spec)] = p
	return p
}

// take removes a pod and returns it; nil if it is not known.
func (l *pods) take(spec *corev1.Pod) *pod {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.byName[nameOf(spec)]
	delete(l.byName, nameOf(spec))
	return p
}

// WorkloadAt implements telemetry.Directory.
func (l *pods) WorkloadAt(address netip.Addr) (identity.Workload, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.byName {
		if p.network != nil && p.network.IP == address {
			return p.workload, true
		}
	}
	return identity.Workload{}, false
}

// HostOf implements telemetry.Directory.
func (l *pods) HostOf(address netip.Addr, port string) string {
	w, ok := l.WorkloadAt(address)
	if !ok {
		return ""
	}
	return l.services.hostOf(w, port)
}

// NamespaceOf implements telemetry.Directory.
func (l *pods) NamespaceOf(host string) string { return l.services.namespaceOf(host) }

// istiodHost is the name by which pods know istiod.
const istiodHost = "istiod.istio-system.svc.cluster.local"

// resolve implements network.Resolver.
func (l *pods) resolve(host string, client netip.Addr) []netip.Addr {
	if host == istiodHost {
		return []netip.Addr{netip.MustParseAddr(network.NodeAddress)}
	}
	l.mu.Lock()
	namespace, direct := "", true
	for _, p := range l.byName {
		if p.network != nil && p.network.IP == client {
			namespace, direct = p.workload.Namespace, p.kind != sidecar && p.kind != router
		}
	}
	l.mu.Unlock()
	return l.services.resolve(host, namespace, direct)
}

var errNoPod = errors.New("no such pod")

// running returns a pod, named NAMESPACE/POD or NAMESPACE/WORKLOAD, and its
// network.
func (l *pods) running(name string) (*pod, *network.Namespace, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, ok := l.byName[name]
	var names []string
	for _, other := range l.byName {
		names = append(names, other.workload.Namespace+"/"+other.workload.Name)
		if !ok && other.workload.Namespace+"/"+other.workload.Name == name {
			p, ok = other, true
		}
	}
	if !ok || p.network == nil {
		return nil, nil, fmt.Errorf("%q: %w; there are %s", name, errNoPod, strings.Join(names, ", "))
	}
	return p, p.network, nil
}
