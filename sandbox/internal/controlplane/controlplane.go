// Package controlplane starts a real mesh on one machine: etcd,
// kube-apiserver, kube-controller-manager, istiod, Prometheus and the shop, each
// in a separate process.
package controlplane

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"istio.io/istio/manifests"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/squall-chaos/squall/sandbox/internal/audit"
	"github.com/squall-chaos/squall/sandbox/internal/httpshop"
	"github.com/squall-chaos/squall/sandbox/internal/identity"
	"github.com/squall-chaos/squall/sandbox/internal/kube"
	"github.com/squall-chaos/squall/sandbox/internal/kubelet"
	"github.com/squall-chaos/squall/sandbox/internal/layout"
	"github.com/squall-chaos/squall/sandbox/internal/network"
	"github.com/squall-chaos/squall/sandbox/internal/poll"
	"github.com/squall-chaos/squall/sandbox/internal/process"
	"github.com/squall-chaos/squall/sandbox/internal/shop"
)

// readyTimeout is how long a part may take to answer.
const readyTimeout = 2 * time.Minute

// controllers are what a heartbeat needs, and what namespaces need to work.
const controllers = "job-controller,ttl-after-finished-controller,garbage-collector-controller,namespace-controller,serviceaccount-controller,root-ca-certificate-publisher-controller"

// crdFile holds Istio's CRDs.
const crdFile = "charts/base/files/crd-all.gen.yaml"

// Options say what a sandbox has.
type Options struct {
	Dir layout.Dir
	// Shop says that the shop runs.
	Shop bool
	// Sidecars is nil for a sandbox whose workloads have none.
	Sidecars *Sidecars
	// Log takes the progress.
	Log io.Writer
}

// Mesh is a running sandbox.
type Mesh struct {
	Options

	dir     layout.Dir
	bin     string
	group   *process.Group
	admin   *rest.Config
	kube    *kube.Client
	dead    net.Listener
	node    *network.Node
	kubelet *kubelet.Kubelet
}

// New prepares a sandbox. The programs are in the directory of the running one.
func New(options Options) (*Mesh, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("path of the program: %w", err)
	}
	return &Mesh{Options: options, dir: options.Dir, bin: filepath.Dir(self), group: process.NewGroup(options.Dir, options.Sidecars == nil)}, nil
}

// Start starts everything and returns when all of it answers.
func (m *Mesh) Start(ctx context.Context) error {
	steps := m.proxylessSteps()
	if m.Sidecars != nil {
		steps = m.sidecarSteps()
	}
	for _, step := range steps {
		start := time.Now()
		if err := m.orDeath(ctx, step.do); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		fmt.Fprintf(m.Log, "sandbox: %s (%.1fs)\n", step.name, time.Since(start).Seconds())
	}
	return nil
}

// step is a part of the start.
type step struct {
	name string
	do   func(context.Context) error
}

func (m *Mesh) proxylessSteps() []step {
	return []step{
		{name: "addresses", do: m.checkFree},
		{name: "files", do: m.writeFiles},
		{name: "blackhole", do: m.startBlackhole},
		{name: "etcd", do: m.startEtcd},
		{name: "kube-apiserver", do: m.startAPIServer},
		{name: "Istio's CRDs", do: m.applyCRDs},
		{name: "kube-controller-manager, istiod, Prometheus", do: m.startControllers},
		{name: "the shop", do: m.startShop},
		{name: "heartbeats", do: m.proveHeartbeat},
	}
}

// checkFree returns an error if another program listens where the sandbox will.
func (m *Mesh) checkFree(context.Context) error {
	listeners := layout.ControlPlane()
	if m.Shop {
		listeners = append(listeners, shop.Listeners()...)
	}
	return layout.CheckFree(listeners)
}

// orDeath does one step, which fails as soon as a child has ended.
func (m *Mesh) orDeath(ctx context.Context, step func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	watching := make(chan struct{})
	defer func() { end(nil); <-watching }()
	go func() {
		defer close(watching)
		select {
		case death := <-m.group.Died():
			end(death)
		case <-ctx.Done():
		}
	}()
	err := step(ctx)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		return errors.Join(cause, err)
	}
	return err
}

// Died returns a channel with the first part that has ended by itself.
func (m *Mesh) Died() <-chan error { return m.group.Died() }

// Stop stops everything that was started, in reverse order.
func (m *Mesh) Stop() error {
	errs := []error{m.group.Stop()}
	if m.dead != nil {
		errs = append(errs, m.dead.Close())
	}
	return errors.Join(errs...)
}

