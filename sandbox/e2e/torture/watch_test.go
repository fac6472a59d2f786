package torture_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// An effective VirtualService has usually not changed for long, so the API server has
// compacted its version and cannot start a watch from it. A run can watch it anyway,
// without listing it repeatedly.
func TestWatchOfAnOldObject(t *testing.T) {
	t.Parallel()
	if !*full {
		t.Skip("takes two minutes")
	}
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
			err = fmt.Errorf("%d watches on two VirtualServices and %d calls in %s", watches, len(r.calls), r.took)
		}
		return err
	}}})
}

// age waits until the API server has forgotten when the slot's VirtualService
// was changed. It remembers the changes of a kind for more than a minute, and
// forgets the oldest one whenever another one comes.
func age(ctx context.Context, s *slot) error {
	base, err := bed.sandbox.Kube.Resource(virtualServices).Namespace(s.home).Get(ctx, "host", metav1.GetOptions{})
	if err != nil {
		return err
	}
	busy := bed.sandbox.Kube.Resource(virtualServices).Namespace(s.callers[1])
	err = bed.create(ctx, virtualServices, s.callers[1], m{
		"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": m{"name": "busy"},
		"spec": m{"hosts": []any{"busy.test"}, "exportTo": []any{"."}, "http": []any{m{"route": []any{m{"destination": m{"host": "busy.test"}}}}}},
	})
	if err != nil {
		return err
	}
	changes := 0
	err = eventually(ctx, 5*time.Minute, func() error {
		changes++
		patch := fmt.Appendf(nil, `{"metadata": {"annotations": {"change": "%d"}}}`, changes)
		if _, err := busy.Patch(ctx, "busy", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			return err
		}
		return forgotten(ctx, s, base.GetResourceVersion())
	})
	return errors.Join(err, busy.Delete(ctx, "busy", metav1.DeleteOptions{}))
}

// forgotten fails when the API server still lets a watch begin at a version.
func forgotten(ctx context.Context, s *slot, version string) error {
	watcher, err := bed.sandbox.Kube.Resource(virtualServices).Namespace(s.home).Watch(ctx, metav1.ListOptions{ResourceVersion: version, FieldSelector: "metadata.name=host"})
	if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer watcher.Stop()
	select {
	case event, open := <-watcher.ResultChan():
		if open && apierrors.IsResourceExpired(apierrors.FromObject(event.Object)) {
			return nil
		}
	case <-time.After(pause):
	}
	return errors.New("the API server remembers the version of the slot's VirtualService")
}
