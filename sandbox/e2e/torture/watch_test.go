package torture_test

import (
	"context"
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// The VirtualService in force is usually one that nobody has changed for long,
// and whose version the API server has forgotten as a point to watch from. A run
// watches it all the same, and does not ask for it again and again.
func TestWatchOfAnOldObject(t *testing.T) {
	t.Parallel()
	inParallel(t, []job{{"with times", func(ctx context.Context, s *slot) error {
		if err := age(ctx, s); err != nil {
			return err
		}
		r, err := observe(ctx, s, timed)
		if err != nil {
			return err
		}
		watches := 0
		for _, call := range r.calls {
			if call.Name == "watch virtualservices" {
				watches++
			}
		}
		// One for the base, one for the shadow, and one more for each of them
		// when the server ends a watch.
		if watches > 4 {
			err = fmt.Errorf("%d watches on two VirtualServices in %s", watches, r.took)
		}
		return err
	}}})
}

// age makes the API server forget the past: it remembers the latest changes of a
// kind only.
func age(ctx context.Context, s *slot) error {
	const remembered = 2000
	client := bed.sandbox.Kube.Resource(virtualServices).Namespace(s.callers[1])
	err := bed.create(ctx, virtualServices, s.callers[1], m{
		"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": m{"name": "busy"},
		"spec": m{"hosts": []any{"busy.test"}, "exportTo": []any{"."}, "http": []any{m{"route": []any{m{"destination": m{"host": "busy.test"}}}}}},
	})
	for i := 0; i < remembered && err == nil; i++ {
		patch := fmt.Appendf(nil, `{"metadata": {"annotations": {"change": "%d"}}}`, i)
		_, err = client.Patch(ctx, "busy", types.MergePatchType, patch, metav1.PatchOptions{})
	}
	if err != nil {
		return err
	}
	return client.Delete(ctx, "busy", metav1.DeleteOptions{})
}