// writeFiles writes a fresh directory: certificates, tokens, configuration.
func (m *Mesh) writeFiles(context.Context) error {
	for _, name := range []string{"etcd", "certs", "prometheus", "pods", "logs"} {
		if err := errors.Join(os.RemoveAll(m.dir.Path(name)), os.MkdirAll(m.dir.Path(name), 0o750)); err != nil {
			return err
		}
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	adminToken, restrictedToken := token(), token()
	m.admin = &rest.Config{
		Host:            "https://" + layout.APIServer,
		BearerToken:     adminToken,
		TLSClientConfig: rest.TLSClientConfig{CAFile: m.dir.Path("certs", "apiserver.crt")},
	}
	return errors.Join(
		m.write("service-account.key", pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})),
		m.write("service-account.pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})),
		m.write("tokens.csv", []byte(adminToken+",admin,admin,system:masters\n"+restrictedToken+",restricted,restricted\n")),
		m.write("mesh.yaml", m.meshConfig()),
		m.write("audit.yaml", []byte(audit.Policy)),
		m.write("prometheus.yaml", m.prometheusConfig()),
		m.write("alerts.yaml", m.alerts()),
		m.write("env", m.env()),
		m.writeKubeconfig(m.dir.Kubeconfig(), m.publicAPIServer(), restrictedToken),
		m.writeKubeconfig(m.dir.NodeKubeconfig(), layout.APIServer, restrictedToken),
	)
}

func (m *Mesh) write(name string, content []byte) error {
	return os.WriteFile(m.dir.Path(name), content, 0o600)
}

// publicAPIServer returns the address of the API server on the host.
func (m *Mesh) publicAPIServer() string {
	if m.Sidecars != nil {
		return m.Sidecars.APIServer
	}
	return layout.APIServer
}

// env returns the shell script that points programs on the host at the sandbox.
func (m *Mesh) env() []byte {
	lines := []string{"KUBECONFIG=" + shellQuote(m.dir.Kubeconfig())}
	if m.Sidecars != nil {
		// The default address for blackholes answers nothing there either.
		lines = append(lines, "SQUALL_PROMETHEUS=http://"+m.Sidecars.Prometheus)
	} else {
		lines = append(lines, "SQUALL_PROMETHEUS=http://"+layout.Prometheus, "SQUALL_BLACKHOLE_ADDRESS="+hostOf(layout.Blackhole))
	}
	var script []byte
	for _, line := range lines {
		script = fmt.Appendf(script, "export %s\n", line)
	}
	return script
}

// meshConfig returns Istio's mesh configuration.
func (m *Mesh) meshConfig() []byte {
	if m.Sidecars != nil {
		return sidecarMeshConfig()
	}
	return []byte("rootNamespace: istio-system\ntrustDomain: cluster.local\n")
}

// alerts returns the alerting rules of the shop.
func (m *Mesh) alerts() []byte {
	if m.Sidecars != nil {
		return httpshop.Alerts
	}
	return shop.Alerts
}

func (m *Mesh) writeKubeconfig(file, server, restrictedToken string) error {
	config := api.NewConfig()
	config.Clusters["sandbox"] = &api.Cluster{Server: "https://" + server, CertificateAuthority: m.admin.CAFile}
	for context, token := range map[string]string{"sandbox": m.admin.BearerToken, "restricted": restrictedToken} {
		config.AuthInfos[context] = &api.AuthInfo{Token: token}
		config.Contexts[context] = &api.Context{Cluster: "sandbox", AuthInfo: context}
	}
	config.CurrentContext = "sandbox"
	return clientcmd.WriteToFile(*config, file)
}

func (m *Mesh) prometheusConfig() []byte {
	targets := []string{layout.IstiodMonitoring}
	if m.Shop && m.Sidecars == nil {
		for _, w := range shop.Workloads() {
			targets = append(targets, layout.Metrics(w.IP))
		}
	}
	encoded, _ := json.Marshal(targets) // strings always encode; JSON is YAML
	config := fmt.Appendf(nil, "global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\nrule_files: [alerts.yaml]\nscrape_configs:\n- job_name: sandbox\n  static_configs:\n  - targets: %s\n", encoded)
	if m.Sidecars != nil {
		config = append(config, sidecarScrapes...)
	}
	return config
}

func token() string {
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails (crypto/rand)
	return hex.EncodeToString(random[:])
}

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func hostOf(address string) string { host, _, _ := net.SplitHostPort(address); return host }

// startBlackhole listens where connections are accepted and nothing is ever
// answered.
func (m *Mesh) startBlackhole(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", layout.Blackhole)
	if err != nil {
		return err
	}
	m.dead = listener
	go func() {
		var held []net.Conn
		for {
			conn, err := listener.Accept()
			if err != nil {
				for _, c := range held {
					_ = c.Close() // the caller has gone
				}
				return
			}
			held = append(held, conn)
		}
	}()
	return nil
}

