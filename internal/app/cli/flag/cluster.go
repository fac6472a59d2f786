package flag

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/squall-chaos/squall/internal/app/liveruns"
	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/internal/nearest"
	"github.com/squall-chaos/squall/kube"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner"
)

// Cluster chooses the cluster, with the flags of kubectl.
type Cluster struct {
	file      string
	overrides clientcmd.ConfigOverrides
}

// Add adds the flags. The meaning describes -n; if it is empty, there is no -n.
func (c *Cluster) Add(flags *pflag.FlagSet, meaning string) {
	flags.StringVar(&c.file, clientcmd.RecommendedConfigPathFlag, "", "path to the kubeconfig file")
	names := clientcmd.RecommendedConfigOverrideFlags("")
	names.ContextOverrideFlags.Namespace.ShortName = "n"
	names.ClusterOverrideFlags.APIServer.ShortName = "s"
	names.ContextOverrideFlags.Namespace.Description = meaning
	if meaning == "" {
		names.ContextOverrideFlags.Namespace = clientcmd.FlagInfo{}
	}
	added := pflag.NewFlagSet("", pflag.ContinueOnError)
	clientcmd.BindOverrideFlags(&c.overrides, added, names)
	added.VisitAll(func(f *pflag.Flag) {
		f.Annotations = map[string][]string{ofKubectl: {"true"}}
		flags.AddFlag(f)
	})
}

// ofKubectl is the annotation of the flags that kubectl has too.
const ofKubectl = "squall.dev/kubectl"

// OfKubectl reports whether a flag chooses the cluster in a way that only kubectl
// explains.
func OfKubectl(f *pflag.Flag) bool { return f.Annotations[ofKubectl] != nil }

// InWords returns the context and the address of the cluster, as far as the flags and the
// kubeconfig name them: "context staging, https://10.0.0.1:6443".
func (c *Cluster) InWords() string {
	var parts []string
	if raw, err := c.client().RawConfig(); err == nil {
		if name := cmp.Or(c.overrides.CurrentContext, raw.CurrentContext); name != "" {
			parts = append(parts, "context "+name)
		}
	}
	if config, err := c.Config(); err == nil {
		parts = append(parts, config.Host)
	}
	return strings.Join(parts, ", ")
}

// client returns the configuration of --kubeconfig, of KUBECONFIG, of
// ~/.kube/config, or of the pod that Squall runs in.
func (c *Cluster) client() clientcmd.ClientConfig {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = c.file
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &c.overrides)
}

// GivenNamespace returns the namespace of -n, and an empty string without -n.
func (c *Cluster) GivenNamespace() string { return c.overrides.Context.Namespace }

// Config returns the configuration of the client.
func (c *Cluster) Config() (*rest.Config, error) {
	config, err := c.client().ClientConfig()
	if clientcmd.IsEmptyConfig(err) {
		err = errors.New("no cluster is named")
	}
	if err != nil {
		return nil, hint.With(fmt.Errorf("kubeconfig: %w", err), c.similarContext()+"choose a cluster with --kubeconfig, --context or KUBECONFIG")
	}
	return config, nil
}

// similarContext returns a sentence that names the contexts of the kubeconfig, or the one
// that --context resembles, if the kubeconfig does not have the context of the flag.
func (c *Cluster) similarContext() string {
	raw, err := c.client().RawConfig()
	wanted := c.overrides.CurrentContext
	if err != nil || wanted == "" || raw.Contexts[wanted] != nil || len(raw.Contexts) == 0 {
		return ""
	}
	names := slices.Sorted(maps.Keys(raw.Contexts))
	if best := nearest.Of(wanted, names); best != "" {
		return fmt.Sprintf("did you mean --context %s? ", best)
	}
	return fmt.Sprintf("the contexts are %s; ", strings.Join(names, ", "))
}

// Namespace returns the namespace of -n, of the context, or of the pod.
func (c *Cluster) Namespace() (string, error) {
	namespace, _, err := c.client().Namespace()
	if err != nil {
		return "", hint.With(fmt.Errorf("kubeconfig: %w", err), "choose a namespace with -n")
	}
	return namespace, nil
}

// Lister returns a lister of the live runs in the cluster and the namespace that the
// flags name, and the cluster. It sends nothing. The error is one of usage.
func (c *Cluster) Lister() (liveruns.Lister, *kube.Cluster, error) {
	config, err := c.Config()
	if err != nil {
		return liveruns.Lister{}, nil, err
	}
	fallback, err := c.Namespace()
	if err != nil {
		return liveruns.Lister{}, nil, err
	}
	cluster, err := kube.Connect(config)
	expiry := objects.NewExpiry(runner.DefaultTiming().Silence())
	return liveruns.Lister{Cluster: cluster, Namespace: c.GivenNamespace(), Fallback: fallback, Expiry: expiry}, cluster, err
}
