// Command sandbox-controlplane is etcd, kube-apiserver, kube-controller-manager
// and istiod in one program: the first argument names the component, the rest
// are that component's own flags.
//
// Sharing one binary shares the compile and the link. Each component still
// runs in a process of its own, because each registers global flags and
// metrics that the others would clash with.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	istiodapp "istio.io/istio/pilot/cmd/pilot-discovery/app"
	istiolog "istio.io/istio/pkg/log"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // the client metrics of the two Kubernetes components
	apiserverapp "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanagerapp "k8s.io/kubernetes/cmd/kube-controller-manager/app"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: sandbox-controlplane etcd|kube-apiserver|kube-controller-manager|istiod [flags]")
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
		istiolog.EnableKlogWithCobra()
		if err := istiodapp.NewRootCommand().Execute(); err != nil {
			istiolog.Error(err)
			os.Exit(1)
		}
	default:
		fmt.Fprintf(os.Stderr, "sandbox-controlplane: unknown component %q\n", component)
		os.Exit(2)
	}
}

func runKubernetes(command *cobra.Command) int { return cli.Run(command) }
