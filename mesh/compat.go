package mesh

import (
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/mesh/objects"
)

// The names of package objects under which their users still know them.
type (
	Snapshot    = config.Snapshot
	Ref         = objects.Ref
	Run         = objects.Run
	ActiveRun   = objects.ActiveRun
	ActiveFault = objects.ActiveFault
	Owned       = objects.Owned
	Unread      = objects.Unread
)

// The labels, annotations and kinds of package objects.
const (
	ManagedByLabel      = objects.ManagedByLabel
	ManagedByValue      = objects.ManagedByValue
	RunLabel            = objects.RunLabel
	ExpiresAnnotation   = objects.ExpiresAnnotation
	HostAnnotation      = objects.HostAnnotation
	CallersAnnotation   = objects.CallersAnnotation
	StoppedByAnnotation = objects.StoppedByAnnotation
	HeartbeatImage      = objects.HeartbeatImage
)

// RefTo is objects.RefTo.
func RefTo(object *unstructured.Unstructured) Ref { return objects.RefTo(object) }

// Stamp is objects.Stamp.
func Stamp(object *unstructured.Unstructured, run Run) *unstructured.Unstructured {
	return objects.Stamp(object, run)
}

// Own is objects.Own.
func Own(object *unstructured.Unstructured, owner Ref) *unstructured.Unstructured {
	return objects.Own(object, owner)
}

// Heartbeat is objects.Heartbeat.
func Heartbeat(namespace string, run Run, deadline time.Duration, image string) *unstructured.Unstructured {
	return objects.Heartbeat(namespace, run, deadline, image)
}

// DeadlineSeconds is objects.DeadlineSeconds.
func DeadlineSeconds(d time.Duration) int64 { return objects.DeadlineSeconds(d) }

// ActiveRuns is objects.ActiveRuns.
func ActiveRuns(owned Owned, now time.Time) []ActiveRun { return objects.ActiveRuns(owned, now) }

// LiveRunHint is objects.LiveRunHint.
func LiveRunHint(run string) string { return objects.LiveRunHint(run) }
