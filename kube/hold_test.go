package kube_test

import (
	"fmt"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/squall-chaos/squall/kube/kubetest"
	"github.com/squall-chaos/squall/mesh/objects"
)

const (
	holdsInShop = "/apis/coordination.k8s.io/v1/namespaces/shop/leases"
	holdInShop  = holdsInShop + "/squall-hold"
	holdOfAll   = "/apis/coordination.k8s.io/v1/namespaces/istio-system/leases/squall-hold"
)

// heldBy returns a Lease that began some time ago.
func heldBy(namespace, by string, ago time.Duration) string {
	return fmt.Sprintf(`{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"namespace":%q,"name":"squall-hold","uid":"u-1","labels":{"app.kubernetes.io/managed-by":"squall"}},"spec":{"holderIdentity":%q,"leaseDurationSeconds":600,"renewTime":%q}}`,
		namespace, by, time.Now().Add(-ago).UTC().Format(time.RFC3339))
}

func TestHoldIsTheLastThatEnds(t *testing.T) {
	version := exchange{"GET /version", "", 200, `{"gitVersion":"v1.36.3"}`}
	missing := kubetest.Status(404, "NotFound", "no")
	for _, test := range []struct {
		name   string
		script []exchange
		by     string
		fails  bool
	}{
		{"none", []exchange{{"GET " + holdOfAll, "", 404, missing}, {"GET " + holdInShop, "", 404, missing}}, "", false},
		{"of the namespace", []exchange{{"GET " + holdOfAll, "", 404, missing}, {"GET " + holdInShop, "", 200, heldBy("shop", "ann", time.Minute)}, version}, "ann", false},
		{"ended", []exchange{{"GET " + holdOfAll, "", 200, heldBy("istio-system", "bob", time.Hour)}, {"GET " + holdInShop, "", 404, missing}, version}, "", false},
		{"two", []exchange{{"GET " + holdOfAll, "", 200, heldBy("istio-system", "bob", time.Minute)}, {"GET " + holdInShop, "", 200, heldBy("shop", "ann", 2*time.Minute)}, version}, "bob", false},
		{"not permitted", []exchange{{"GET " + holdOfAll, "", 403, kubetest.Status(403, "Forbidden", "no")}}, "", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			hold, err := serve(t, test.script...).Hold(t.Context(), []string{"shop"})
			if (err != nil) != test.fails || (hold == nil) != (test.by == "") || hold != nil && hold.By != test.by {
				t.Errorf("hold %v, error %v", hold, err)
			}
		})
	}
}

func TestSetHold(t *testing.T) {
	version := exchange{"GET /version", "", 200, `{"gitVersion":"v1.36.3"}`}
	missing := exchange{"GET " + holdInShop, "", 404, kubetest.Status(404, "NotFound", "no")}
	for _, test := range []struct {
		name   string
		script []exchange
		by     string
	}{
		{"new", []exchange{version, missing, {"POST " + holdsInShop, `"holderIdentity":"cid"`, 201, heldBy("shop", "cid", 0)}}, "cid"},
		{"longer than another", []exchange{version, {"GET " + holdInShop, "", 200, heldBy("shop", "ann", 9*time.Minute)}, {"PUT " + holdInShop, `"holderIdentity":"cid"`, 200, heldBy("shop", "cid", 0)}}, "cid"},
		{"shorter than another", []exchange{version, {"GET " + holdInShop, "", 200, heldBy("shop", "ann", 0)}}, "ann"},
		{"at the same time", []exchange{
			version, missing,
			{"POST " + holdsInShop, "", 409, kubetest.Status(409, "AlreadyExists", "exists")},
			version,
			{"GET " + holdInShop, "", 200, heldBy("shop", "ann", 0)},
		}, "ann"},
		{"not permitted", []exchange{version, missing, {"POST " + holdsInShop, "", 403, kubetest.Status(403, "Forbidden", "no")}}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			hold, err := serve(t, test.script...).SetHold(t.Context(), "shop", "cid", 5*time.Minute)
			if hold.By != test.by || apierrors.IsForbidden(err) != (test.by == "") {
				t.Errorf("hold %v, error %v", hold, err)
			}
		})
	}
}

func TestEndHold(t *testing.T) {
	for _, test := range []struct {
		name   string
		script []exchange
		ended  bool
		fails  bool
	}{
		{"held", []exchange{{"GET " + holdOfAll, "", 200, heldBy("istio-system", "ann", 0)}, {"DELETE " + holdOfAll, `"uid":"u-1"`, 200, "{}"}}, true, false},
		{"not held", []exchange{{"GET " + holdOfAll, "", 404, kubetest.Status(404, "NotFound", "not found")}}, false, false},
		{"another program's", []exchange{{"GET " + holdOfAll, "", 200, `{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"namespace":"istio-system","name":"squall-hold"}}`}}, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			if ended, err := serve(t, test.script...).EndHold(t.Context(), objects.HoldEverywhere); ended != test.ended || (err != nil) != test.fails {
				t.Errorf("ended %t, error %v", ended, err)
			}
		})
	}
}
