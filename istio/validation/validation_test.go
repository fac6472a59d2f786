package validation_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/istio/validation"
	"github.com/squall-chaos/squall/mesh/meshtest"
)

func TestCheck(t *testing.T) {
	for _, test := range []struct {
		kind, spec string
		want       []string
	}{
		{"VirtualService", "{hosts: [a], http: [{match: [{uri: {regex: '/a.*'}, port: 80, headers: {x: {}}}], route: [{destination: {host: a, port: {number: 80}}, weight: 90.0}, {destination: {host: b}, weight: 10}], timeout: 0.5s, retries: {attempts: 3, perTryTimeout: 2s}}]}", nil},
		{"VirtualService", "{http: [{match: [{uri: {prefix: /}}], delegate: {name: a}}]}", nil},
		{"VirtualService", "{hosts: [a], future: {field: [7]}, http: [{redirect: {uri: /b, derivePort: X}}]}", nil},
		{"VirtualService", "{hosts: [a], http: [{route: [{destination: {host: a}}]}], tls: [{match: [{sniHosts: [a], port: 443}], route: [{destination: {host: a}}]}]}", nil},
		{"VirtualService", "{hosts: a, http: [{route: [{destination: {host: a}, weight: 90%}]}]}", []string{
			`spec.hosts: want a list, found the text "a"`, `spec.http[0].route[0].weight: want a whole number, found the text "90%"`,
		}},
		{"VirtualService", "{hosts: [7], http: {}, gateways: [true]}", []string{"spec.gateways[0]: want text, found true", "spec.hosts[0]: want text, found 7", "spec.http: want a list, found fields"}},
		{"VirtualService", "{hosts: [a], http: [{route: [{destination: {host: a}, weight: 0.5}], timeout: 5, fault: {delay: {fixedDelay: soon, percentage: {value: half}}}}]}", []string{
			`spec.http[0].fault.delay.fixedDelay: want a duration such as 5s, found the text "soon"`, `spec.http[0].fault.delay.percentage.value: want a number, found the text "half"`,
			"spec.http[0].route[0].weight: want a whole number, found 0.5", "spec.http[0].timeout: want a duration such as 5s, found 5",
		}},
		{"VirtualService", "{hosts: [a], http: [{match: [{ignoreUriCase: 'yes', sourceLabels: [a]}], route: [{destination: {host: a}}]}]}", []string{
			`spec.http[0].match[0].ignoreUriCase: want true or false, found the text "yes"`, "spec.http[0].match[0].sourceLabels: want names with values, found a list",
		}},
		{"VirtualService", "{hosts: [a], http: [{timeout: 1s}, {route: [{destination: {host: a}}], redirect: {uri: /}}]}", []string{
			"spec.http[0]: must have exactly one of route, redirect, directResponse and delegate", "spec.http[1]: must have exactly one of route, redirect, directResponse and delegate",
		}},
		{"VirtualService", "{hosts: [a], http: [{route: [{destination: {subset: v1}}, {destination: {host: a}, weight: -1}]}, {route: [{destination: {host: a}}, {destination: {host: b}}]}]}", []string{
			"spec.http[0].route[0].destination.host: is missing", "spec.http[0].route[1].weight: -1 is negative", "spec.http[1].route: the weights add up to 0",
		}},
		{"VirtualService", "{hosts: [a], http: [{match: [{uri: {regex: '('}}, {headers: {x: {regex: '['}}}], route: [{destination: {host: a}}]}], tcp: [{match: [{port: 1}]}]}", []string{
			`spec.http[0].match[0].uri.regex: "(" is not an RE2 regex`, `spec.http[0].match[1].headers.x.regex: "[" is not an RE2 regex`, "spec.tcp[0].route: is missing",
		}},
		{"ServiceEntry", "{hosts: [a.example], ports: [{number: 80, name: http, protocol: HTTP}]}", nil},
		{"ServiceEntry", "{ports: [{number: 0, name: http}, {number: 70000}]}", []string{"spec.hosts: is missing", "spec.ports[0].number: 0 is not a port", "spec.ports[1].number: 70000 is not a port"}},
		{"ServiceEntry", "{hosts: [a.example], ports: [{number: '80'}]}", []string{`spec.ports[0].number: want a whole number, found the text "80"`}},
		{"DestinationRule", "{host: a, trafficPolicy: {connectionPool: {tcp: {connectTimeout: 3s}}, portLevelSettings: [{port: {number: 80}}]}, subsets: [{name: v1, labels: {version: v1}}]}", nil},
		{"DestinationRule", "{trafficPolicy: {tls: {sni: a}}, subsets: [{name: v1}]}", []string{"spec.host: is missing"}},
		{"DestinationRule", "{host: a, subsets: [{labels: {version: 1}}]}", []string{"spec.subsets[0].labels.version: want text, found 1"}},
		{"Sidecar", "{egress: [{hosts: [./*, '*/a.example']}]}", nil},
		{"Sidecar", "{egress: [{}, {hosts: [a]}]}", []string{"spec.egress[0].hosts: is missing", `spec.egress[1].hosts[0]: "a" is not of the form namespace/host`}},
		{"Gateway", "{selector: {istio: ingressgateway}, servers: [{hosts: ['*'], port: {number: 80, name: http, protocol: HTTP}}]}", nil},
		{"Gateway", "{servers: [{port: {number: 0}}]}", []string{"spec.servers[0].hosts: is missing", "spec.servers[0].port.number: 0 is not a port"}},
		{"EnvoyFilter", "{anything: [goes]}", nil},
	} {
		t.Run(fmt.Sprintf("%s %s", test.kind, strings.ReplaceAll(test.spec, "/", "")), func(t *testing.T) {
			object := meshtest.Object(t, "{apiVersion: networking.istio.io/v1, kind: "+test.kind+", metadata: {namespace: prod, name: a}, spec: "+test.spec+"}")
			var got []string
			for _, p := range validation.Check(object) {
				got = append(got, p.Path+": "+p.Message)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
