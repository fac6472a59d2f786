package kubelet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"golang.org/x/sys/unix"

	"github.com/squall-chaos/squall/sandbox/internal/identity"
	"github.com/squall-chaos/squall/sandbox/internal/layout"
	"github.com/squall-chaos/squall/sandbox/internal/network"
	"github.com/squall-chaos/squall/sandbox/internal/poll"
	"github.com/squall-chaos/squall/sandbox/internal/process"
)

// proxyUser is the user of pilot-agent and Envoy, whose connections Istio's
// iptables rules do not redirect.
const proxyUser = 1337

// proxyKind is what a proxy is to pilot-agent.
type proxyKind string

// The kinds of proxies.
const (
	noProxy proxyKind = ""
	sidecar proxyKind = "sidecar"
	router  proxyKind = "router"
	// grpcAgent is pilot-agent without Envoy: it passes istiod's configuration
	// and certificates on to an application that uses gRPC's xDS client.
	grpcAgent proxyKind = "grpc-agent"
)

// hasEnvoy reports whether the pod has an Envoy.
func (k proxyKind) hasEnvoy() bool { return k == sidecar || k == router }

// role returns what the proxy is to istiod.
func (k proxyKind) role() string {
	if k == router {
		return "router"
	}
	return "sidecar"
}

// Labels and annotations that Istio's injection reads and writes.
const (
	injectionLabel      = "istio-injection"           // of a namespace
	injectLabel         = "sidecar.istio.io/inject"   // of a pod
	templatesAnnotation = "inject.istio.io/templates" // of a pod: gateway or grpc-agent
	tlsModeLabel        = "security.istio.io/tlsMode" // of a pod: without it callers send plain text
)

// kindOf returns the kind of proxy that a pod asks for.
func (k *Kubelet) kindOf(ctx context.Context, spec *corev1.Pod) (proxyKind, error) {
	switch spec.Annotations[templatesAnnotation] {
	case "gateway":
		return router, nil
	case "grpc-agent":
		return grpcAgent, nil
	}
	switch spec.Labels[injectLabel] {
	case "true":
		return sidecar, nil
	case "false":
		return noProxy, nil
	}
	namespace, err := k.kube.CoreV1().Namespaces().Get(ctx, spec.Namespace, metav1.GetOptions{})
	if err != nil {
		return noProxy, err
	}
	if namespace.Labels[injectionLabel] == "enabled" {
		return sidecar, nil
	}
	return noProxy, nil
}

// startProxy starts pilot-agent and Envoy, and waits until they are ready.
func (k *Kubelet) startProxy(ctx context.Context, p *pod) error {
	dir := k.podDir(p)
	if err := k.writeProxyFiles(ctx, p, dir); err != nil {
		return err
	}
	if p.kind == sidecar {
		// Istio's injection adds the label to pods with sidecars only.
		patch := fmt.Appendf(nil, `{"metadata":{"labels":{%q:"istio"}}}`, tlsModeLabel)
		if _, err := k.kube.CoreV1().Pods(p.spec.Namespace).Patch(ctx, p.spec.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			return err
		}
		if err := k.redirect(p); err != nil {
			return err
		}
	}
	ready := "http://" + p.workload.IP + ":15020/healthz/ready" // pilot-agent's
	if p.kind.hasEnvoy() {
		ready = "http://" + p.workload.IP + ":15021/healthz/ready" // Envoy's
		if err := k.followAccessLog(p, dir); err != nil {
			return err
		}
	}
	env, err := k.proxyEnv(p)
	if err != nil {
		return err
	}
	_, err = k.run(p, process.Program{
		Name: "istio-proxy", Path: k.programs.ControlPlane, Env: env, Dir: dir, User: proxyUser,
		Args: []string{"pilot-agent", "proxy", p.kind.role(), "--domain", p.spec.Namespace + ".svc.cluster.local", "--proxyLogLevel=warning", "--proxyComponentLogLevel=misc:error"},
	})
	if err != nil {
		return err
	}
	return poll.Until(ctx, func() error { return get(ctx, ready) })
}

// redirect sets up Istio's iptables rules in the pod.
func (k *Kubelet) redirect(p *pod) error {
	child, err := k.run(p, process.Program{
		Name: "istio-init", Path: k.programs.ControlPlane, Env: []string{"PATH=/usr/sbin:/sbin:/usr/bin:/bin", "HOME=/", "XTABLES_LOCKFILE=" + k.dir.Path("xtables.lock")}, Short: true,
		Args: []string{"pilot-agent", "istio-iptables", "-p", "15001", "-z", "15006", "-u", "1337", "-m", "REDIRECT", "-i", "*", "-x", "", "-b", "*", "-d", "15090,15021,15020"},
	})
	if err != nil {
		return err
	}
	if err := child.Wait(); err != nil {
		return fmt.Errorf("istio-iptables: %w; its log: %s", err, k.dir.Log(p.name()+".istio-init"))
	}
	return nil
}

// tokenLifetime is for how many seconds the proxy's token is valid.
const tokenLifetime = 7 * 24 * 3600

