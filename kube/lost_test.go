package kube_test

import (
	"context"
	"strings"
	"testing"

	"github.com/squall-chaos/squall/kube/kubetest"
	"github.com/squall-chaos/squall/kube/lease"
)

// A run that ends because its process has lost the Lease says so.
func TestALeaderThatLosesItsLeaseSaysWhy(t *testing.T) {
	t.Parallel()
	const (
		leases = "/apis/coordination.k8s.io/v1/namespaces/squall/leases"
		ours   = `{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"namespace":"squall","name":"squall","labels":{"app.kubernetes.io/managed-by":"squall"}},"spec":{"holderIdentity":"us"}}`
		theirs = `{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"namespace":"squall","name":"squall","labels":{"app.kubernetes.io/managed-by":"squall"}},"spec":{"holderIdentity":"them"}}`
	)
	election := lease.Election{
		Cluster: serve(t,
			exchange{"GET " + leases + "/squall", "", 404, kubetest.Status(404, "NotFound", "no")},
			exchange{"POST " + leases, `"holderIdentity":"us"`, 201, ours},
			exchange{"PUT " + leases + "/squall", `"holderIdentity":"us"`, 409, kubetest.Status(409, "Conflict", "no")},
			exchange{"GET " + leases + "/squall", "", 200, theirs},
			exchange{"GET " + leases + "/squall", "", 200, theirs},
		),
		Namespace: "squall", Name: "squall", Identity: "us", Observed: func(string) {},
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var cause error
	election.Run(ctx, func(leading context.Context) {
		<-leading.Done()
		cause = context.Cause(leading)
		cancel()
	})
	if cause == nil || !strings.Contains(cause.Error(), "another process leads") {
		t.Errorf("it ended because of %v", cause)
	}
}
