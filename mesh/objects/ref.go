// Package objects has the objects that runs create in a cluster: their names,
// labels and owners, the heartbeat Job, how they are grouped by run, and the order
// in which they are deleted.
package objects

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// The kinds of objects that runs create.
const (
	KindVirtualService  = "VirtualService"
	KindServiceEntry    = "ServiceEntry"
	KindDestinationRule = "DestinationRule"
	KindJob             = "Job"
)

// IsDestination reports whether the routes of a run refer to objects of a kind, so
// that they are created before the VirtualServices and deleted after them.
func IsDestination(kind string) bool { return kind == KindServiceEntry || kind == KindDestinationRule }

// Ref names one object of the cluster. The UID is empty while it is not known
// whether the object was created.
type Ref struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"`
	Namespace  string    `json:"namespace"`
	Name       string    `json:"name"`
	UID        types.UID `json:"uid,omitempty"`
}

// RefTo returns the reference to an object.
func RefTo(object *unstructured.Unstructured) Ref {
	return Ref{APIVersion: object.GetAPIVersion(), Kind: object.GetKind(), Namespace: object.GetNamespace(), Name: object.GetName(), UID: object.GetUID()}
}

// String returns the kind, the namespace and the name.
func (r Ref) String() string { return r.Kind + " " + r.Namespace + "/" + r.Name }

// Removal returns the kubectl command that deletes the object.
func (r Ref) Removal() string {
	return fmt.Sprintf("kubectl -n %s delete %s %s", r.Namespace, strings.ToLower(r.Kind), r.Name)
}

// Own returns a copy of an object that Kubernetes deletes together with its owner.
func Own(object *unstructured.Unstructured, owner Ref) *unstructured.Unstructured {
	owned := object.DeepCopy()
	owned.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: owner.APIVersion, Kind: owner.Kind, Name: owner.Name, UID: owner.UID}})
	return owned
}

// EdgeName returns the name of the object that carries faults on the requests to a host
// through a Gateway, whose pods are in a namespace. The host may begin with a wildcard.
// As with Name, creating it is also the lock.
func EdgeName(host, gateway, namespace string) string {
	label := strings.TrimLeft(host, "*.")
	if label == "" {
		label = "any"
	}
	return Name(label, "gateway "+namespace+" "+gateway+" "+host)
}

// Name returns the name of the object that carries a fault on the calls from a
// namespace to a host. Creating it is also the lock: the name is a function of the
// calls, so a second run on the same calls finds it taken.
func Name(host, callers string) string {
	sum := sha256.Sum256([]byte(callers + "/" + host))
	label, _, _ := strings.Cut(strings.ReplaceAll(host, ":", "-"), ".")
	if len(label) > 40 {
		label = label[:40]
	}
	return "squall-" + strings.TrimRight(label, "-") + "-" + hex.EncodeToString(sum[:4])
}
