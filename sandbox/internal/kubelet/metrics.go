package kubelet

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"time"

	"github.com/squall-chaos/squall/sandbox/internal/layout"
)

// Target is a target of Prometheus, as its HTTP service discovery reads it.
type Target struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// serveMetrics serves the metrics of all pods, and the list of them for
// Prometheus, until ctx ends.
func (l *pods) serveMetrics(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", layout.Kubelet)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /targets/istio", func(w http.ResponseWriter, _ *http.Request) { writeTargets(w, l.istioTargets()) })
	mux.HandleFunc("GET /targets/envoy", func(w http.ResponseWriter, _ *http.Request) { writeTargets(w, l.envoyTargets()) })
	mux.HandleFunc("GET /metrics/{namespace}/{pod}", func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		p, ok := l.byName[r.PathValue("namespace")+"/"+r.PathValue("pod")]
		l.mu.Unlock()
		if !ok || p.reporter == nil {
			http.NotFound(w, r)
			return
		}
		p.reporter.Handler().ServeHTTP(w, r)
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	go func() { _ = server.Serve(listener) }() // until it is closed
	return nil
}

func writeTargets(w http.ResponseWriter, targets []Target) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(targets) // Prometheus asks again
}

// istioTargets lists where Istio's metrics of each pod are. A sidecar would
// serve them itself, as an application without Envoy does here.
func (l *pods) istioTargets() []Target {
	return l.targets(func(p *pod) (string, string) {
		if p.kind == grpcAgent {
			return net.JoinHostPort(p.workload.IP, layout.ProxylessMetricsPort), "/metrics"
		}
		return layout.Kubelet, "/metrics/" + p.spec.Namespace + "/" + p.spec.Name
	})
}

// envoyTargets lists where Envoy's own statistics of each pod are.
func (l *pods) envoyTargets() []Target {
	return l.targets(func(p *pod) (string, string) {
		if !p.kind.hasEnvoy() {
			return "", ""
		}
		return net.JoinHostPort(p.workload.IP, "15090"), "/stats/prometheus"
	})
}

// targets lists the pods that are in the mesh and for which an address is
// returned.
func (l *pods) targets(of func(*pod) (address, path string)) []Target {
	l.mu.Lock()
	defer l.mu.Unlock()
	targets := []Target{}
	for _, p := range l.byName {
		address, path := of(p)
		if p.kind == noProxy || p.network == nil || address == "" {
			continue
		}
		targets = append(targets, Target{Targets: []string{address}, Labels: map[string]string{
			"__metrics_path__": path, "namespace": p.spec.Namespace, "pod": p.spec.Name, "app": p.workload.Labels["app"], "instance": p.workload.IP,
		}})
	}
	return targets
}
