package objects

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/istio/config"
)

// HoldName is the name of the Lease that holds runs.
const HoldName = "squall-hold"

// HoldEverywhere is the namespace of the Lease that holds all runs of a cluster. In any
// other namespace the Lease holds the runs that disturb calls from that namespace, or
// create objects in it.
const HoldEverywhere = config.DefaultNamespace

// Hold is why no run starts: a user has stopped all runs, or the ones of a namespace,
// with the kill switch.
type Hold struct {
	// By is the user.
	By string `json:"by"`
	// Until is when the hold ends by the API server's clock.
	Until time.Time `json:"until"`
	// Namespace is where the Lease is.
	Namespace string `json:"namespace"`
}

func (h Hold) String() string {
	which := "all runs"
	if h.Namespace != HoldEverywhere {
		which = "the runs of namespace " + h.Namespace
	}
	return fmt.Sprintf("%s has stopped %s until %s", h.By, which, h.Until.UTC().Format(time.RFC3339))
}

// Release returns the command that ends the hold.
func (h Hold) Release() string { return "squall rollback --release -n " + h.Namespace }

// NewHold returns the Lease with which a user holds the runs of a namespace from a
// time on.
func NewHold(namespace, by string, from time.Time, length time.Duration) *unstructured.Unstructured {
	at := from.UTC().Format(metav1.RFC3339Micro)
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
		"metadata": map[string]any{"namespace": namespace, "name": HoldName, "labels": map[string]any{ManagedByLabel: ManagedByValue}},
		"spec":     map[string]any{"holderIdentity": by, "leaseDurationSeconds": DeadlineSeconds(length), "acquireTime": at, "renewTime": at},
	}}
}

// HoldOf returns the hold of a Lease; false if it has ended at a time of the API
// server's clock.
func HoldOf(lease *unstructured.Unstructured, now time.Time) (hold Hold, holds bool) {
	by, _, _ := unstructured.NestedString(lease.Object, "spec", "holderIdentity")
	text, _, _ := unstructured.NestedString(lease.Object, "spec", "renewTime")
	seconds, _, _ := unstructured.NestedInt64(lease.Object, "spec", "leaseDurationSeconds")
	from, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return Hold{}, false
	}
	hold = Hold{By: by, Until: from.Add(time.Duration(seconds) * time.Second).Truncate(time.Second), Namespace: lease.GetNamespace()}
	return hold, hold.Until.After(now)
}
