package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner"
)

// admission checks that the cluster would store the objects of a run as a run sends
// them: webhooks and policies may change them. Kinds that the user may not create are
// left out.
func (d Doctor) admission(ctx context.Context, namespace, apiVersion string) []Check {
	const name = "admission"
	run := objects.Run{ID: "doctor", Experiment: "doctor", Owner: d.Owner, Expires: time.Now().Add(time.Minute)}
	all := []*unstructured.Unstructured{objects.Heartbeat(namespace, run, runner.DefaultTiming().Deadline, d.HeartbeatImage)}
	for _, object := range []*unstructured.Unstructured{harmless(namespace, apiVersion, run.ID), entry(namespace, apiVersion, run.ID), rule(namespace, apiVersion, run.ID)} {
		all = append(all, objects.Stamp(object, run))
	}
	var kinds []string
	for _, object := range all {
		stored, err := d.Admission.Check(ctx, object)
		if apierrors.IsForbidden(err) && objects.IsDestination(object.GetKind()) {
			continue
		}
		if err == nil {
			err = objects.Compare(object, stored)
		}
		if changed, is := errors.AsType[*objects.ChangedError](err); is {
			return []Check{failure(name, "the cluster would not store what is sent: "+changed.Error(), changed.Hint())}
		}
		if err != nil {
			return []Check{failure(name, fmt.Sprintf("the cluster would not create %s: %v", objects.RefTo(object), err), "a run would be refused; check the webhooks and policies of the cluster")}
		}
		kinds = append(kinds, object.GetKind())
	}
	return []Check{ok(name, "in namespace %s a dry run changes no %s", namespace, strings.Join(kinds, ", "))}
}

// entry and rule return what a blackhole of proofHost would create.
func entry(namespace, apiVersion, run string) *unstructured.Unstructured {
	return helper(namespace, apiVersion, objects.KindServiceEntry, run, map[string]any{
		"hosts": []any{proofHost}, "exportTo": []any{"."}, "location": "MESH_EXTERNAL", "resolution": "STATIC",
		"addresses": []any{"240.240.255.254"},
		"ports":     []any{map[string]any{"number": int64(80), "name": "tcp-80", "protocol": "TCP"}},
		"endpoints": []any{map[string]any{"address": "192.0.2.1"}},
	})
}

func rule(namespace, apiVersion, run string) *unstructured.Unstructured {
	return helper(namespace, apiVersion, objects.KindDestinationRule, run, map[string]any{
		"host": proofHost, "exportTo": []any{"."}, "trafficPolicy": map[string]any{"connectionPool": map[string]any{"tcp": map[string]any{"connectTimeout": "1s"}}},
	})
}

func helper(namespace, apiVersion, kind, run string, spec map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": apiVersion, "kind": kind, "spec": spec,
		"metadata": map[string]any{
			"namespace": namespace, "name": "squall-" + run,
			"annotations": map[string]any{objects.HostAnnotation: proofHost, objects.CallersAnnotation: namespace},
		},
	}}
}
