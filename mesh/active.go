package mesh

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// Owned are the objects that runs of Squall have made, as far as a user may
// read them.
type Owned struct {
	Objects []*unstructured.Unstructured
	// Unread are the kinds that could not be listed.
	Unread []Unread
}

// Unread is a kind that a user may not list in a namespace, or in all of them
// when it is empty.
type Unread struct{ Kind, Resource, Namespace string }

// String names the permission that is missing.
func (u Unread) String() string {
	where := "in the whole cluster"
	if u.Namespace != "" {
		where = "in namespace " + u.Namespace
	}
	return fmt.Sprintf("list %s %s", u.Resource, where)
}

// MarshalText gives the permission that is missing.
func (u Unread) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// ActiveRun is what the cluster's objects say about one run.
type ActiveRun struct {
	ID         string `json:"run"`
	Experiment string `json:"experiment"`
	// Owner is who started it.
	Owner string `json:"owner"`
	// StoppedBy is who has pulled the kill switch, if anybody has.
	StoppedBy string `json:"stoppedBy,omitempty"`
	// Created is when its oldest object was made.
	Created time.Time `json:"created"`
	// Expires is when its fault is to be gone at the latest, by what its
	// objects say; zero when none says.
	Expires time.Time `json:"expires,omitzero"`
	// Expired tells that a deadline has passed: Expires, or that of a heartbeat.
	Expired bool          `json:"expired"`
	Faults  []ActiveFault `json:"faults"`
	// Objects are all of the run, in the order in which they are deleted.
	Objects []Ref `json:"objects"`
}

// ActiveFault is one VirtualService of a run.
type ActiveFault struct {
	Object Ref `json:"object"`
	// Host and Callers are whose calls from where are disturbed.
	Host    string    `json:"host"`
	Callers string    `json:"callers"`
	Created time.Time `json:"created"`
	// Heartbeat is when Kubernetes removes the fault, unless its run moves the
	// deadline on; zero when that is not known.
	Heartbeat time.Time `json:"heartbeat,omitzero"`
	// Orphaned tells that no Job owns the fault, so that nothing ends it if its
	// run has died.
	Orphaned bool `json:"orphaned"`
}

// Heartbeats gives the Jobs of a run.
func (r ActiveRun) Heartbeats() []Ref {
	var jobs []Ref
	for _, ref := range r.Objects {
		if ref.Kind == jobKind {
			jobs = append(jobs, ref)
		}
	}
	return jobs
}

const (
	serviceEntryKind = "ServiceEntry"
	jobKind          = "Job"
)

// ActiveRuns sorts what a cluster holds of Squall by runs, the oldest first, as it
// stands at a moment of the cluster's clock.
func ActiveRuns(owned Owned, now time.Time) []ActiveRun {
	objects := map[string][]*unstructured.Unstructured{}
	for _, object := range owned.Objects {
		if isOurs(object) {
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
		run.note(object)
		if object.GetKind() == jobKind {
			deadline := deadlineOf(object)
			deadlines[object.GetUID()] = deadline
			run.Expired = run.Expired || passed(deadline, now)
		}
	}
	run.Expired = run.Expired || passed(run.Expires, now)
	for _, object := range objects {
		if object.GetKind() == virtualServiceKind {
			run.Faults = append(run.Faults, newActiveFault(object, deadlines, unread))
		}
	}
	return run
}

func passed(deadline, now time.Time) bool { return !deadline.IsZero() && deadline.Before(now) }

// note takes what an object says about its run.
func (r *ActiveRun) note(object *unstructured.Unstructured) {
	annotations := object.GetAnnotations()
	r.Experiment = cmp.Or(r.Experiment, annotations[ExperimentAnnotation])
	r.Owner = cmp.Or(r.Owner, annotations[OwnerAnnotation])
	r.StoppedBy = cmp.Or(r.StoppedBy, annotations[StoppedByAnnotation])
	if created := object.GetCreationTimestamp().Time; r.Created.IsZero() || created.Before(r.Created) {
		r.Created = created
	}
	// An expiry that cannot be read says nothing.
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
			fault.Heartbeat, fault.Orphaned = deadline, false
		}
	}
	return fault
}

func jobsUnread(unread []Unread, namespace string) bool {
	return slices.ContainsFunc(unread, func(u Unread) bool {
		return u.Kind == jobKind && (u.Namespace == "" || u.Namespace == namespace)
	})
}

// deadlineOf gives the moment at which the Job controller fails a Job; zero
// when it has not started it.
func deadlineOf(job *unstructured.Unstructured) time.Time {
	text, _, _ := unstructured.NestedString(job.Object, "status", "startTime")
	seconds, _, _ := unstructured.NestedInt64(job.Object, "spec", "activeDeadlineSeconds")
	started, err := time.Parse(time.RFC3339, text)
	if err != nil || seconds == 0 {
		return time.Time{}
	}
	return started.Add(time.Duration(seconds) * time.Second)
}

// inDeletionOrder sorts objects as they are deleted: first the VirtualServices,
// which are the fault, then the ServiceEntries that they divert requests to,
// and last the Jobs that own both.
func inDeletionOrder(a, b *unstructured.Unstructured) int {
	rank := func(object *unstructured.Unstructured) int {
		return slices.Index([]string{virtualServiceKind, serviceEntryKind, jobKind}, object.GetKind())
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(RefTo(a).String(), RefTo(b).String()))
}

// Removal is the command that deletes the object by hand.
func (r Ref) Removal() string {
	return fmt.Sprintf("kubectl -n %s delete %s %s", r.Namespace, strings.ToLower(r.Kind), r.Name)
}
