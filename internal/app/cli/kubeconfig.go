package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/squall-chaos/squall/internal/hint"
)

// kubeconfig chooses the cluster, with the flags of kubectl.
type kubeconfig struct {
	file      string
	overrides clientcmd.ConfigOverrides
}

// addWithNamespace adds the flags. The meaning describes -n; if it is empty, there
// is no -n.
func (k *kubeconfig) addWithNamespace(flags *pflag.FlagSet, meaning string) {
	flags.StringVar(&k.file, clientcmd.RecommendedConfigPathFlag, "", "path to the kubeconfig file")
	names := clientcmd.RecommendedConfigOverrideFlags("")
	names.ContextOverrideFlags.Namespace.ShortName = "n"
	names.ClusterOverrideFlags.APIServer.ShortName = "s"
	names.ContextOverrideFlags.Namespace.Description = meaning
	if meaning == "" {
		names.ContextOverrideFlags.Namespace = clientcmd.FlagInfo{}
	}
	clientcmd.BindOverrideFlags(&k.overrides, flags, names)
}

// client returns the configuration of --kubeconfig, of KUBECONFIG, of
// ~/.kube/config, or of the pod that Squall runs in.
func (k *kubeconfig) client() clientcmd.ClientConfig {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = k.file
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &k.overrides)
}

// givenNamespace returns the namespace of -n, and an empty string without -n.
func (k *kubeconfig) givenNamespace() string { return k.overrides.Context.Namespace }

// config returns the configuration of the client.
func (k *kubeconfig) config() (*rest.Config, error) {
	config, err := k.client().ClientConfig()
	if clientcmd.IsEmptyConfig(err) {
		err = errors.New("no cluster is named")
	}
	if err != nil {
		return nil, hint.With(fmt.Errorf("kubeconfig: %w", err), "choose a cluster with --kubeconfig, --context or KUBECONFIG")
	}
	return config, nil
}

// namespace returns the namespace of -n, of the context, or of the pod.
func (k *kubeconfig) namespace() (string, error) {
	namespace, _, err := k.client().Namespace()
	if err != nil {
		return "", hint.With(fmt.Errorf("kubeconfig: %w", err), "choose a namespace with -n")
	}
	return namespace, nil
}

// unusedNamespace describes -n of commands that take files.
const unusedNamespace = "not used: experiment files name their namespaces"
