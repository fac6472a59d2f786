package mesh_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/squall-chaos/squall/experiments/files"
	"github.com/squall-chaos/squall/manifests"
	"github.com/squall-chaos/squall/mesh"
)

// A plan is a function of the configuration of a mesh, which may also come from
// manifest files.
func ExampleDecide() {
	directory, err := os.MkdirTemp("", "mesh")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(directory) //nolint:errcheck // a temporary directory
	const objects = `
apiVersion: v1
kind: Service
metadata: {name: ratings, namespace: prod}
spec: {ports: [{name: http, port: 9080}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ratings, namespace: prod}
spec: {hosts: [ratings], http: [{name: v1, timeout: 2s, route: [{destination: {host: ratings}}]}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
`
	if err := os.WriteFile(filepath.Join(directory, "mesh.yaml"), []byte(objects), 0o600); err != nil {
		log.Fatal(err)
	}
	snapshot, err := manifests.Read([]string{directory}, manifests.Options{Strict: true})
	if err != nil {
		log.Fatal(err)
	}
	loaded, err := files.Load("ratings-outage.yaml", strings.NewReader(`
apiVersion: squall.dev/v1alpha1
kind: Experiment
metadata: {name: ratings-outage}
spec:
  target: {host: ratings.prod}
  callers: [{namespace: shop}]
  faults: [{abort: {httpStatus: 503}, percentage: 50}]
  duration: 2m
  steadyState: {probes: [{name: page, successRate: {destination: page.shop}, min: 0.99}]}
`))
	if err != nil {
		log.Fatal(err)
	}
	plan := mesh.Decide(snapshot.Snapshot, loaded[0], mesh.Options{})
	for _, d := range plan.Decisions {
		fmt.Println(d.Callers, "->", d.Host)
		fmt.Println(d.Placement, "in", d.Namespace, "with exportTo", d.ExportTo)
	}
	for _, object := range plan.Objects {
		fmt.Println(object.GetKind(), object.GetNamespace())
	}
	// Output:
	// shop -> ratings.prod.svc.cluster.local
	// shadow in shop with exportTo [.]
	// VirtualService shop
}
