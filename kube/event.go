package kube

import (
	"context"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/squall-chaos/squall/mesh/objects"
)

// Event is a Kubernetes Event about an object, as `kubectl get events` lists them.
type Event struct {
	About           objects.Ref
	Warning         bool
	Reason, Message string
	Reporter        string // the instance that reports
}

// maxEventMessage is the API server's limit for a message, in bytes.
const maxEventMessage = 1024

// Emit creates an Event in the namespace of the object that it is about.
func (c *Cluster) Emit(ctx context.Context, e Event) error {
	now := time.Now().UTC()
	kind := "Normal"
	if e.Warning {
		kind = "Warning"
	}
	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Event",
		"metadata": map[string]any{"namespace": e.About.Namespace, "generateName": "squall-", "labels": map[string]any{objects.ManagedByLabel: objects.ManagedByValue}},
		"involvedObject": map[string]any{
			"apiVersion": e.About.APIVersion, "kind": e.About.Kind, "namespace": e.About.Namespace, "name": e.About.Name,
		},
		"type": kind, "reason": e.Reason, "message": cut(e.Message, maxEventMessage), "action": e.Reason,
		"source": map[string]any{"component": "squall"}, "reportingComponent": "squall.dev/serve", "reportingInstance": e.Reporter,
		"firstTimestamp": now.Format(time.RFC3339), "lastTimestamp": now.Format(time.RFC3339), "count": int64(1),
		"eventTime": now.Format("2006-01-02T15:04:05.000000Z07:00"),
	}}
	events := c.objects.Resource(schema.GroupVersionResource{Version: "v1", Resource: "events"}).Namespace(e.About.Namespace)
	if _, err := events.Create(ctx, object, metav1.CreateOptions{FieldManager: FieldManager}); err != nil {
		return fmt.Errorf("event in %s: %w", e.About.Namespace, c.Explain(err))
	}
	return nil
}

// cut returns at most the first bytes of a text, without splitting a character.
func cut(text string, most int) string {
	if len(text) > most {
		text = text[:most]
	}
	return strings.ToValidUTF8(text, "")
}
