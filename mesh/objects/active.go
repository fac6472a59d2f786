package objects

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// Owned are the objects that runs of Squall have created, as far as the user may
// read them.
type Owned struct {
	Objects []*unstructured.Unstructured
	// Unread are the kinds that could not be listed.
	Unread []Unread
}

// Unread is a kind that the user may not list in a namespace, or in all namespaces
// if it is empty.
type Unread struct{ Kind, Resource, Namespace string }

// String returns the missing permission.
func (u Unread) String() string {
	where := "in the whole cluster"
	if u.Namespace != "" {
		where = "in namespace " + u.Namespace
	}
	return fmt.Sprintf("list %s %s", u.Resource, where)
}

// MarshalText returns the missing permission.
func (u Unread) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// ActiveRun is a run as the cluster's objects record it.
type ActiveRun struct {
	ID         string `json:"run"`
	Experiment string `json:"experiment"`
	// Owner is the user who started it.
	Owner string `json:"owner"`
	// Phase is the phase of the run, as its heartbeat records it.
	Phase string `json:"phase,omitempty"`
	// StoppedBy is the user who has stopped it with the kill switch, if one has.
	StoppedBy string `json:"stoppedBy,omitempty"`
	// Created is when its oldest object was created.
	Created time.Time `json:"created"`
	// Expires is when its fault is gone at the latest, by the annotations of its
	// objects; zero if they have none.
	Expires time.Time `json:"expires,omitzero"`
	// Expired reports whether Expires or the deadline of a heartbeat has passed.
	Expired bool          `json:"expired"`
	Faults  []ActiveFault `json:"faults"`
	// Objects are all objects of the run, in the order in which they are deleted.
	Objects []Ref `json:"objects"`
}

// ActiveFault is one VirtualService of a run.
type ActiveFault struct {
	Object Ref `json:"object"`
	// The calls from the namespace Callers to Host are disturbed.
	Host    string    `json:"host"`
	Callers string    `json:"callers"`
	Created time.Time `json:"created"`
	// Heartbeat is when Kubernetes removes the fault unless its run extends the
	// deadline; zero if it is not known.
	Heartbeat time.Time `json:"heartbeat,omitzero"`
	// Orphaned reports that no Job owns the fault whose deadline counts, so nothing ends
	// it if its run has died.
	Orphaned bool `json:"orphaned"`
}

// Heartbeats returns the Jobs of the run.
func (r ActiveRun) Heartbeats() []Ref {
	var jobs []Ref
	for _, ref := range r.Objects {
		if ref.Kind == KindJob {
			jobs = append(jobs, ref)
		}
	}
	return jobs
}

// ActiveRuns groups the objects of Squall in a cluster by run, the oldest run
// first. Whether a run has expired is decided for the given moment. By a clock
// other than the cluster's, take off clock.Skew.
func ActiveRuns(owned Owned, now time.Time) []ActiveRun {
	objects := map[string][]*unstructured.Unstructured{}
	for _, object := range owned.Objects {
		if IsOurs(object) {
			run := object.GetLabels()[RunLabel]
			objects[run] = append(objects[run], object)
		}
	}
	runs := make([]ActiveRun, 0, len(objects))
	for id, objects := range objects {
		runs = append(runs, newActiveRun(id, objects, owned.Unread, now))
	}
	slices.SortFunc(runs, func(a, b ActiveRun) int {
		return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.ID, b.ID))
	})
	return runs
}

func newActiveRun(id string, objects []*unstructured.Unstructured, unread []Unread, now time.Time) ActiveRun {
	slices.SortFunc(objects, inDeletionOrder)
	run := ActiveRun{ID: id, Faults: []ActiveFault{}}
	deadlines := map[types.UID]time.Time{}
	for _, object := range objects {
		run.Objects = append(run.Objects, RefTo(object))
		run.add(object)
		if object.GetKind() == KindJob {
			deadline := heartbeatDeadline(object)
			deadlines[object.GetUID()] = deadline
			run.Expired = run.Expired || passed(deadline, now)
		}
	}
	run.Expired = run.Expired || passed(run.Expires, now)
	for _, object := range objects {
		if object.GetKind() == KindVirtualService {
			run.Faults = append(run.Faults, newActiveFault(object, deadlines, unread))
		}
	}
	return run
}

func passed(deadline, now time.Time) bool { return !deadline.IsZero() && deadline.Before(now) }

// add adds what an object records about its run.
func (r *ActiveRun) add(object *unstructured.Unstructured) {
	annotations := object.GetAnnotations()
	r.Experiment = cmp.Or(r.Experiment, annotations[ExperimentAnnotation])
	r.Owner = cmp.Or(r.Owner, annotations[OwnerAnnotation])
	r.Phase = cmp.Or(r.Phase, annotations[PhaseAnnotation])
	r.StoppedBy = cmp.Or(r.StoppedBy, annotations[StoppedByAnnotation])
	if created := object.GetCreationTimestamp().Time; r.Created.IsZero() || created.Before(r.Created) {
		r.Created = created
	}
	// An expiry that cannot be parsed is ignored.
	if expires, err := time.Parse(time.RFC3339, annotations[ExpiresAnnotation]); err == nil && expires.After(r.Expires) {
		r.Expires = expires
	}
}

func newActiveFault(object *unstructured.Unstructured, deadlines map[types.UID]time.Time, unread []Unread) ActiveFault {
	annotations := object.GetAnnotations()
	fault := ActiveFault{
		Object: RefTo(object), Host: annotations[HostAnnotation], Callers: annotations[CallersAnnotation],
		Created: object.GetCreationTimestamp().Time, Orphaned: !jobsUnread(unread, object.GetNamespace()),
	}
	for _, owner := range object.GetOwnerReferences() {
		if deadline, owned := deadlines[owner.UID]; owned {
			fault.Heartbeat, fault.Orphaned = deadline, deadline.IsZero()
		}
	}
	return fault
}

func jobsUnread(unread []Unread, namespace string) bool {
	return slices.ContainsFunc(unread, func(u Unread) bool {
		return u.Kind == KindJob && (u.Namespace == "" || u.Namespace == namespace)
	})
}

// inDeletionOrder compares objects by the order in which they are deleted: first
// the VirtualServices, which carry the fault, then the ServiceEntries that they
// divert requests to and their DestinationRules, last the Jobs that own all of them.
func inDeletionOrder(a, b *unstructured.Unstructured) int {
	rank := func(object *unstructured.Unstructured) int {
		return slices.Index([]string{KindVirtualService, KindServiceEntry, KindDestinationRule, KindJob}, object.GetKind())
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(RefTo(a).String(), RefTo(b).String()))
}
