package oracle_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The generated scenarios must be varied, or the oracle proves little.
func TestGeneratorKnowsTheLanguage(t *testing.T) {
	counts := map[string]int{}
	words := []string{
		`"sourceLabels"`, `"sourceNamespace"`, `"withoutHeaders"`, `"ignoreUriCase"`, `"queryParams"`, `"authority"`, `"scheme"`, `"method"`, `"exact"`, `"prefix"`, `"regex"`,
		`"gateways"`, `"port"`, `"timeout"`, `"retries"`, `"rewrite"`, `"mirror"`, `"mirrors"`, `"redirect"`, `"directResponse"`, `"corsPolicy"`, `"fault"`, `"delegate"`, `"exportTo"`,
		`"tcp"`, `"tls"`, `"workloadSelector"`, `"egress"`, `"hosts":["*.`, `"istio.io/rev"`, `"subset"`,
	}
	for seed := *firstSeed; seed < *firstSeed+*seeds; seed++ {
		s := generate(seed)
		if diff := cmp.Diff(s.String(), generate(seed).String()); diff != "" {
			t.Fatalf("seed %d does not give the same scenario again: %s", seed, diff)
		}
		var all []any
		for _, o := range s.objects() {
			if o.GetKind() != "ServiceEntry" {
				all = append(all, o.Object)
			}
		}
		encoded := encode(all)
		for _, word := range words {
			if strings.Contains(encoded, word) {
				counts[word]++
			}
		}
	}
	for _, word := range words {
		if counts[word]*100 < *seeds {
			t.Errorf("only %d of %d scenarios have %s", counts[word], *seeds, word)
		}
	}
	t.Log(counts)
}

// The matcher must be right where Envoy is peculiar.
func TestEnvoyMatcher(t *testing.T) {
	hello := request{path: "/a/b", headers: map[string]string{":method": "GET", "x": "1"}, query: map[string]string{"q": "7"}}
	for _, test := range []struct {
		match string
		want  bool
	}{
		{`{"prefix": "/"}`, true},
		{`{"prefix": "/a"}`, true},
		{`{"prefix": "/A"}`, false},
		{`{"prefix": "/A", "caseSensitive": false}`, true},
		{`{"path": "/a"}`, false},
		{`{"path": "/A/B", "caseSensitive": false}`, true},
		{`{"pathSeparatedPrefix": "/a"}`, true},
		{`{"pathSeparatedPrefix": "/a/b"}`, true},
		{`{"pathSeparatedPrefix": "/a/"}`, false},
		{`{"safeRegex": {"regex": "/a"}}`, false},
		{`{"safeRegex": {"regex": "/a.*|/c"}}`, true},
		{`{"prefix": "/", "headers": [{"name": ":method", "stringMatch": {"exact": "GET"}}, {"name": "x", "presentMatch": true}]}`, true},
		{`{"prefix": "/", "headers": [{"name": "x", "presentMatch": true, "invertMatch": true}]}`, false},
		{`{"prefix": "/", "headers": [{"name": "y", "presentMatch": true, "invertMatch": true}]}`, true},
		{`{"prefix": "/", "headers": [{"name": "y", "stringMatch": {"exact": "2"}, "invertMatch": true}]}`, false},
		{`{"prefix": "/", "headers": [{"name": "y", "stringMatch": {"exact": "2"}, "invertMatch": true, "treatMissingHeaderAsEmpty": true}]}`, true},
		{`{"prefix": "/", "headers": [{"name": "x", "stringMatch": {"safeRegex": {"regex": "[0-9]"}}, "invertMatch": true}]}`, false},
		{`{"prefix": "/", "queryParameters": [{"name": "q", "stringMatch": {"prefix": "7"}}]}`, true},
		{`{"prefix": "/", "queryParameters": [{"name": "p", "presentMatch": true}]}`, false},
	} {
		var match m
		if err := json.Unmarshal([]byte(test.match), &match); err != nil {
			t.Fatal(err)
		}
		got, err := takesRequest(match, hello)
		if err != nil || got != test.want {
			t.Errorf("%s takes the request: %v, %v", test.match, got, err)
		}
	}
	for _, unknown := range []m{{"prefix": "/", "grpc": m{}}, {"prefix": "/", "headers": list(m{"name": "x", "rangeMatch": m{}})}} {
		if _, err := takesRequest(unknown, hello); err == nil {
			t.Errorf("%v is taken for known", unknown)
		}
	}
}
