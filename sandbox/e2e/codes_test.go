package e2e_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Every exit code comes from a real run.
func TestExitCodes(t *testing.T) {
	const low = "[{name: too low, query: vector(0), min: 1, phases: [during]}]"
	for name, test := range map[string]struct {
		spec spec
		args []string
		meet func(t *testing.T, s *squall) // while it runs
		code int
		says string
	}{
		"0 held":        {spec: spec{duration: "2s", more: "effect: {minRequests: 10}\n  recovery: {within: 30s}"}, code: 0, says: "test: held\n"},
		"1 deviated":    {spec: spec{probes: low}, code: 1, says: "test: deviated (stopped)\n"},
		"2 bad file":    {spec: spec{duration: "soon"}, code: 2},
		"3 refused":     {spec: spec{target: "{host: nobody.prod.svc.cluster.local}"}, code: 3, says: "test: inconclusive (refused)\n"},
		"4 interrupted": {meet: func(_ *testing.T, s *squall) { s.signal(syscall.SIGTERM) }, code: 4, says: "test: inconclusive (interrupted)\n"},
		"5 left behind": {meet: cannotGo, code: 5, says: "LEFT BEHIND"},
	} {
		t.Run(name, func(t *testing.T) {
			s := runFile(t, test.spec, test.args...)
			if test.meet != nil {
				inForce(t, reviews, ratings, true)
				test.meet(t, s)
			}
			s.exits(test.code)
			if !strings.Contains(s.stdout.String(), test.says) {
				t.Errorf("the summary does not say %q", test.says)
			}
		})
	}
}

// cannotGo adds a finalizer of another owner to the VirtualService, so that the
// cluster does not delete it, and interrupts the run.
func cannotGo(t *testing.T, s *squall) {
	t.Helper()
	const finalizer = "example.com/stay"
	list, err := mesh.Kube.Resource(virtualServices).List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/managed-by=squall"})
	if err != nil || len(list.Items) != 1 {
		t.Fatalf("%d objects: %v", len(list.Items), err)
	}
	one := list.Items[0]
	client := mesh.Kube.Resource(virtualServices).Namespace(one.GetNamespace())
	patch := func(finalizers string) error {
		_, err := client.Patch(t.Context(), one.GetName(), types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"finalizers":%s}}`, finalizers), metav1.PatchOptions{FieldManager: "somebody"})
		return err
	}
	if err := patch(`["` + finalizer + `"]`); err != nil {
		t.Fatal(err)
	}
	s.signal(syscall.SIGINT)
	s.exits(5)
	if err := patch("null"); err != nil {
		t.Fatal(err)
	}
}
