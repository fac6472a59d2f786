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
	"github.com/squall-chaos/squall/runner"
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
	// Namespace limits the runs to those with a fault on the calls from it, or with an
	// object in it. Empty means all.
	Namespace string
	// Fallback is the namespace that is listed instead of all if the user may not
	// list all, and Namespace is empty.
	Fallback string
	// Expiry remembers the listings, so that a later one knows which heartbeats have
	// not moved. If it is nil, none is known to be dead.
	Expiry *objects.Expiry
}

// Listing is the result of a Lister. Its JSON is what squall status -o json prints.
type Listing struct {
	Cluster string `json:"cluster"`
	// Time is the API server's.
	Time time.Time `json:"time"`
	// Namespace is the namespace that the runs are limited to. Empty means all.
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
// permissions for other objects, and for other namespaces, are in Listing.Unread.
func (l Lister) List(ctx context.Context) (Listing, error) {
	server, err := l.Cluster.Server(ctx)
	if err != nil {
		return Listing{}, unreadable(err)
	}
	reading := objects.Reading{Began: time.Now(), Server: server.Time}
	owned, namespace, err := l.owned(ctx)
	reading.Ended = time.Now()
	if err != nil {
		return Listing{}, unreadable(err)
	}
	if namespace != "" && slices.ContainsFunc(owned.Unread, func(u objects.Unread) bool { return isFault(u) && u.Namespace == namespace }) {
		return Listing{}, hint.With(fmt.Errorf("live faults cannot be listed: %w: %s", errNotPermitted, permissions(owned.Unread)), "use -n NAMESPACE if you have the permissions in one namespace")
	}
	runs := objects.ActiveRuns(owned)
	expiry := l.Expiry
	if expiry == nil {
		expiry = new(objects.Expiry)
	}
	expiry.Mark(runs, reading)
	listing := Listing{Cluster: l.Cluster.Name(), Time: server.Time, Namespace: namespace, Runs: runs, Unread: owned.Unread}
	if namespace != "" {
		listing.limit(namespace)
	}
	return listing, nil
}

// owned returns the objects of runs in all namespaces, or as far as the user may list
// them, and the namespace that the listing is limited to.
func (l Lister) owned(ctx context.Context) (objects.Owned, string, error) {
	owned, err := l.Cluster.List(ctx, "")
	everywhere := !slices.ContainsFunc(owned.Unread, isFault)
	namespace := l.Namespace
	if namespace == "" && !everywhere {
		namespace = l.Fallback
	}
	if err != nil || namespace == "" {
		return owned, namespace, err
	}
	// A user may be permitted more in the namespace than in the whole cluster.
	here, err := l.Cluster.List(ctx, namespace)
	if !everywhere {
		here.Unread = append(here.Unread, objects.Unread{Kind: objects.KindVirtualService, Resource: "virtualservices.networking.istio.io"})
		return here, namespace, err
	}
	for _, object := range owned.Objects {
		if object.GetNamespace() != namespace {
			here.Objects = append(here.Objects, object)
		}
	}
	for _, unread := range owned.Unread {
		if unread.Namespace != namespace {
			here.Unread = append(here.Unread, unread)
		}
	}
	return here, namespace, err
}

// limit drops the runs that have neither a fault on the calls from a namespace nor an
// object in it, and the permissions that are about namespaces of such runs.
func (l *Listing) limit(namespace string) {
	l.Runs = slices.DeleteFunc(l.Runs, func(run objects.ActiveRun) bool {
		return run.Namespace != namespace && !slices.ContainsFunc(run.Faults, func(f objects.ActiveFault) bool { return f.Callers == namespace })
	})
	l.Unread = slices.DeleteFunc(l.Unread, func(u objects.Unread) bool {
		return !isFault(u) && u.Namespace != namespace && !slices.ContainsFunc(l.Runs, func(run objects.ActiveRun) bool {
			return run.Namespace != namespace && (u.Namespace == "" || u.Namespace == run.Namespace)
		})
	})
}

// Complete reports whether the faults of all namespaces were listed.
func (l Listing) Complete() bool { return !slices.ContainsFunc(l.Unread, isFault) }

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

// ListExpired is ListRetrying, and lists a second time so much later that Expired is
// known for runs with a heartbeat, too. Before that it calls waiting with the number of
// these runs and the time.
func (l Lister) ListExpired(ctx context.Context, retrying func(error), waiting func(runs int, silence time.Duration)) (Listing, error) {
	silence := runner.DefaultTiming().Silence()
	l.Expiry = objects.NewExpiry(silence)
	listing, err := l.ListRetrying(ctx, retrying)
	guarded := 0
	for _, run := range listing.Runs {
		if run.Guarded() {
			guarded++
		}
	}
	if err != nil || guarded == 0 {
		return listing, err
	}
	waiting(guarded, silence)
	sleep.For(ctx, silence)
	return l.ListRetrying(ctx, retrying)
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
