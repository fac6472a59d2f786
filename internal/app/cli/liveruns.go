package cli

import (
	"github.com/squall-chaos/squall/internal/app/cli/flag"
	"github.com/squall-chaos/squall/internal/app/liveruns"
	"github.com/squall-chaos/squall/kube"
)

// newLister returns a lister for the cluster and the namespace that the flags name,
// and the cluster. It sends nothing.
func newLister(flags *flag.Cluster) (liveruns.Lister, *kube.Cluster, error) {
	config, err := flags.Config()
	if err != nil {
		return liveruns.Lister{}, nil, err
	}
	fallback, err := flags.Namespace()
	if err != nil {
		return liveruns.Lister{}, nil, err
	}
	cluster, err := kube.Connect(config)
	return liveruns.Lister{Cluster: cluster, Namespace: flags.GivenNamespace(), Fallback: fallback}, cluster, err
}
