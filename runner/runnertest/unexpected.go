package runnertest

import (
	"context"
	"errors"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner"
)

// Unexpected is a runner.Cluster each method of which fails the test. A fake that
// expects some of the calls embeds it and has methods for those.
type Unexpected struct{ T testing.TB }

var _ runner.Cluster = Unexpected{}

var errUnexpected = errors.New("unexpected call")

func (u Unexpected) call(method string) error {
	u.T.Helper()
	u.T.Errorf("unexpected call of %s", method)
	return errUnexpected
}

// Name implements runner.Cluster.
func (u Unexpected) Name() string { return "unexpected" }

// Snapshot implements runner.Mesh.
func (u Unexpected) Snapshot(context.Context) (config.Snapshot, error) {
	return config.Snapshot{}, u.call("Snapshot")
}

// Permitted implements runner.Mesh.
func (u Unexpected) Permitted(context.Context, string, []string) error { return u.call("Permitted") }

// Hold implements runner.Holds.
func (u Unexpected) Hold(context.Context, []string) (*objects.Hold, error) {
	return nil, u.call("Hold")
}

// Check implements runner.Creator.
func (u Unexpected) Check(context.Context, *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	return nil, u.call("Check")
}

// Create implements runner.Creator.
func (u Unexpected) Create(context.Context, *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	return nil, u.call("Create")
}

// Armed implements heartbeat.Cluster.
func (u Unexpected) Armed(context.Context, objects.Ref) (*unstructured.Unstructured, error) {
	return nil, u.call("Armed")
}

// Extend implements heartbeat.Cluster.
func (u Unexpected) Extend(context.Context, objects.Ref, time.Duration, map[string]string) (*unstructured.Unstructured, error) {
	return nil, u.call("Extend")
}

// Get implements keep.Cluster.
func (u Unexpected) Get(context.Context, objects.Ref) (*unstructured.Unstructured, error) {
	return nil, u.call("Get")
}

// Watch implements keep.Cluster.
func (u Unexpected) Watch(context.Context, objects.Ref, func(*unstructured.Unstructured)) {
	_ = u.call("Watch")
}

// Update implements keep.Cluster.
func (u Unexpected) Update(context.Context, *unstructured.Unstructured, objects.Ref, string) (*unstructured.Unstructured, error) {
	return nil, u.call("Update")
}

// Earlier implements runner.Rivals.
func (u Unexpected) Earlier(context.Context, *unstructured.Unstructured, func(*unstructured.Unstructured) bool) ([]*unstructured.Unstructured, error) {
	return nil, u.call("Earlier")
}

// Delete implements removal.Deleter.
func (u Unexpected) Delete(context.Context, objects.Ref, string) error { return u.call("Delete") }

// Withdraw implements removal.Deleter.
func (u Unexpected) Withdraw(context.Context, objects.Ref, string) error { return u.call("Withdraw") }
