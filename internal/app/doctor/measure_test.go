package doctor_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/internal/app/doctor"
	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/kube"
	"github.com/squall-chaos/squall/mesh/objects"
	"github.com/squall-chaos/squall/runner/runnertest"
	steadystate "github.com/squall-chaos/squall/steady-state"
)

// fit is an API server with everything that a run needs.
type fit struct{}

func (fit) Name() string { return "fake" }

func (fit) Server(context.Context) (kube.Server, error) {
	return kube.Server{Version: "v1.36.3", Time: time.Now()}, nil
}

func (fit) APIs(context.Context) (apis kube.APIs, err error) {
	apis.Used.Group, apis.Used.Version = "networking.istio.io", "v1"
	return apis, nil
}

func (fit) Istiods(context.Context) ([]string, error) { return []string{"1.29.0"}, nil }

func (fit) Missing(context.Context, []kube.Permission) ([]kube.Permission, error) { return nil, nil }

func (fit) Namespaces(context.Context) (map[string]map[string]string, error) {
	return map[string]map[string]string{"shop": {"istio-injection": "enabled"}}, nil
}

func (fit) List(context.Context, string) (objects.Owned, error) { return objects.Owned{}, nil }

// scraping is a Prometheus that scrapes istiod and the callers' proxies.
type scraping struct {
	interval time.Duration
	pushes   func() float64
	// missing are parts of queries without an answer.
	missing string
}

func (scraping) Address() string { return "fake" }

func (scraping) Version(context.Context) (string, error) { return "3.5.0", nil }

func (s scraping) Query(_ context.Context, promql string) ([]steadystate.Sample, error) {
	now := float64(time.Now().UnixMilli()) / 1000
	answers := []struct {
		of    string
		value float64
	}{
		{"timestamp({__name__=~\"pilot_xds_pushes", float64(time.Now().Truncate(s.interval).Unix())},
		{"pilot_xds_pushes", s.pushes()},
		{"pilot_proxy_convergence_time", 0.104},
		{"count_over_time", float64(5 * time.Minute / s.interval)},
		{"time() - m", 3},
		{"count(last_over_time", 7},
		{"time()", now},
	}
	for _, answer := range answers {
		if strings.Contains(promql, answer.of) && (s.missing == "" || !strings.Contains(promql, s.missing)) {
			return []steadystate.Sample{{Value: answer.value}}, nil
		}
	}
	return nil, nil
}

// The measurements become a guarantee.
func TestTheGuarantee(t *testing.T) {
	for name, test := range map[string]struct {
		admit   func(*unstructured.Unstructured, bool)
		check   error
		frozen  bool
		missing string
		want    []string
	}{
		"healthy": {want: []string{
			"ok|admission|in namespace shop a dry run changes no Job, VirtualService, ServiceEntry, DestinationRule|",
			"ok|scrapes|the callers' proxies are scraped about every 15s; the oldest value in use is 3s old|",
			"ok|istiod|pushes: to proxies 1 times since squall doctor began; 99 % of the pushes of the last 10 minutes took at most 100ms|",
			"ok|guarantee|the objects of a run that dies are gone after about 15s, and its fault from the proxies 100ms later; a deviation is seen up to 15s late; calls are proven clean about 32s after a rollback",
		}},
		"istiod does not push": {frozen: true, want: []string{
			"warning|istiod|has pushed nothing to proxies although objects were created and deleted in namespace shop|proxies get a fault, and lose it after a rollback, only when istiod pushes",
			"warning|guarantee|", "not known: how long istiod's pushes take",
		}},
		"istiod is not scraped": {missing: "pilot_xds_pushes", want: []string{"warning|istiod|it is not known whether it pushes: Prometheus has no pilot_xds_pushes|let Prometheus scrape istiod"}},
		"few scrapes":           {missing: "count_over_time", want: []string{"warning|scrapes|there are not two scrapes of the callers' proxies in the last 5 minutes|", "not known: how often the proxies are scraped"}},
		"a policy changes the dry run": {admit: func(object *unstructured.Unstructured, dryRun bool) {
			if dryRun && object.GetKind() == objects.KindJob {
				_ = unstructured.SetNestedField(object.Object, true, "spec", "suspend")
			}
		}, want: []string{"failure|admission|the cluster would not store what is sent: spec.suspend of Job shop/squall-doctor is true instead of false|a webhook, a policy or another program changes the objects of Squall"}},
		"a policy changes what is stored": {admit: func(object *unstructured.Unstructured, dryRun bool) {
			if !dryRun && object.GetKind() == objects.KindVirtualService {
				_ = unstructured.SetNestedStringSlice(object.Object, []string{"*"}, "spec", "exportTo")
			}
		}, want: []string{"failure|heartbeat|in namespace shop: it is not stored as it was sent: spec.exportTo[0] of VirtualService shop/squall-doctor-"}},
		"a policy refuses an object": {check: errors.New("denied by policy"), want: []string{"failure|admission|the cluster would not create ServiceEntry shop/squall-doctor: denied by policy|"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := runnertest.New(t, config.Snapshot{})
				c.Admit = test.admit
				if test.check != nil {
					c.Fail("check ServiceEntry", test.check)
				}
				pushes := 5.0
				c.On("create VirtualService", func() {
					if !test.frozen {
						pushes++
					}
				})
				d := doctor.Doctor{
					APIServer: fit{}, Contents: fit{}, Objects: c, Admission: c, Namespaces: []string{"shop"}, HeartbeatImage: "pause", Owner: "ann",
					Prometheus: scraping{interval: 15 * time.Second, pushes: func() float64 { return pushes }, missing: test.missing},
				}
				var lines []string
				if err := d.Examine(t.Context(), func(check doctor.Check) {
					lines = append(lines, strings.Join([]string{string(check.Status), check.Name, check.Detail, check.Hint}, "|"))
				}); err != nil {
					t.Fatal(err)
				}
				all := strings.Join(lines, "\n")
				for _, want := range test.want {
					if !strings.Contains(all, want) {
						t.Errorf("no check says %q:\n%s", want, all)
					}
				}
				if left := c.Owned(); len(left) > 0 {
					t.Errorf("left: %v", left)
				}
			})
		})
	}
}
