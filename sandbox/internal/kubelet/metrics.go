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
func (k *Kubelet) serveMetrics(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", layout.Kubelet)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /targets/istio", func(w http.ResponseWriter, _ *http.Request) { writeTargets(w, k.istioTargets()) })
	mux.HandleFunc("GET /targets/envoy", func(w http.ResponseWriter, _ *http.Request) { writeTargets(w, k.envoyTargets()) })
	mux.HandleFunc("GET /metrics/{namespace}/{pod}", func(w http.ResponseWriter, r *http.Request) {
		k.mu.Lock()
		p, ok := k.pods[r.PathValue("namespace")+"/"+r.PathValue("pod")]
		k.mu.Unlock()
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
// serve them itself.
func (k *Kubelet) istioTargets() []Target {
	return k.targets(func(p *pod) (string, string) {
		return layout.Kubelet, "/metrics/" + p.spec.Namespace + "/" + p.spec.Name
	})
}

// envoyTargets lists where Envoy's own statistics of each pod are.
func (k *Kubelet) envoyTargets() []Target {
	return k.targets(func(p *pod) (string, string) {
		return net.JoinHostPort(p.workload.IP, "15090"), "/stats/prometheus"
	})
}

func (k *Kubelet) targets(of func(*pod) (address, path string)) []Target {
	k.mu.Lock()
	defer k.mu.Unlock()
	targets := []Target{}
	for _, p := range k.pods {
		if p.reporter == nil {
			continue
		}
		address, path := of(p)
		targets = append(targets, Target{Targets: []string{address}, Labels: map[string]string{
			"__metrics_path__": path, "namespace": p.spec.Namespace, "pod": p.spec.Name, "app": p.workload.Labels["app"], "instance": p.workload.IP,
		}})
	}
	return targets
}