// start starts a component of the multi-call binary.
func (m *Mesh) start(component string, env []string, args ...string) error {
	return m.run(process.Program{
		Name: component, Path: filepath.Join(m.bin, "sandbox-controlplane"), Args: append([]string{component}, args...),
		Env: append([]string{"HOME=" + string(m.dir), "PATH=/usr/bin:/bin"}, env...),
	})
}

func (m *Mesh) run(p process.Program) error {
	_, err := m.group.Start(p)
	return err
}

func (m *Mesh) startEtcd(ctx context.Context) error {
	client, peer := "http://"+layout.EtcdClient, "http://"+layout.EtcdPeer
	err := m.start("etcd", nil,
		"--name=sandbox", "--data-dir="+m.dir.Path("etcd"), "--unsafe-no-fsync",
		"--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=sandbox="+peer)
	if err != nil {
		return err
	}
	return m.answers(ctx, client+"/health", nil)
}

func (m *Mesh) startAPIServer(ctx context.Context) error {
	host, port, err := net.SplitHostPort(layout.APIServer)
	if err != nil {
		return err
	}
	var advertised []string
	if m.Sidecars != nil {
		// Without it the API server looks for a default route, which the node lacks.
		advertised = []string{"--advertise-address=" + network.NodeAddress}
	}
	err = m.start("kube-apiserver", nil, append(advertised,
		"--etcd-servers=http://"+layout.EtcdClient, "--cert-dir="+m.dir.Path("certs"),
		"--bind-address="+host, "--secure-port="+port, "--service-cluster-ip-range=10.96.0.0/16", "--endpoint-reconciler-type=none",
		"--token-auth-file="+m.dir.Path("tokens.csv"), "--authorization-mode=RBAC",
		"--audit-policy-file="+m.dir.Path("audit.yaml"), "--audit-log-path="+m.dir.AuditLog(),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+m.dir.Path("service-account.pub"), "--service-account-signing-key-file="+m.dir.Path("service-account.key"))...)
	if err != nil {
		return err
	}
	if err := poll.Until(ctx, func() error { _, err := os.Stat(m.admin.CAFile); return err }); err != nil {
		return err
	}
	return m.answers(ctx, m.admin.Host+"/readyz", &m.admin.BearerToken)
}

func (m *Mesh) applyCRDs(ctx context.Context) error {
	client, err := kube.New(m.admin)
	if err != nil {
		return err
	}
	m.kube = client
	crds, err := manifests.FS.ReadFile(crdFile)
	if err != nil {
		return err
	}
	if err := client.Apply(ctx, crds); err != nil {
		return err
	}
	return poll.Until(ctx, func() error { return client.Established(ctx) })
}

// startControllers starts what needs the CRDs to be there: the garbage
// collector looks for new kinds only every 30 s.
func (m *Mesh) startControllers(ctx context.Context) error {
	if err := m.kube.Apply(ctx, []byte("{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}")); err != nil {
		return err
	}
	if err := errors.Join(m.startControllerManager(), m.startIstiod(), m.startPrometheus()); err != nil {
		return err
	}
	return errors.Join(
		m.answers(ctx, "https://"+layout.ControllerManager+"/healthz", nil),
		m.answers(ctx, "http://"+layout.IstiodHTTP+"/ready", nil),
		m.answers(ctx, "http://"+layout.Prometheus+"/-/ready", nil),
	)
}

func (m *Mesh) startControllerManager() error {
	host, port, err := net.SplitHostPort(layout.ControllerManager)
	if err != nil {
		return err
	}
	names := controllers
	if m.Sidecars != nil {
		names += "," + podControllers
	}
	return m.start("kube-controller-manager", nil,
		"--kubeconfig="+m.dir.NodeKubeconfig(), "--service-account-private-key-file="+m.dir.Path("service-account.key"),
		"--leader-elect=false", "--bind-address="+host, "--secure-port="+port, "--cert-dir="+m.dir.Path("certs"), "--controllers="+names)
}

