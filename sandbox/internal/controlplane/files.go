package controlplane

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/squall-chaos/squall/sandbox/internal/audit"
	"github.com/squall-chaos/squall/sandbox/internal/httpshop"
	"github.com/squall-chaos/squall/sandbox/internal/layout"
	"github.com/squall-chaos/squall/sandbox/internal/shop"
)

// files are what a sandbox writes into its directory before it starts.
type files struct{ Options }

// writeAll writes a fresh directory: certificates, tokens, configuration. It returns
// the administrator's access to the API server.
func (f files) writeAll() (*rest.Config, error) {
	for _, name := range []string{"etcd", "certs", "prometheus", "pods", "logs"} {
		if err := errors.Join(os.RemoveAll(f.Dir.Path(name)), os.MkdirAll(f.Dir.Path(name), 0o750)); err != nil {
			return nil, err
		}
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	adminToken, restrictedToken := token(), token()
	admin := &rest.Config{
		Host:            "https://" + layout.APIServer,
		BearerToken:     adminToken,
		TLSClientConfig: rest.TLSClientConfig{CAFile: f.Dir.Path("certs", "apiserver.crt")},
	}
	return admin, errors.Join(
		f.write("service-account.key", pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})),
		f.write("service-account.pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})),
		f.write("tokens.csv", []byte(adminToken+",admin,admin,system:masters\n"+restrictedToken+",restricted,restricted\n")),
		f.write("mesh.yaml", f.meshConfig()),
		f.write("audit.yaml", []byte(audit.Policy)),
		f.write("prometheus.yaml", f.prometheusConfig()),
		f.write("alerts.yaml", f.alerts()),
		f.write("env", f.env()),
		f.writeKubeconfig(admin, f.Dir.Kubeconfig(), f.publicAPIServer(), restrictedToken),
		f.writeKubeconfig(admin, f.Dir.NodeKubeconfig(), layout.APIServer, restrictedToken),
	)
}

func (f files) write(name string, content []byte) error {
	return os.WriteFile(f.Dir.Path(name), content, 0o600)
}

// publicAPIServer returns the address of the API server on the host.
func (f files) publicAPIServer() string {
	if f.Sidecars != nil {
		return f.Sidecars.APIServer
	}
	return layout.APIServer
}

// env returns the shell script that points programs on the host at the sandbox.
func (f files) env() []byte {
	lines := []string{"KUBECONFIG=" + shellQuote(f.Dir.Kubeconfig())}
	if f.Sidecars != nil {
		// The default address for blackholes answers nothing there either.
		lines = append(lines, "SQUALL_PROMETHEUS=http://"+f.Sidecars.Prometheus)
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
func (f files) meshConfig() []byte {
	if f.Sidecars != nil {
		return sidecarMeshConfig()
	}
	return []byte("rootNamespace: istio-system\ntrustDomain: cluster.local\n")
}

// alerts returns the alerting rules of the shop.
func (f files) alerts() []byte {
	if f.Sidecars != nil {
		return httpshop.Alerts
	}
	return shop.Alerts
}

func (f files) writeKubeconfig(admin *rest.Config, file, server, restrictedToken string) error {
	config := api.NewConfig()
	config.Clusters["sandbox"] = &api.Cluster{Server: "https://" + server, CertificateAuthority: admin.CAFile}
	for context, token := range map[string]string{"sandbox": admin.BearerToken, "restricted": restrictedToken} {
		config.AuthInfos[context] = &api.AuthInfo{Token: token}
		config.Contexts[context] = &api.Context{Cluster: "sandbox", AuthInfo: context}
	}
	config.CurrentContext = "sandbox"
	return clientcmd.WriteToFile(*config, file)
}

func (f files) prometheusConfig() []byte {
	targets := []string{layout.IstiodMonitoring}
	if f.Shop && f.Sidecars == nil {
		for _, w := range shop.Workloads() {
			targets = append(targets, layout.Metrics(w.IP))
		}
	}
	encoded, _ := json.Marshal(targets) // strings always encode; JSON is YAML
	config := fmt.Appendf(nil, "global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\nrule_files: [alerts.yaml]\nscrape_configs:\n- job_name: sandbox\n  static_configs:\n  - targets: %s\n", encoded)
	if f.Sidecars != nil {
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
