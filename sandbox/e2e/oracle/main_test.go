// Package oracle_test holds what package mesh plans against a real istiod: it
// compares the routes that istiod sends before, during and after a fault, for
// the VirtualServices of Istio's own repository and for generated ones.
package oracle_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/squall-chaos/squall/sandbox/internal/testbed"
)

// bed is the one sandbox of all tests.
var bed *world

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "oracle:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	sandbox, err := testbed.Up("--no-shop")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, sandbox.Down()) }()
	// Some of Istio's manifests have fields that it has given up.
	rest.SetDefaultWarningHandler(rest.NoWarnings{})
	engine, err := newPlanner(sandbox)
	if err != nil {
		return 1, err
	}
	bed = &world{kube: sandbox.Kube, engine: engine, http: &http.Client{}}
	return m.Run(), nil
}