func (m *Mesh) startIstiod() error {
	env := []string{
		"POD_NAMESPACE=istio-system", "POD_NAME=istiod", "ENABLE_LEADER_ELECTION=false",
		"INJECT_ENABLED=false", "VALIDATION_WEBHOOK_CONFIG_NAME=", "INJECTION_WEBHOOK_CONFIG_NAME=", "PILOT_ENABLE_GATEWAY_API=false",
		// As every installation has it; istiod then ignores the objects of other revisions.
		"REVISION=default",
		// By default istiod takes 25 new connections a second on two cores.
		"PILOT_MAX_REQUESTS_PER_SECOND=1000",
	}
	grpc, secure := layout.IstiodXDS, ""
	if m.Sidecars != nil {
		env = append(env, sidecarIstiod...)
		grpc, secure = ":15010", layout.IstiodSecure
	} else {
		env = append(env, "ENABLE_CA_SERVER=false", "PILOT_CERT_PROVIDER=none")
	}
	return m.start("istiod", env, "discovery", "--kubeconfig="+m.dir.NodeKubeconfig(), "--meshConfig="+m.dir.Path("mesh.yaml"),
		"--httpAddr="+layout.IstiodHTTP, "--grpcAddr="+grpc, "--monitoringAddr="+layout.IstiodMonitoring,
		"--httpsAddr=", "--secureGRPCAddr="+secure, "--ctrlz_port=0")
}

func (m *Mesh) startPrometheus() error {
	return m.run(process.Program{
		Name: "prometheus", Path: filepath.Join(m.bin, "sandbox-prometheus"), Env: []string{"HOME=" + string(m.dir)},
		Args: []string{
			"--config.file=" + m.dir.Path("prometheus.yaml"), "--storage.tsdb.path=" + m.dir.Path("prometheus"), "--storage.tsdb.retention.time=2h",
			"--web.listen-address=" + layout.Prometheus, "--log.level=warn",
		},
	})
}

// startShop applies the shop's objects, starts its workloads, and waits until
// the page has stars and its load is steady in Prometheus.
func (m *Mesh) startShop(ctx context.Context) error {
	if !m.Shop {
		return nil
	}
	if err := m.kube.Apply(ctx, shop.Manifests); err != nil {
		return err
	}
	for _, w := range shop.Workloads() {
		bootstrap, err := w.Bootstrap()
		if err != nil {
			return err
		}
		err = m.run(process.Program{
			Name: w.Name, Path: filepath.Join(m.bin, "sandbox"), Args: []string{"workload", w.Name},
			Env: []string{identity.BootstrapVariable + "=" + bootstrap},
		})
		if err != nil {
			return err
		}
	}
	err := poll.Until(ctx, func() error {
		body, err := get(ctx, "http://"+layout.ProductPage+"/productpage", nil)
		if err == nil && !strings.Contains(body, "stars") {
			err = errors.New("the page has no stars")
		}
		return err
	})
	if err != nil {
		return err
	}
	return m.steadyLoad(ctx)
}

// steadyLoad waits until the load of the shop is steady in Prometheus.
func (m *Mesh) steadyLoad(ctx context.Context) error {
	return poll.Until(ctx, func() error {
		body, err := get(ctx, "http://"+layout.Prometheus+"/api/v1/query?query="+url.QueryEscape(shop.SteadyLoad), nil)
		if err == nil && !strings.Contains(body, `"value"`) {
			err = errors.New("the shop's load is not steady in Prometheus")
		}
		return err
	})
}

// proveHeartbeat waits until the cluster removes what a failed Job owns,
// which is what ends the fault of a run that has died.
func (m *Mesh) proveHeartbeat(ctx context.Context) error {
	jobs := m.kube.Objects.Resource(schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "jobs"}).Namespace(metav1.NamespaceDefault)
	owned := m.kube.Objects.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace(metav1.NamespaceDefault)
	job, err := jobs.Create(ctx, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "batch/v1", "kind": "Job", "metadata": map[string]any{"name": "heartbeat-proof"},
		"spec": map[string]any{
			"parallelism": int64(0), "completions": int64(1), "activeDeadlineSeconds": int64(1), "ttlSecondsAfterFinished": int64(0),
			"template": map[string]any{"spec": map[string]any{"restartPolicy": "Never", "containers": []any{map[string]any{"name": "none", "image": "none"}}}},
		},
	}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	config := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "heartbeat-proof"}}}
	config.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "batch/v1", Kind: "Job", Name: job.GetName(), UID: job.GetUID()}})
	if _, err := owned.Create(ctx, config, metav1.CreateOptions{}); err != nil {
		return err
	}
	return poll.Until(ctx, func() error {
		_, err := owned.Get(ctx, config.GetName(), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(errors.New("the owned object is still there"), err)
	})
}

// answers waits until a URL answers with success.
func (m *Mesh) answers(ctx context.Context, url string, bearer *string) error {
	return poll.Until(ctx, func() error { _, err := get(ctx, url, bearer); return err })
}

// get reads a URL of the sandbox; certificates on loopback are not checked.
func get(ctx context.Context, url string, bearer *string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	if bearer != nil {
		request.Header.Set("Authorization", "Bearer "+*bearer)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true} //nolint:gosec // self-signed, on loopback
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close() //nolint:errcheck // read to the end or dropped
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %s", url, response.Status)
	}
	return string(body), err
}
