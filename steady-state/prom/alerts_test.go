package prom_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	steadystate "github.com/squall-chaos/squall/steady-state"
	"github.com/squall-chaos/squall/steady-state/prom"
)

// answerRules serves one answer of the rules API, and fails the test for any
// other request.
func answerRules(t *testing.T, code int, body string) *prom.Client {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/rules" {
			t.Errorf("%s was not expected", r.URL)
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(server.Close)
	client, err := prom.New(server.URL, "")
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// rule returns an alerting rule in the format of the API. alerts have the form
// state:name=value.
func rule(name, labels, health, lastError string, alerts ...string) string {
	var active []string
	for _, alert := range alerts {
		state, label, _ := strings.Cut(alert, ":")
		key, value, _ := strings.Cut(label, "=")
		active = append(active, fmt.Sprintf(`{"state":%q,"labels":{"alertname":%q,%q:%q},"activeAt":"2026-01-01T00:00:00Z","value":"1"}`, state, name, key, value))
	}
	return fmt.Sprintf(`{"type":"alerting","name":%q,"query":"up == 0","duration":0,"labels":{%s},"annotations":{},"health":%q,"lastError":%q,"state":"firing","alerts":[%s]}`, name, labels, health, lastError, strings.Join(active, ","))
}

func TestAlerts(t *testing.T) {
	rules := []string{
		rule("Down", `"severity":"critical"`, "ok", "", "firing:severity=critical", "pending:severity=critical"),
		rule("Slow", `"severity":"warning"`, "ok", "", "firing:severity=warning"),
		rule("Templated", `"severity":"{{ $labels.tier }}"`, "ok", "", "firing:severity=critical", "firing:severity=low"),
		rule("Bare", ``, "err", "boom"),
		rule("New", `"severity":"new"`, "unknown", ""),
		`{"type":"recording","name":"a:b","query":"up","health":"err","lastError":"no alert"}`,
	}
	body := `{"status":"success","data":{"groups":[{"name":"g","rules":[` + strings.Join(rules, ",") + `]}]}}`
	for _, test := range []struct {
		name   string
		labels map[string]string
		want   steadystate.Alerts
	}{
		{"by a label", map[string]string{"severity": "critical"}, steadystate.Alerts{Rules: 3, Firing: []string{"Down", "Templated"}, Broken: []string{"Bare: boom"}}},
		{"by name", map[string]string{"alertname": "Slow"}, steadystate.Alerts{Rules: 1, Firing: []string{"Slow"}}},
		{"by both", map[string]string{"alertname": "Slow", "severity": "critical"}, steadystate.Alerts{}},
		{"of a rule that was loaded a moment ago", map[string]string{"alertname": "New"}, steadystate.Alerts{Rules: 1, Broken: []string{"New: it has not been evaluated yet"}}},
		{"of no rule", map[string]string{"alertname": "Nothing"}, steadystate.Alerts{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := answerRules(t, http.StatusOK, body).Alerts(t.Context(), test.labels)
			if diff := cmp.Diff(test.want, got); err != nil || diff != "" {
				t.Errorf("error %v: %s", err, diff)
			}
		})
	}
}

func TestServersThatDoNotTellTheirRules(t *testing.T) {
	for _, test := range []struct {
		name string
		code int
		body string
		want string // empty: the API does not exist
	}{
		{"not found", http.StatusNotFound, "", ""},
		{"forbidden", http.StatusForbidden, "", ""},
		{"another server", http.StatusOK, "<html>", ""},
		{"unauthorized", http.StatusUnauthorized, "", "refuses the query: client error: 401"},
		{"overloaded", http.StatusServiceUnavailable, "", "fails: server error: 503"},
		{"bad request", http.StatusBadRequest, `{"status":"error","errorType":"bad_data","error":"no tenant"}`, "no tenant"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := answerRules(t, test.code, test.body).Alerts(t.Context(), nil)
			if errors.Is(err, steadystate.ErrNoRules) != (test.want == "") || err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v", err)
			}
		})
	}
}
