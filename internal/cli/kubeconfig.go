package cli

import (
	"fmt"

	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// kubeconfig is which cluster a command is for, in kubectl's flags.
type kubeconfig struct {
	file      string
	overrides clientcmd.ConfigOverrides
}

// add adds the flags.
func (k *kubeconfig) add(flags *pflag.FlagSet) {
	flags.StringVar(&k.file, clientcmd.RecommendedConfigPathFlag, "", "path to the kubeconfig file")
	names := clientcmd.RecommendedConfigOverrideFlags("")
	names.ContextOverrideFlags.Namespace.ShortName = "n"
	names.ClusterOverrideFlags.APIServer.ShortName = "s"
	names.ContextOverrideFlags.Namespace.Description = "the namespace of a short HOST; files name theirs"
	clientcmd.BindOverrideFlags(&k.overrides, flags, names)
}

// config gives the client configuration, from the file that is named, from
// KUBECONFIG, from the user's own, or from the pod that this runs in.
func (k *kubeconfig) config() (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = k.file
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &k.overrides).ClientConfig()
	if err != nil {
		return nil, &hintedError{fmt.Errorf("kubeconfig: %w", err), "--kubeconfig, --context or KUBECONFIG say which cluster is meant"}
	}
	return config, nil
}