// writeProxyFiles writes what a kubelet mounts for the proxy.
func (k *Kubelet) writeProxyFiles(ctx context.Context, p *pod, dir string) error {
	lifetime := int64(tokenLifetime)
	token, err := k.kube.CoreV1().ServiceAccounts(p.spec.Namespace).CreateToken(ctx, p.spec.Spec.ServiceAccountName, &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{
			Audiences: []string{"istio-ca"}, ExpirationSeconds: &lifetime,
			BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: p.spec.Name, UID: p.spec.UID},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("token of the service account: %w", err)
	}
	var root string
	err = poll.Until(ctx, func() error {
		config, err := k.kube.CoreV1().ConfigMaps(p.spec.Namespace).Get(ctx, "istio-ca-root-cert", metav1.GetOptions{})
		if err == nil {
			root = config.Data["root-cert.pem"]
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("root certificate: %w", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	err = errors.Join(
		writeFile(dir, "var/run/secrets/tokens/istio-token", token.Status.Token),
		writeFile(dir, "var/run/secrets/istio/root-cert.pem", root),
		os.MkdirAll(filepath.Join(dir, "etc/istio/proxy"), 0o750),
		unix.Mkfifo(filepath.Join(dir, layout.AccessLog), 0o600),
	)
	if err != nil {
		return err
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, proxyUser, proxyUser)) //nolint:gosec // nothing runs in the new directory yet
	})
}

// followAccessLog computes the metrics of the pod from the access log, which is
// a pipe: nothing of it stays on the disk.
func (k *Kubelet) followAccessLog(p *pod, dir string) error {
	// Opened for writing too, so that it does not end while Envoy is not there.
	pipe, err := os.OpenFile(filepath.Join(dir, layout.AccessLog), os.O_RDWR, 0) //nolint:gosec // the directory of the pod
	if err != nil {
		return fmt.Errorf("access log: %w", err)
	}
	go func() {
		if err := p.reporter.ReadAccessLog(pipe, k.pods); err != nil && !p.removed() {
			fmt.Fprintf(k.log, "sandbox: %v\n", err)
		}
	}()
	return nil
}

// bootstrapFile returns the path of the file that pilot-agent writes, and from
// which gRPC's xDS client in a pod without Envoy reads its identity.
func (k *Kubelet) bootstrapFile(p *pod) string {
	return filepath.Join(k.podDir(p), "grpc-bootstrap.json")
}

// bootstrapVariable returns the assignment of the environment variable with
// the path of the bootstrap.
func (k *Kubelet) bootstrapVariable(p *pod) string {
	return "GRPC_XDS_BOOTSTRAP=" + k.bootstrapFile(p)
}

// directBootstrap returns the bootstrap of another client in the same pod. It
// asks istiod, because pilot-agent serves a single client.
func (k *Kubelet) directBootstrap(p *pod) (string, error) {
	content, err := os.ReadFile(k.bootstrapFile(p))
	if err != nil {
		return "", err
	}
	bootstrap := map[string]any{}
	if err := json.Unmarshal(content, &bootstrap); err != nil {
		return "", fmt.Errorf("xDS bootstrap of %s: %w", p.name(), err)
	}
	bootstrap["xds_servers"] = identity.Servers(layout.IstiodFromPods)
	encoded, err := json.Marshal(bootstrap)
	return string(encoded), err
}

// proxyEnv returns the environment of pilot-agent, as Istio's injection
// template sets it.
func (k *Kubelet) proxyEnv(p *pod) ([]string, error) {
	configPath := "./etc/istio/proxy"
	if p.kind == grpcAgent {
		configPath = k.podDir(p) // the application reads files there
	}
	config, err := json.Marshal(map[string]any{
		"discoveryAddress": "istiod.istio-system.svc:15012",
		"binaryPath":       k.programs.Envoy,
		"configPath":       configPath,
		"concurrency":      1,
		// Metrics must not be older than a scrape.
		"fileFlushInterval": "0.1s",
		"proxyStatsMatcher": map[string]any{"inclusionRegexps": []string{`.*\.fault\..*`, `.*upstream_rq.*`}},
	})
	if err != nil {
		return nil, err
	}
	labels, err := json.Marshal(p.workload.Labels)
	if err != nil {
		return nil, err
	}
	env := []string{
		"PATH=/usr/bin:/bin", "HOME=" + k.podDir(p), "TMPDIR=" + k.podDir(p),
		"POD_NAME=" + p.spec.Name, "POD_NAMESPACE=" + p.spec.Namespace, "INSTANCE_IP=" + p.workload.IP, "HOST_IP=" + network.NodeAddress,
		"SERVICE_ACCOUNT=" + p.spec.Spec.ServiceAccountName, "TRUST_DOMAIN=cluster.local",
		"ISTIO_META_CLUSTER_ID=Kubernetes", "ISTIO_META_NODE_NAME=" + NodeName, "ISTIO_META_MESH_ID=cluster.local",
		"ISTIO_META_WORKLOAD_NAME=" + p.workload.Name, "ISTIO_META_INTERCEPTION_MODE=REDIRECT", "ISTIO_METAJSON_LABELS=" + string(labels),
		"CA_ADDR=istiod.istio-system.svc:15012", "ISTIOD_SAN=istiod.istio-system.svc", "PILOT_CERT_PROVIDER=istiod",
		"ISTIO_BOOTSTRAP=" + k.programs.Bootstrap, "PROXY_CONFIG=" + string(config),
	}
	switch p.kind {
	case router:
		env = append(env, "ISTIO_META_UNPRIVILEGED_POD=true")
	case grpcAgent:
		env = append(env, "DISABLE_ENVOY=true", "ISTIO_META_GENERATOR=grpc", "ISTIO_META_DNS_CAPTURE=false", "OUTPUT_CERTS="+k.podDir(p), k.bootstrapVariable(p))
	case noProxy, sidecar:
	}
	for _, c := range p.spec.Spec.Containers {
		for _, variable := range c.Env {
			if strings.HasPrefix(variable.Name, "ISTIO_META_") {
				env = append(env, variable.Name+"="+variable.Value)
			}
		}
	}
	return env, nil
}
