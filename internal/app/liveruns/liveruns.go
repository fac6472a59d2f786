// Package liveruns lists the runs whose objects a cluster holds, as far as the user
// may list them.
package liveruns

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/internal/sleep"
	"github.com/squall-chaos/squall/kube"
	"github.com/squall-chaos/squall/mesh/objects"
)

// Cluster is what a Lister reads.
type Cluster interface {
	Name() string
	Server(ctx context.Context) (kube.Server, error)
	// List returns Squall's objects in a namespace, or in all if it is empty.
	List(ctx context.Context, namespace string) (objects.Owned, error)
}

// Lister lists the live runs of a cluster.
type Lister struct {
	Cluster Cluster
	// Namespace is the only namespace that is listed. Empty means all.
	Namespace string
	// Fallback is the namespace that is listed instead of all if the user may not
	// list all.
	Fallback string
}

// Listing is the result of a Lister. Its JSON is what squall status -o json prints.
type Listing struct {
	Cluster string `json:"cluster"`
	// Time is the API server's.
	Time time.Time `json:"time"`
	// Namespace is the only namespace that was listed. Empty means all.
	Namespace string              `json:"namespace,omitempty"`
	Runs      []objects.ActiveRun `json:"runs"`
	// Hold is why no run starts, if a user has stopped all. List does not set it.
	Hold *objects.Hold `json:"hold,omitempty"`
	// Unread are the permissions that were missing to list more.
	Unread []objects.Unread `json:"unread,omitempty"`
}

// errNotPermitted is the error of a user who may not list faults anywhere.
var errNotPermitted = errors.New("not permitted")

// List reads the cluster. It returns an error if it cannot list faults; missing
// permissions for other objects are in Listing.Unread.
func (l Lister) List(ctx context.Context) (Listing, error) {
	server, err := l.Cluster.Server(ctx)
	if err != nil {
		return Listing{}, unreadable(err)
	}
	namespace := l.Namespace
	owned, err := l.Cluster.List(ctx, namespace)
	if err == nil && namespace == "" && slices.ContainsFunc(owned.Unread, isFault) {
		namespace = l.Fallback
		owned, err = l.Cluster.List(ctx, namespace)
		owned.Unread = append(owned.Unread, objects.Unread{Kind: objects.KindVirtualService, Resource: "virtualservices.networking.istio.io"})
	}
	if err != nil {
		return Listing{}, unreadable(err)
	}
	if slices.ContainsFunc(owned.Unread, func(u objects.Unread) bool { return isFault(u) && u.Namespace == namespace }) {
		return Listing{}, hint.With(fmt.Errorf("live faults cannot be listed: %w: %s", errNotPermitted, permissions(owned.Unread)), "use -n NAMESPACE if you have the permissions in one namespace")
	}
	return Listing{Cluster: l.Cluster.Name(), Time: server.Time, Namespace: namespace, Runs: objects.ActiveRuns(owned, server.Time), Unread: owned.Unread}, nil
}

// isFault reports whether faults could not be listed.
func isFault(u objects.Unread) bool { return u.Kind == objects.KindVirtualService }

// The pauses between attempts to read a cluster.
const (
	firstPause   = 200 * time.Millisecond
	longestPause = 5 * time.Second
)

// ListRetrying is List, but tries again until ctx ends while the cluster does not
// answer. It calls retrying with the first error.
func (l Lister) ListRetrying(ctx context.Context, retrying func(error)) (Listing, error) {
	listing, err := l.List(ctx)
	for wait := firstPause; err != nil && mayPass(err); wait = min(2*wait, longestPause) {
		if wait == firstPause {
			retrying(err)
		}
		if !sleep.For(ctx, wait) {
			return listing, err
		}
		again, failure := l.List(ctx)
		if ctx.Err() != nil && failure != nil {
			return listing, err // the error before is the reason
		}
		listing, err = again, failure
	}
	return listing, err
}

// mayPass reports whether a later attempt may succeed: not if the user lacks a
// permission.
func mayPass(err error) bool {
	return !apierrors.IsForbidden(err) && !apierrors.IsUnauthorized(err) && !errors.Is(err, errNotPermitted)
}

func unreadable(err error) error {
	if hint.Of(err) != "" {
		return err
	}
	return hint.With(fmt.Errorf("live faults cannot be listed: %w", err), "check --kubeconfig and --context")
}

func permissions(unread []objects.Unread) string {
	texts := make([]string, len(unread))
	for i, u := range unread {
		texts[i] = u.String()
	}
	return strings.Join(texts, ", ")
}
