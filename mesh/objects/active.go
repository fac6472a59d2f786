package objects

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

// UnreadRuns is the kind of an Unread for runs that have no fault, which are known by
// their Jobs.
const UnreadRuns = "Run"

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

// ActiveRun is a run as its objects in one namespace record it. A run with objects in
// several namespaces is one ActiveRun in each of them: a label makes any object a
// part of any run, so no object says anything about objects in other namespaces,
// where its author may have no permissions.
type ActiveRun struct {
	ID         string `json:"run"`
	Namespace  string `json:"namespace"`
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
	// Expired reports that the run is over; Expiry sets it.
	Expired bool          `json:"expired"`
	Faults  []ActiveFault `json:"faults"`
	// Objects are all objects of the run, in the order in which they are deleted.
	Objects []Ref `json:"objects"`

	beats []beat
	// unguarded reports that no heartbeat ends the run.
	unguarded bool
}

// Key returns what identifies an ActiveRun among all of a cluster.
func (r ActiveRun) Key() Key { return Key{Run: r.ID, Namespace: r.Namespace} }

// Key identifies an ActiveRun.
type Key struct{ Run, Namespace string }

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
	// Withdrawn reports that the object applies to no calls any longer, because it could
	// not be deleted.
	Withdrawn bool `json:"withdrawn,omitempty"`
	// Finalizers keep the object.
	Finalizers []string `json:"finalizers,omitempty"`
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

// KeyOf returns the key of the run that an object belongs to.
func KeyOf(object *unstructured.Unstructured) Key {
	return Key{Run: object.GetLabels()[RunLabel], Namespace: object.GetNamespace()}
}

// ActiveRuns groups the objects of Squall in a cluster by run and namespace, the
// oldest run first.
func ActiveRuns(owned Owned) []ActiveRun {
	objects := map[Key][]*unstructured.Unstructured{}
	for _, object := range owned.Objects {
		if IsOurs(object) {
			objects[KeyOf(object)] = append(objects[KeyOf(object)], object)
		}
	}
	runs := make([]ActiveRun, 0, len(objects))
	for key, objects := range objects {
		runs = append(runs, newActiveRun(key, objects, jobsUnread(owned.Unread, key.Namespace)))
	}
	slices.SortFunc(runs, func(a, b ActiveRun) int {
		return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.ID, b.ID), strings.Compare(a.Namespace, b.Namespace))
	})
	return runs
}

func newActiveRun(key Key, objects []*unstructured.Unstructured, jobsUnread bool) ActiveRun {
	slices.SortFunc(objects, inDeletionOrder)
	run := ActiveRun{ID: key.Run, Namespace: key.Namespace, Faults: []ActiveFault{}}
	deadlines := map[types.UID]time.Time{}
	for _, object := range objects {
		run.Objects = append(run.Objects, RefTo(object))
		run.add(object)
		if object.GetKind() == KindJob {
			deadlines[object.GetUID()] = heartbeatDeadline(object)
			run.beats = append(run.beats, beatOf(object))
		}
	}
	run.unguarded = len(run.beats) == 0
	for _, object := range objects {
		run.unguarded = run.unguarded && (!jobsUnread || !hasJob(object))
		if object.GetKind() == KindVirtualService {
			run.Faults = append(run.Faults, newActiveFault(object, deadlines, jobsUnread))
		}
	}
	return run
}

// hasJob reports whether an object names a Job as its owner.
func hasJob(object *unstructured.Unstructured) bool {
	return slices.ContainsFunc(object.GetOwnerReferences(), func(o metav1.OwnerReference) bool { return o.Kind == KindJob })
}

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

func newActiveFault(object *unstructured.Unstructured, deadlines map[types.UID]time.Time, jobsUnread bool) ActiveFault {
	annotations := object.GetAnnotations()
	fault := ActiveFault{
		Object: RefTo(object), Host: annotations[HostAnnotation], Callers: annotations[CallersAnnotation],
		Created: object.GetCreationTimestamp().Time, Orphaned: !jobsUnread || !hasJob(object),
		Withdrawn: isWithdrawn(object), Finalizers: object.GetFinalizers(),
	}
	for _, owner := range object.GetOwnerReferences() {
		if deadline, owned := deadlines[owner.UID]; owned {
			fault.Heartbeat, fault.Orphaned = deadline, deadline.IsZero()
		}
	}
	return fault
}

// jobsUnread reports whether the Jobs of a namespace could not be listed.
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
