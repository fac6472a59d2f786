package runnertest

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/internal/sleep"
	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner"
)

// Through returns the cluster as one client reaches it: each call returns the error
// of gate, if there is one, and reaches the cluster otherwise. A watch waits while
// gate returns an error.
func (c *Cluster) Through(gate func(ctx context.Context) error) runner.Cluster {
	return gated{cluster: c, gate: gate}
}

type gated struct {
	cluster *Cluster
	gate    func(ctx context.Context) error
}

func (g gated) Name() string { return g.cluster.Name() }

func (g gated) Snapshot(ctx context.Context) (config.Snapshot, error) {
	if err := g.gate(ctx); err != nil {
		return config.Snapshot{}, err
	}
	return g.cluster.Snapshot(ctx)
}

func (g gated) Permitted(ctx context.Context, namespace string, kinds []string) error {
	if err := g.gate(ctx); err != nil {
		return err
	}
	return g.cluster.Permitted(ctx, namespace, kinds)
}

func (g gated) Hold(ctx context.Context, namespaces []string) (*objects.Hold, error) {
	if err := g.gate(ctx); err != nil {
		return nil, err
	}
	return g.cluster.Hold(ctx, namespaces)
}

func (g gated) Check(ctx context.Context, object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	if err := g.gate(ctx); err != nil {
		return nil, err
	}
	return g.cluster.Check(ctx, object)
}

func (g gated) Create(ctx context.Context, object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	if err := g.gate(ctx); err != nil {
		return nil, err
	}
	return g.cluster.Create(ctx, object)
}

func (g gated) Armed(ctx context.Context, job objects.Ref) (*unstructured.Unstructured, error) {
	if err := g.gate(ctx); err != nil {
		return nil, err
	}
	return g.cluster.Armed(ctx, job)
}

func (g gated) Extend(ctx context.Context, job objects.Ref, deadline time.Duration, annotations map[string]string) (*unstructured.Unstructured, error) {
	if err := g.gate(ctx); err != nil {
		return nil, err
	}
	return g.cluster.Extend(ctx, job, deadline, annotations)
}

func (g gated) Earlier(ctx context.Context, created *unstructured.Unstructured, wanted func(*unstructured.Unstructured) bool) ([]*unstructured.Unstructured, error) {
	if err := g.gate(ctx); err != nil {
		return nil, err
	}
	return g.cluster.Earlier(ctx, created, wanted)
}

func (g gated) Get(ctx context.Context, object objects.Ref) (*unstructured.Unstructured, error) {
	if err := g.gate(ctx); err != nil {
		return nil, err
	}
	return g.cluster.Get(ctx, object)
}

func (g gated) Watch(ctx context.Context, object objects.Ref, changed func(*unstructured.Unstructured)) {
	g.cluster.Watch(ctx, object, func(now *unstructured.Unstructured) {
		for g.gate(ctx) != nil {
			if !sleep.For(ctx, time.Second) {
				return
			}
		}
		changed(now)
	})
}

func (g gated) Update(ctx context.Context, object *unstructured.Unstructured, ref objects.Ref, resourceVersion string) (*unstructured.Unstructured, error) {
	if err := g.gate(ctx); err != nil {
		return nil, err
	}
	return g.cluster.Update(ctx, object, ref, resourceVersion)
}

func (g gated) Delete(ctx context.Context, object objects.Ref, run string) error {
	if err := g.gate(ctx); err != nil {
		return err
	}
	return g.cluster.Delete(ctx, object, run)
}

func (g gated) Withdraw(ctx context.Context, object objects.Ref, run string) error {
	if err := g.gate(ctx); err != nil {
		return err
	}
	return g.cluster.Withdraw(ctx, object, run)
}
