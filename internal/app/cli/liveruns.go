package cli

import (
	"fmt"
	"io"

	"github.com/squall-chaos/squall/internal/app/liveruns"
	"github.com/squall-chaos/squall/kube"
)

// newLister returns a lister for the cluster and the namespace that the flags name,
// and the cluster. It sends nothing.
func newLister(flags *kubeconfig) (liveruns.Lister, *kube.Cluster, error) {
	config, err := flags.config()
	if err != nil {
		return liveruns.Lister{}, nil, err
	}
	fallback, err := flags.namespace()
	if err != nil {
		return liveruns.Lister{}, nil, err
	}
	cluster, err := kube.Connect(config)
	return liveruns.Lister{Cluster: cluster, Namespace: flags.givenNamespace(), Fallback: fallback}, cluster, err
}

// printUnread reports the permissions that were missing to list more.
func printUnread(w io.Writer, listing liveruns.Listing) {
	for _, u := range listing.Unread {
		switch u.Kind {
		case "VirtualService":
			fmt.Fprintf(w, "squall: not permitted: %s; only namespace %s is listed (-n names another)\n", u, listing.Namespace)
		case "Job":
			fmt.Fprintf(w, "squall: not permitted: %s; heartbeats there are unknown\n", u)
		default:
			fmt.Fprintf(w, "squall: not permitted: %s; destinations of blackholes there are unknown\n", u)
		}
	}
}

// The kinds of faults in noneInWords.
const (
	liveFaults    = "live"
	expiredFaults = "expired"
)

// noneInWords says that there are no faults of a kind, and where.
func noneInWords(kind string, listing liveruns.Listing) string {
	if listing.Namespace == "" {
		return fmt.Sprintf("no %s faults", kind)
	}
	return fmt.Sprintf("no %s faults in namespace %s", kind, listing.Namespace)
}
