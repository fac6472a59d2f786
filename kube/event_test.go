package kube_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"

	"github.com/squall-chaos/squall/kube"
	"github.com/squall-chaos/squall/kube/kubetest"
	"github.com/squall-chaos/squall/mesh/objects"
)

// trip is an http.RoundTripper that is a function.
type trip func(*http.Request) (*http.Response, error)

func (f trip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// sent returns the body of the request for an Event.
func sent(t *testing.T, e kube.Event) *unstructured.Unstructured {
	t.Helper()
	sent := &unstructured.Unstructured{}
	c, err := kube.Connect(&rest.Config{Host: "http://memory", Transport: trip(func(r *http.Request) (*http.Response, error) {
		if got := r.Method + " " + r.URL.Path; got != "POST /api/v1/namespaces/shop/events" {
			t.Errorf("%s was not expected", got)
		}
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = sent.UnmarshalJSON(body)
		}
		return &http.Response{StatusCode: http.StatusCreated, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(string(body))), Request: r}, err
	})})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Emit(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	return sent
}

func TestTell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		about := objects.Ref{APIVersion: "v1", Kind: "Service", Namespace: "shop", Name: "ratings"}
		got, err := sent(t, kube.Event{About: about, Warning: true, Reason: "FaultStoppedEarly", Message: "outage: up fell", Reporter: "squall-0"}).MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		want := `{"action":"FaultStoppedEarly","apiVersion":"v1","count":1,"eventTime":"2000-01-01T00:00:00.000000Z",
			"firstTimestamp":"2000-01-01T00:00:00Z","involvedObject":{"apiVersion":"v1","kind":"Service","name":"ratings","namespace":"shop"},
			"kind":"Event","lastTimestamp":"2000-01-01T00:00:00Z","message":"outage: up fell","metadata":{"generateName":"squall-","labels":{"app.kubernetes.io/managed-by":"squall"},"namespace":"shop"},
			"reason":"FaultStoppedEarly","reportingComponent":"squall.dev/serve","reportingInstance":"squall-0","source":{"component":"squall"},"type":"Warning"}`
		if !kubetest.EqualJSON(t, []byte(want), got) {
			t.Errorf("%s", got)
		}
	})
}

// The API server refuses a message of more than 1024 bytes, and JSON uses three
// bytes for each invalid byte.
func TestTellTakesNoMoreThanFits(t *testing.T) {
	for _, message := range []string{strings.Repeat("x", 5000), strings.Repeat("x", 1023) + "é", strings.Repeat("€", 1000), "a\xff" + strings.Repeat("\xfe", 1022)} {
		text, _, _ := unstructured.NestedString(sent(t, kube.Event{About: objects.Ref{Namespace: "shop"}, Message: message}).Object, "message")
		if len(text) > 1024 || !utf8.ValidString(text) || strings.ContainsRune(text, utf8.RuneError) || text == "" {
			t.Errorf("%d bytes: %q", len(text), text)
		}
	}
}
