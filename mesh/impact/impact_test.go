package impact_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/experiments"
	"github.com/squall-chaos/squall/istio/config"
	"github.com/squall-chaos/squall/mesh/impact"
	"github.com/squall-chaos/squall/mesh/meshtest"
)

func object(t *testing.T, kind, spec string) *unstructured.Unstructured {
	return meshtest.Object(t, "{apiVersion: networking.istio.io/v1, kind: "+kind+", metadata: {namespace: shop, name: a}, spec: "+spec+"}")
}

func wait(protocol string, longest time.Duration, attempts int64, connect, timeout time.Duration) impact.Wait {
	d := func(d time.Duration) experiments.Duration { return experiments.Duration{Duration: d} }
	return impact.Wait{Protocol: protocol, Longest: d(longest), Attempts: attempts, ConnectTimeout: d(connect), Timeout: d(timeout)}
}

// One request waits for each attempt to connect, until a timeout ends it.
func TestWaits(t *testing.T) {
	const s = time.Second
	for name, test := range map[string]struct {
		routes, policy string
		want           []impact.Wait
	}{
		"Istio's defaults":          {routes: "http: [{route: [{destination: {host: hole}}]}]", want: []impact.Wait{wait("http", 30*s, 3, 10*s, 0)}},
		"a share":                   {routes: "http: [{route: [{destination: {host: ratings}, weight: 90}, {destination: {host: hole}, weight: 10}]}]", want: []impact.Wait{wait("http", 30*s, 3, 10*s, 0)}},
		"nothing is dropped":        {routes: "http: [{route: [{destination: {host: ratings}}]}]"},
		"a timeout":                 {routes: "http: [{route: [{destination: {host: hole}}], timeout: 2s}]", want: []impact.Wait{wait("http", 2*s, 3, 10*s, 2*s)}},
		"a long timeout":            {routes: "http: [{route: [{destination: {host: hole}}], timeout: 60s}]", want: []impact.Wait{wait("http", 30*s, 3, 10*s, 0)}},
		"no retries":                {routes: "http: [{route: [{destination: {host: hole}}], retries: {attempts: 0}}]", want: []impact.Wait{wait("http", 10*s, 1, 10*s, 0)}},
		"retries":                   {routes: "http: [{route: [{destination: {host: hole}}], retries: {attempts: 4, perTryTimeout: 1s}}]", want: []impact.Wait{wait("http", 50*s, 5, 10*s, 0)}},
		"retries of other failures": {routes: "http: [{route: [{destination: {host: hole}}], retries: {attempts: 4, retryOn: 'retriable-4xx'}}]", want: []impact.Wait{wait("http", 10*s, 1, 10*s, 0)}},
		"the target's timeout":      {routes: "http: [{route: [{destination: {host: hole}}]}]", policy: "{host: hole, trafficPolicy: {connectionPool: {tcp: {connectTimeout: 0.500s}}}}", want: []impact.Wait{wait("http", 1500*time.Millisecond, 3, 500*time.Millisecond, 0)}},
		"a subset":                  {routes: "http: [{route: [{destination: {host: hole, subset: v2}}]}]", policy: "{host: hole, subsets: [{name: v2, trafficPolicy: {connectionPool: {tcp: {connectTimeout: 1s}}}}]}", want: []impact.Wait{wait("http", 3*s, 3, s, 0)}},
		"two routes":                {routes: "http: [{route: [{destination: {host: hole}}], timeout: 2s}, {route: [{destination: {host: hole}}]}]", want: []impact.Wait{wait("http", 2*s, 3, 10*s, 2*s), wait("http", 30*s, 3, 10*s, 0)}},
		"connections":               {routes: "tcp: [{match: [{port: 5432}], route: [{destination: {host: hole, port: {number: 5432}}}]}]", want: []impact.Wait{wait("tcp", 10*s, 1, 10*s, 0)}},
	} {
		t.Run(name, func(t *testing.T) {
			objects := []*unstructured.Unstructured{
				object(t, "ServiceEntry", "{hosts: [hole], endpoints: [{address: 192.0.2.1}]}"),
				object(t, "VirtualService", "{hosts: [ratings], "+test.routes+"}"),
			}
			if test.policy != "" {
				objects = append(objects, object(t, "DestinationRule", test.policy))
			}
			got, _ := impact.Of(meshtest.Snapshot(t), objects, []config.Port{{Number: 9080, Name: "http", OfService: true}, {Number: 5432, Name: "tcp-pg", OfService: true}})
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The callers' connections to a port are closed when its routes change, also those
// that a share of new connections spares.
func TestCloses(t *testing.T) {
	s := meshtest.Snapshot(t)
	s.DrainDuration = 5 * time.Second
	for name, test := range map[string]struct {
		routes string
		want   *impact.Closing
	}{
		"HTTP": {routes: "http: [{route: [{destination: {host: hole}}]}]"},
		"TCP": {
			routes: "tcp: [{match: [{port: 5432}, {port: 7070}], route: [{destination: {host: db}, weight: 99}, {destination: {host: hole}, weight: 1}]}]",
			want:   &impact.Closing{Ports: []int64{5432, 7070}, After: experiments.Duration{Duration: 5 * time.Second}},
		},
		"TLS": {
			routes: "tls: [{match: [{port: 5432, sniHosts: [db]}], route: [{destination: {host: hole}}]}]",
			want:   &impact.Closing{Ports: []int64{5432}, After: experiments.Duration{Duration: 5 * time.Second}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			objects := []*unstructured.Unstructured{
				object(t, "ServiceEntry", "{hosts: [hole], workloadSelector: {labels: {a: b}}}"),
				object(t, "VirtualService", "{hosts: [db], "+test.routes+"}"),
			}
			waits, got := impact.Of(s, objects, []config.Port{{Number: 5432, Name: "tcp-a", OfService: true}, {Number: 7070, Name: "tcp-b", OfService: true}})
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			if waits != nil {
				t.Errorf("nothing is dropped: %+v", waits)
			}
		})
	}
}
