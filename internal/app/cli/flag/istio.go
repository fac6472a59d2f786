package flag

import (
	"fmt"

	"github.com/spf13/pflag"
	names "k8s.io/apimachinery/pkg/util/validation"

	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/istio/config"
)

// Istio names what Squall otherwise reads about Istio's control plane.
type Istio struct{ overrides config.Overrides }

// Add adds the flags.
func (i *Istio) Add(flags *pflag.FlagSet) {
	flags.StringVar(&i.overrides.Namespace, "istio-namespace", "", "namespace of Istio's control plane (default the one that has its Services, or istio-system)")
	flags.StringVar(&i.overrides.Revision, "revision", "", "revision of the control plane that configures the callers (default the one of their labels)")
	flags.StringVar(&i.overrides.ClusterDomain, "cluster-domain", "", "cluster domain (default the one of istiod's Deployment, or cluster.local)")
}

// Overrides returns the values of the flags. The error is one of usage.
func (i *Istio) Overrides() (config.Overrides, error) {
	for _, flag := range []struct {
		name, value string
		problems    func(string) []string
	}{
		{name: "istio-namespace", value: i.overrides.Namespace, problems: names.IsDNS1123Label},
		{name: "revision", value: i.overrides.Revision, problems: names.IsDNS1123Label},
		{name: "cluster-domain", value: i.overrides.ClusterDomain, problems: names.IsDNS1123Subdomain},
	} {
		if flag.value == "" {
			continue
		}
		if problems := flag.problems(flag.value); len(problems) > 0 {
			return config.Overrides{}, hint.With(fmt.Errorf("--%s %q is not valid: %s", flag.name, flag.value, problems[0]), "leave the flag out to read it from the cluster")
		}
	}
	return i.overrides, nil
}
