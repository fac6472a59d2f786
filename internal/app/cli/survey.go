package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/kube"
	"github.com/squall-chaos/squall/mesh"
)

// surveyor looks for the runs of Squall that a cluster holds.
type surveyor struct {
	cluster *kube.Cluster
	// namespace is the only one that is asked about; empty means all.
	namespace string
	// fallback is looked at when the user may not look at all.
	fallback string
}

// newSurveyor makes one for the cluster and the namespace that the flags name.
// Nothing is sent yet.
func newSurveyor(flags *kubeconfig) (surveyor, error) {
	config, err := flags.config()
	if err != nil {
		return surveyor{}, err
	}
	fallback, err := flags.namespace()
	if err != nil {
		return surveyor{}, err
	}
	target, err := kube.Connect(config)
	return surveyor{cluster: target, namespace: flags.givenNamespace(), fallback: fallback}, err
}

// errNotPermitted says that a user may not see any fault.
var errNotPermitted = errors.New("not permitted")

// survey is what could be seen of the live runs.
type survey struct {
	Cluster string `json:"cluster"`
	// Time is the API server's.
	Time time.Time `json:"time"`
	// Namespace is the only one that was looked at; empty means all.
	Namespace string           `json:"namespace,omitempty"`
	Runs      []mesh.ActiveRun `json:"runs"`
	// Unread are permissions that were missing to see more.
	Unread []mesh.Unread `json:"unread,omitempty"`
}

// look reads the cluster. An error says that it cannot tell about faults.
func (s surveyor) look(ctx context.Context) (survey, error) {
	server, err := s.cluster.Server(ctx)
	if err != nil {
		return survey{}, unreadable(err)
	}
	namespace := s.namespace
	owned, err := s.cluster.List(ctx, namespace)
	if err == nil && namespace == "" && blind(owned) {
		namespace = s.fallback
		owned, err = s.cluster.List(ctx, namespace)
		owned.Unread = append(owned.Unread, mesh.Unread{Kind: "VirtualService", Resource: "virtualservices.networking.istio.io"})
	}
	if err != nil {
		return survey{}, unreadable(err)
	}
	if slices.ContainsFunc(owned.Unread, func(u mesh.Unread) bool { return u.Kind == "VirtualService" && u.Namespace == namespace }) {
		return survey{}, hint.With(fmt.Errorf("live faults cannot be seen: %w: %s", errNotPermitted, permissions(owned.Unread)), "-n NAMESPACE looks at one namespace, for which the permissions in it would do")
	}
	return survey{s.cluster.Name(), server.Time, namespace, mesh.ActiveRuns(owned, server.Time), owned.Unread}, nil
}

func unreadable(err error) error {
	if hint.Of(err) != "" {
		return err
	}
	return hint.With(fmt.Errorf("live faults cannot be seen: %w", err), "check --kubeconfig and --context")
}

// blind tells that no VirtualService could be read.
func blind(owned mesh.Owned) bool {
	return slices.ContainsFunc(owned.Unread, func(u mesh.Unread) bool { return u.Kind == "VirtualService" })
}

func permissions(unread []mesh.Unread) string {
	texts := make([]string, len(unread))
	for i, u := range unread {
		texts[i] = u.String()
	}
	return strings.Join(texts, ", ")
}

// warn says what could not be seen.
func (s survey) warn(w io.Writer) {
	for _, u := range s.Unread {
		switch u.Kind {
		case "VirtualService":
			fmt.Fprintf(w, "squall: not permitted: %s; only namespace %s was looked at (-n names another)\n", u, s.Namespace)
		case "Job":
			fmt.Fprintf(w, "squall: not permitted: %s; heartbeats there are not known\n", u)
		default:
			fmt.Fprintf(w, "squall: not permitted: %s; what blackholes divert to is not known there\n", u)
		}
	}
}

// nothing says that there is no live run, and where.
func (s survey) nothing() string {
	if s.Namespace == "" {
		return "no live faults"
	}
	return "no live faults in namespace " + s.Namespace
}
