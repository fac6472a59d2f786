// Package identity says who a workload is to istiod: its node id and the
// metadata that come with it.
package identity

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/squall-chaos/squall/sandbox/internal/layout"
)

// Workload is one workload of the mesh.
type Workload struct {
	Namespace string
	Name      string
	// IP is the loopback address of its pod.
	IP     string
	Labels map[string]string
}

// clientIP is the address of a workload that only calls.
const clientIP = "127.0.1.1"

// Parse reads NAMESPACE/WORKLOAD and labels as k=v,k=v. Without labels the
// workload gets app: its name without a version such as -v1, and the version,
// as the shop's own workloads have them.
func Parse(name, labels string) (Workload, error) {
	namespace, workload, ok := strings.Cut(name, "/")
	if !ok || namespace == "" || workload == "" || strings.Contains(workload, "/") {
		return Workload{}, fmt.Errorf("%q is not NAMESPACE/WORKLOAD, such as shop/reviews-v1", name)
	}
	w := Workload{Namespace: namespace, Name: workload, IP: clientIP, Labels: map[string]string{}}
	if labels == "" {
		w.Labels["app"] = workload
		if i := strings.LastIndex(workload, "-v"); i > 0 {
			w.Labels["app"], w.Labels["version"] = workload[:i], workload[i+1:]
		}
		return w, nil
	}
	for pair := range strings.SplitSeq(labels, ",") {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return Workload{}, fmt.Errorf("%q is not a label, such as app=reviews", pair)
		}
		w.Labels[key] = value
	}
	return w, nil
}

// NodeID returns the xDS node id for a kind of proxy: sidecar or router.
func (w Workload) NodeID(kind string) string {
	return fmt.Sprintf("%s~%s~%s.%s~%s.svc.cluster.local", kind, w.IP, w.Name, w.Namespace, w.Namespace)
}

// Metadata returns the xDS node metadata that istiod reads.
func (w Workload) Metadata() map[string]any {
	labels := map[string]any{}
	for key, value := range w.Labels {
		labels[key] = value
	}
	return map[string]any{
		"NAMESPACE":     w.Namespace,
		"LABELS":        labels,
		"INSTANCE_IPS":  w.IP,
		"CLUSTER_ID":    "Kubernetes",
		"ISTIO_VERSION": "1.31.0",
	}
}

// Servers returns the servers of a bootstrap: istiod, in plain text.
func Servers(istiod string) []any {
	return []any{map[string]any{
		"server_uri":      istiod,
		"channel_creds":   []any{map[string]any{"type": "insecure"}},
		"server_features": []any{"xds_v3"},
	}}
}

// BootstrapVariable is the environment variable from which grpc-go reads the
// bootstrap when the program starts.
const BootstrapVariable = "GRPC_XDS_BOOTSTRAP_CONFIG"

// Bootstrap returns the workload's grpc-go bootstrap: the real proxyless client
// that istiod drives.
func (w Workload) Bootstrap() (string, error) {
	metadata := w.Metadata()
	metadata["GENERATOR"] = "grpc"
	encoded, err := json.Marshal(map[string]any{
		"xds_servers": Servers(layout.IstiodXDS),
		"node":        map[string]any{"id": w.NodeID("sidecar"), "metadata": metadata},
	})
	if err != nil {
		return "", fmt.Errorf("xDS bootstrap of %s/%s: %w", w.Namespace, w.Name, err)
	}
	return string(encoded), nil
}
