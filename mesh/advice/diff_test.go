package advice_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/squall-chaos/squall/mesh/advice"
)

func routes(t *testing.T, text string) []map[string]any {
	t.Helper()
	var routes []map[string]any
	if err := yaml.Unmarshal([]byte(text), &routes); err != nil {
		t.Fatal(err)
	}
	return routes
}

func TestDiffRoutes(t *testing.T) {
	for _, test := range []struct{ name, before, during, want string }{
		{name: "nothing"},
		{
			name:   "the fault in place",
			before: "[{name: v1, route: [{destination: {host: a}}], timeout: 5s}]",
			during: "[{name: v1, route: [{destination: {host: a}}], timeout: 5s, fault: {abort: {httpStatus: 503, percentage: {value: 50}}}}]",
			want: `~ http route 1 ("v1")
    + fault.abort.httpStatus: 503
    + fault.abort.percentage.value: 50
`,
		},
		{
			name:   "clones before their originals",
			before: "[{match: [{uri: {prefix: /a}}], route: [{destination: {host: a}}]}, {name: rest, route: [{destination: {host: b}}]}]",
			during: `
- {name: squall-x, match: [{uri: {prefix: /a}, sourceLabels: {app: reviews}}], route: [{destination: {host: a}}], fault: {delay: {fixedDelay: 1s}}}
- {match: [{uri: {prefix: /a}}], route: [{destination: {host: a}}]}
- {name: squall-x-2, match: [{sourceLabels: {app.kubernetes.io/name: reviews}}], route: [{destination: {host: b}}], fault: {delay: {fixedDelay: 1s}}}
- {name: rest, route: [{destination: {host: b}}]}
`,
			want: `+ http route 1 ("squall-x"), a copy of http route 2 but for
    + fault.delay.fixedDelay: "1s"
    + match[0].sourceLabels.app: "reviews"
    + name: "squall-x"
= http route 2
+ http route 3 ("squall-x-2"), a copy of http route 4 but for
    + fault.delay.fixedDelay: "1s"
    + match[0].sourceLabels["app.kubernetes.io/name"]: "reviews"
    ~ name: "rest" -> "squall-x-2"
= http route 4 ("rest")
`,
		},
		{
			name:   "a clone before an original that changes too",
			before: "[{route: [{destination: {host: a}}], timeout: 5s, retries: {attempts: 3}}]",
			during: "[{name: squall-x, match: [{headers: {x: {}}}], route: [{destination: {host: a.prod}}], timeout: 5s, retries: {attempts: 3}, fault: {abort: {httpStatus: 503}}}, {route: [{destination: {host: a.prod}}], timeout: 5s, retries: {attempts: 3}}]",
			want: `+ http route 1 ("squall-x"), a copy of http route 2 but for
    + fault.abort.httpStatus: 503
    + match[0].headers.x: {}
    + name: "squall-x"
    ~ route[0].destination.host: "a" -> "a.prod"
~ http route 2
    ~ route[0].destination.host: "a" -> "a.prod"
`,
		},
		{
			name:   "a share goes elsewhere",
			before: "[{route: [{destination: {host: a}}]}]",
			during: "[{route: [{destination: {host: a}, weight: 70}, {destination: {host: nowhere}, weight: 30}]}]",
			want: `~ http route 1
    + route[0].weight: 70
    + route[1].destination.host: "nowhere"
    + route[1].weight: 30
`,
		},
		{
			name:   "nothing in common",
			before: "[{name: gone, route: [{destination: {host: a}}]}, {name: stays}]",
			during: "[{name: stays}, {redirect: {uri: /b}, headers: {}}]",
			want: `- http route 1 ("gone")
= http route 1 ("stays")
+ http route 2
    + headers: {}
    + redirect.uri: "/b"
`,
		},
		{
			name:   "fields that go",
			before: `[{name: a, timeout: 5s, "odd \"key\"": "line\nline"}]`,
			during: "[{name: a, timeout: 5s}]",
			want: `~ http route 1 ("a")
    - ["odd \"key\""]: "line\nline"
`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, advice.DiffRoutes("http", routes(t, test.before), routes(t, test.during))); diff != "" {
				t.Error(diff)
			}
		})
	}
}
