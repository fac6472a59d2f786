package controlplane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/squall-chaos/squall/sandbox/internal/control"
	"github.com/squall-chaos/squall/sandbox/internal/httpshop"
	"github.com/squall-chaos/squall/sandbox/internal/kubelet"
	"github.com/squall-chaos/squall/sandbox/internal/layout"
	"github.com/squall-chaos/squall/sandbox/internal/network"
	"github.com/squall-chaos/squall/sandbox/internal/poll"
	"github.com/squall-chaos/squall/sandbox/internal/telemetry"
)

// Sidecars is what a sandbox with sidecars needs. The process must be in
// namespaces that were made for it.
type Sidecars struct {
	// Envoy is the path of the proxy.
	Envoy string
	// APIServer and Prometheus are their addresses on the host.
	APIServer, Prometheus string
	// Gateways says that the shop has an ingress gateway.
	Gateways bool
}

// podControllers are the controllers that pods need.
const podControllers = "endpointslice-controller,deployment-controller,replicaset-controller"

// sidecarIstiod is the environment of istiod: it signs certificates, and leaves
// out the filters that only Istio's build of Envoy has.
var sidecarIstiod = []string{ //nolint:gochecknoglobals // a constant list
	"ENABLE_CA_SERVER=true", "PILOT_CERT_PROVIDER=istiod", "K8S_TOKEN_AUDIENCES=", "CLUSTER_ID=Kubernetes",
	"PILOT_ENABLE_ALPN_FILTER=false", "PILOT_ENABLE_METADATA_EXCHANGE=false",
}

// sidecarScrapes makes Prometheus scrape all pods: the metrics that are computed
// from access logs, and Envoy's own statistics.
const sidecarScrapes = `- job_name: istio
  http_sd_configs:
  - {url: "http://` + layout.Kubelet + `/targets/istio", refresh_interval: 1s}
- job_name: envoy
  scrape_interval: 5s
  http_sd_configs:
  - {url: "http://` + layout.Kubelet + `/targets/envoy", refresh_interval: 1s}
`

func sidecarMeshConfig() []byte {
	config := map[string]any{
		"rootNamespace": "istio-system", "trustDomain": "cluster.local",
		"defaultProviders": map[string]any{"metrics": []string{}, "accessLogging": []string{"sandbox"}},
		"extensionProviders": []any{map[string]any{
			"name": "sandbox",
			"envoyFileAccessLog": map[string]any{
				"path": layout.AccessLog, "logFormat": map[string]any{"labels": telemetry.AccessLogFormat()},
			},
		}},
	}
	encoded, _ := json.Marshal(config) // strings always encode; JSON is YAML
	return encoded
}

func (m *Mesh) sidecarSteps() []step {
	return []step{
		{name: "network", do: m.startNetwork},
		{name: "files", do: m.writeFiles},
		{name: "etcd", do: m.parts.startEtcd},
		{name: "kube-apiserver", do: m.parts.startAPIServer},
		{name: "Istio's CRDs", do: m.applyCRDs},
		{name: "kube-controller-manager, istiod, Prometheus", do: m.startControllers},
		{name: "the pods", do: m.startPods},
		{name: "the load", do: m.startLoad},
		{name: "heartbeats", do: m.proveHeartbeat},
	}
}

// startNetwork builds the network of the node and begins to take commands.
func (m *Mesh) startNetwork(context.Context) error {
	resolver := m.Dir.Path("resolv.conf")
	if err := errors.Join(os.WriteFile(resolver, []byte(network.ResolvConf), 0o600), network.Isolate(resolver)); err != nil {
		return err
	}
	var err error
	m.node, err = network.NewNode()
	return err
}

// startPods starts the kubelet, applies the objects of the shop, and waits until
// all pods are ready.
func (m *Mesh) startPods(ctx context.Context) error {
	programs := kubelet.Programs{
		Sandbox: filepath.Join(m.parts.bin, "sandbox"), ControlPlane: filepath.Join(m.parts.bin, "sandbox-controlplane"),
		Envoy: m.Sidecars.Envoy, Bootstrap: filepath.Join(m.parts.bin, "envoy_bootstrap.json"),
	}
	var err error
	m.kubelet, err = kubelet.New(m.parts.admin, m.Dir, programs, m.node, m.parts.group, m.Log)
	if err != nil {
		return err
	}
	// It runs for longer than this step.
	if err := m.kubelet.Run(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	listener, err := control.Listen(m.Dir)
	if err != nil {
		return fmt.Errorf("take commands: %w", err)
	}
	go control.Serve(listener, m.kubelet.Enter)
	if !m.Shop {
		return nil
	}
	manifests, err := httpshop.Manifests(m.Sidecars.Gateways)
	if err != nil {
		return err
	}
	if err := m.kube.Apply(ctx, manifests); err != nil {
		return err
	}
	typed, err := kubernetes.NewForConfig(m.parts.admin)
	if err != nil {
		return err
	}
	return poll.Until(ctx, func() error { return podsReady(ctx, typed, httpshop.Pods(m.Sidecars.Gateways)) })
}

// podsReady returns an error unless as many pods as wanted are there, and all of
// them are ready.
func podsReady(ctx context.Context, client kubernetes.Interface, wanted int) error {
	pods, err := client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, pod := range pods.Items {
		ready := false
		for _, condition := range pod.Status.Conditions {
			ready = ready || condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue
		}
		if !ready {
			return fmt.Errorf("pod %s/%s is not ready", pod.Namespace, pod.Name)
		}
	}
	if len(pods.Items) != wanted {
		return fmt.Errorf("%d pods instead of %d", len(pods.Items), wanted)
	}
	return nil
}

// startLoad waits until the load of the shop is steady in Prometheus.
func (m *Mesh) startLoad(ctx context.Context) error {
	if !m.Shop {
		return nil
	}
	return m.steadyLoad(ctx)
}

// RelayTo connects the listeners on the host with the API server and Prometheus.
func RelayTo(apiServer, prometheus net.Listener) {
	go control.Relay(apiServer, layout.APIServer)
	go control.Relay(prometheus, layout.Prometheus)
}
