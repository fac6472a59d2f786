package kube_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"

	"github.com/squall-chaos/squall/kube"
)

// silent is an API server that has an object and never answers a watch. Later the
// object is gone.
type silent struct{ gone time.Time }

// RoundTrip implements http.RoundTripper.
func (s silent) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.URL.Query().Get("watch") != "" {
		<-request.Context().Done()
		return nil, request.Context().Err()
	}
	items := object("run-1")
	if time.Now().After(s.gone) {
		items = ""
	}
	list := `{"kind":"VirtualServiceList","apiVersion":"networking.istio.io/v1","metadata":{"resourceVersion":"7"},"items":[` + items + `]}`
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(list)), Request: request}, nil
}

// CancelRequest is called by net/http beside the end of the request's context.
func (silent) CancelRequest(*http.Request) {}

// A watch whose request is never answered is started again, so that the object is
// not unwatched.
func TestAWatchThatIsNotAnsweredIsStartedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		c, err := kube.Connect(&rest.Config{Host: "http://memory", Transport: silent{gone: time.Now().Add(time.Second)}})
		if err != nil {
			t.Fatal(err)
		}
		seen, gone := 0, false
		c.Watch(ctx, ref, func(object *unstructured.Unstructured) {
			seen++
			gone = object == nil
		})
		if !gone || seen != 2 {
			t.Errorf("seen %d times, gone: %t", seen, gone)
		}
	})
}
