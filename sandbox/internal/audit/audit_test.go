package audit

import (
	"strings"
	"testing"
	"time"
)

const (
	create = `{"verb":"create","requestURI":"/v","userAgent":"squall/v1","objectRef":{"resource":"jobs","namespace":"shop"},"requestObject":{"metadata":{"name":"beat","labels":{"app.kubernetes.io/managed-by":"squall"}}}}` + "\n"
	patch  = `{"verb":"patch","requestURI":"/p","userAgent":"squall/v1","objectRef":{"resource":"jobs","namespace":"shop","name":"beat"},"requestObject":[{"op":"test"}]}` + "\n"
	remove = `{"verb":"delete","requestURI":"/d","userAgent":"squall/v1","objectRef":{"resource":"jobs","namespace":"shop","name":"beat"}}` + "\n"
)

func TestCheck(t *testing.T) {
	for name, test := range map[string]struct {
		log  string
		want string // part of the error; empty when all is well
	}{
		"own objects":            {create + patch + remove, ""},
		"in the order of answer": {remove + create, ""},
		"a last line cut short":  {create + patch[:40], ""},
		"dry runs":               {create + strings.NewReplacer("/v", "/v?dryRun=All", `"labels"`, `"x"`).Replace(create), ""},
		"another client":         {create + strings.Replace(remove, "squall/v1", "kubectl/v1", 1), ""},
		"create without label":   {strings.Replace(create, "managed-by", "part-of", 1), "without its label"},
		"create cut short":       {create + `{"verb":"create","requestURI":"/v","userAgent":"squall/v1","responseStatus":{"code":400}}` + "\n", ""},
		"create of nothing":      {create + `{"verb":"create","requestURI":"/v","userAgent":"squall/v1","responseStatus":{"code":201}}` + "\n", "without its label"},
		"delete of a user's":     {create + strings.Replace(remove, "beat", "users", 1), "delete /d"},
		"of another kind":        {create + strings.Replace(remove, "jobs", "pods", 1), "delete /d"},
		"patch of a user's":      {create + strings.Replace(patch, "beat", "users", 1), "patch /p"},
		"of a status":            {create + strings.Replace(patch, `"name":"beat"`, `"name":"beat","subresource":"status"`, 1), "patch /p"},
		"by another verb":        {create + strings.Replace(remove, `"delete"`, `"deletecollection"`, 1), "by deletecollection"},
		"nothing":                {"", "no write of squall's"},
		"no log":                 {"what?\n", "audit log: "},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := check(strings.NewReader(test.log))
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v instead of %q", err, test.want)
			}
		})
	}
}

func TestSummary(t *testing.T) {
	got, err := check(strings.NewReader(create + patch + patch + remove))
	if want := (Summary{Creates: 1, Patches: 2, Deletes: 1}); got != want || err != nil {
		t.Errorf("%+v, %v instead of %+v", got, err, want)
	}
}

func TestReceived(t *testing.T) {
	at := func(line, time string) string {
		return strings.Replace(line, `{"verb"`, `{"requestReceivedTimestamp":"`+time+`","verb"`, 1)
	}
	log := at(create, "2026-11-28T12:00:00.5Z") + at(remove, "2026-11-28T12:00:01Z") + at(create, "2026-11-28T12:00:02.25Z")
	got, err := received(strings.NewReader(log), "create", "jobs", "beat")
	if want := time.Date(2026, 11, 28, 12, 0, 2, 250_000_000, time.UTC); err != nil || !got.Equal(want) {
		t.Errorf("the last create: %v, %v", got, err)
	}
	if got, err := received(strings.NewReader(log), "delete", "pods", "beat"); err == nil {
		t.Errorf("a write of another resource: %v", got)
	}
}
