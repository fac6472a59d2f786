package controlplane

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/rest"

	"github.com/squall-chaos/squall/sandbox/internal/layout"
	"github.com/squall-chaos/squall/sandbox/internal/network"
	"github.com/squall-chaos/squall/sandbox/internal/poll"
	"github.com/squall-chaos/squall/sandbox/internal/process"
)

// parts starts the programs of the control plane, and Prometheus.
type parts struct {
	Options

	bin   string
	group *process.Group
	admin *rest.Config // set when the files are written
}

// start starts a component of the multi-call binary.
func (p *parts) start(component string, env []string, args ...string) error {
	return p.run(process.Program{
		Name: component, Path: filepath.Join(p.bin, "sandbox-controlplane"), Args: append([]string{component}, args...),
		Env: append([]string{"HOME=" + string(p.Dir), "PATH=/usr/bin:/bin"}, env...),
	})
}

func (p *parts) run(program process.Program) error {
	_, err := p.group.Start(program)
	return err
}

func (p *parts) startEtcd(ctx context.Context) error {
	client, peer := "http://"+layout.EtcdClient, "http://"+layout.EtcdPeer
	err := p.start("etcd", nil,
		"--name=sandbox", "--data-dir="+p.Dir.Path("etcd"), "--unsafe-no-fsync",
		"--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=sandbox="+peer)
	if err != nil {
		return err
	}
	return p.answers(ctx, client+"/health", nil)
}

func (p *parts) startAPIServer(ctx context.Context) error {
	host, port, err := net.SplitHostPort(layout.APIServer)
	if err != nil {
		return err
	}
	var advertised []string
	if p.Sidecars != nil {
		// Without it the API server looks for a default route, which the node lacks.
		advertised = []string{"--advertise-address=" + network.NodeAddress}
	}
	err = p.start("kube-apiserver", nil, append(advertised,
		"--etcd-servers=http://"+layout.EtcdClient, "--cert-dir="+p.Dir.Path("certs"),
		"--bind-address="+host, "--secure-port="+port, "--service-cluster-ip-range=10.96.0.0/16", "--endpoint-reconciler-type=none",
		"--token-auth-file="+p.Dir.Path("tokens.csv"), "--authorization-mode=RBAC",
		"--audit-policy-file="+p.Dir.Path("audit.yaml"), "--audit-log-path="+p.Dir.AuditLog(),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+p.Dir.Path("service-account.pub"), "--service-account-signing-key-file="+p.Dir.Path("service-account.key"))...)
	if err != nil {
		return err
	}
	if err := poll.Until(ctx, func() error { _, err := os.Stat(p.admin.CAFile); return err }); err != nil {
		return err
	}
	return p.answers(ctx, p.admin.Host+"/readyz", &p.admin.BearerToken)
}

func (p *parts) startControllerManager() error {
	host, port, err := net.SplitHostPort(layout.ControllerManager)
	if err != nil {
		return err
	}
	names := controllers
	if p.Sidecars != nil {
		names += "," + podControllers
	}
	return p.start("kube-controller-manager", nil,
		"--kubeconfig="+p.Dir.NodeKubeconfig(), "--service-account-private-key-file="+p.Dir.Path("service-account.key"),
		"--leader-elect=false", "--bind-address="+host, "--secure-port="+port, "--cert-dir="+p.Dir.Path("certs"), "--controllers="+names)
}

func (p *parts) startIstiod() error {
	env := []string{
		"POD_NAMESPACE=istio-system", "POD_NAME=istiod", "ENABLE_LEADER_ELECTION=false",
		"INJECT_ENABLED=false", "VALIDATION_WEBHOOK_CONFIG_NAME=", "INJECTION_WEBHOOK_CONFIG_NAME=", "PILOT_ENABLE_GATEWAY_API=false",
		// As every installation has it; istiod then ignores the objects of other revisions.
		"REVISION=default",
		// By default istiod takes 25 new connections a second on two cores.
		"PILOT_MAX_REQUESTS_PER_SECOND=1000",
	}
	grpc, secure := layout.IstiodXDS, ""
	if p.Sidecars != nil {
		env = append(env, sidecarIstiod...)
		grpc, secure = ":15010", layout.IstiodSecure
	} else {
		env = append(env, "ENABLE_CA_SERVER=false", "PILOT_CERT_PROVIDER=none")
	}
	return p.start("istiod", env, "discovery", "--kubeconfig="+p.Dir.NodeKubeconfig(), "--meshConfig="+p.Dir.Path("mesh.yaml"),
		"--httpAddr="+layout.IstiodHTTP, "--grpcAddr="+grpc, "--monitoringAddr="+layout.IstiodMonitoring,
		"--httpsAddr=", "--secureGRPCAddr="+secure, "--ctrlz_port=0")
}

func (p *parts) startPrometheus() error {
	return p.run(process.Program{
		Name: "prometheus", Path: filepath.Join(p.bin, "sandbox-prometheus"), Env: []string{"HOME=" + string(p.Dir)},
		Args: []string{
			"--config.file=" + p.Dir.Path("prometheus.yaml"), "--storage.tsdb.path=" + p.Dir.Path("prometheus"), "--storage.tsdb.retention.time=2h",
			"--web.listen-address=" + layout.Prometheus, "--log.level=warn",
		},
	})
}

// answers waits until a URL answers with success.
func (p *parts) answers(ctx context.Context, url string, bearer *string) error {
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
