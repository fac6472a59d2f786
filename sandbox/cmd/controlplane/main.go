// Command sandbox-controlplane is etcd, kube-apiserver, kube-controller-manager,
// istiod and pilot-agent in one program: the first argument names the
// component, the rest are the component's flags.
//
// Sharing one binary shares the compile and the link. Each component still
// runs in a separate process, because the global flags and metrics that they
// register have the same names.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	meshconfig "istio.io/api/mesh/v1alpha1"
	agentapp "istio.io/istio/pilot/cmd/pilot-agent/app"
	istiodapp "istio.io/istio/pilot/cmd/pilot-discovery/app"
	istioagent "istio.io/istio/pkg/istio-agent"
	istiolog "istio.io/istio/pkg/log"
	"istio.io/istio/pkg/security"
	"istio.io/istio/security/pkg/nodeagent/sds"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // the client metrics of the two Kubernetes components
	apiserverapp "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanagerapp "k8s.io/kubernetes/cmd/kube-controller-manager/app"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: sandbox-controlplane etcd|kube-apiserver|kube-controller-manager|istiod|pilot-agent [flags]")
		os.Exit(2)
	}
	component, args := os.Args[1], os.Args[2:]
	os.Args = append([]string{component}, args...)
	switch component {
	case "etcd":
		etcdmain.Main(os.Args)
	case "kube-apiserver":
		os.Exit(runKubernetes(apiserverapp.NewAPIServerCommand()))
	case "kube-controller-manager":
		os.Exit(runKubernetes(controllermanagerapp.NewControllerManagerCommand()))
	case "istiod":
		os.Exit(runIstio(istiodapp.NewRootCommand()))
	case "pilot-agent":
		os.Exit(runIstio(agentapp.NewRootCommand(newSDSService)))
	default:
		fmt.Fprintf(os.Stderr, "sandbox-controlplane: unknown component %q\n", component)
		os.Exit(2)
	}
}

// newSDSService returns the server from which Envoy gets its certificates
// (istio.io/istio/pilot/cmd/pilot-agent/main.go).
func newSDSService(options *security.Options, secrets security.SecretManager, keys *meshconfig.PrivateKeyProvider) istioagent.SDSService {
	return sds.NewServer(options, secrets, keys)
}

func runIstio(command *cobra.Command) int {
	istiolog.EnableKlogWithCobra()
	if err := command.Execute(); err != nil {
		istiolog.Error(err)
		return 1
	}
	return 0
}

func runKubernetes(command *cobra.Command) int { return cli.Run(command) }
