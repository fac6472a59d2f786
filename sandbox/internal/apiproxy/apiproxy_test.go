package apiproxy_test

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/squall-chaos/squall/sandbox/internal/apiproxy"
)

// server answers everything with one object, and a watch with one event; a watch
// of labels it does not answer.
type server struct {
	*httptest.Server
	served atomic.Int32
	// They get a value when such a watch has come, and when its client has left.
	watched, left chan struct{}
}

const (
	token  = "secret"
	object = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"default"}}`
)

func newServer(t *testing.T) *server {
	s := &server{watched: make(chan struct{}, 1), left: make(chan struct{}, 1)}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.served.Add(1)
		if r.Header.Get("Authorization") != "Bearer "+token || r.ProtoMajor != 2 {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.URL.Query().Has("labelSelector") {
			s.watched <- struct{}{}
			<-r.Context().Done()
			s.left <- struct{}{}
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if !r.URL.Query().Has("watch") {
			fmt.Fprint(w, object)
			return
		}
		fmt.Fprintf(w, `{"type":"ADDED","object":%s}`, object)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// connect returns a client of a server behind a proxy, both of them with TLS.
func connect(t *testing.T, s *server, hooks apiproxy.Hooks) (*apiproxy.Proxy, dynamic.ResourceInterface) {
	t.Helper()
	folder := t.TempDir()
	config := api.NewConfig()
	config.Clusters["c"] = &api.Cluster{Server: s.URL, CertificateAuthorityData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})}
	config.AuthInfos["u"] = &api.AuthInfo{Token: token}
	config.Contexts["x"] = &api.Context{Cluster: "c", AuthInfo: "u"}
	config.CurrentContext = "x"
	direct := filepath.Join(folder, "direct")
	if err := clientcmd.WriteToFile(*config, direct); err != nil {
		t.Fatal(err)
	}
	proxy, file, err := apiproxy.ForAPIServer(direct, folder, hooks)
	if err != nil {
		t.Fatal(err)
	}
	behind, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		t.Fatal(err)
	}
	behind.Timeout = 2 * time.Second
	client, err := dynamic.NewForConfig(behind)
	if err != nil {
		t.Fatal(err)
	}
	return proxy, client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace("default")
}

// isBroken reports whether a client has got no answer.
func isBroken(err error) bool {
	var answer apierrors.APIStatus
	return err != nil && !errors.As(err, &answer)
}

func configMap() *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "a"}}}
}

func TestCallsAreNamedAndClassified(t *testing.T) {
	proxy, client := connect(t, newServer(t), apiproxy.Hooks{})
	defer proxy.Close()
	_, create := client.Create(t.Context(), configMap(), metav1.CreateOptions{})
	_, dry := client.Create(t.Context(), configMap(), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	_, get := client.Get(t.Context(), "a", metav1.GetOptions{})
	_, again := client.Get(t.Context(), "a", metav1.GetOptions{})
	remove := client.Delete(t.Context(), "a", metav1.DeleteOptions{})
	watcher, watch := client.Watch(t.Context(), metav1.ListOptions{})
	if err := errors.Join(create, dry, get, again, remove, watch); err != nil {
		t.Fatal(err)
	}
	defer watcher.Stop()
	if event := <-watcher.ResultChan(); event.Type != "ADDED" {
		t.Errorf("the watch tells %+v", event)
	}
	want := []string{
		"1 write create configmaps #1", "2 read create configmaps (dry run) #1", "3 read get configmaps #1",
		"4 read get configmaps #2", "5 write delete configmaps #1", "6 watch watch configmaps #1",
	}
	for i, call := range proxy.Calls() {
		if got := fmt.Sprint(call.Number, " ", call.Class, " ", call); i >= len(want) || got != want[i] {
			t.Errorf("call %d is %q", i, got)
		}
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault  apiproxy.Fault
		want   func(error) bool
		served int32
	}{
		"none":       {nil, func(err error) bool { return err == nil }, 1},
		"conflict":   {apiproxy.Refuse(http.StatusConflict, metav1.StatusReasonConflict), apierrors.IsConflict, 0},
		"reset":      {apiproxy.Reset, isBroken, 0},
		"lost":       {apiproxy.Lose, isBroken, 1},
		"halved":     {apiproxy.Halve, isBroken, 1},
		"vanished":   {apiproxy.Vanish, isBroken, 0},
		"hung":       {apiproxy.Hang, isBroken, 0},
		"frozen":     {apiproxy.Freeze, isBroken, 0},
		"delayed":    {apiproxy.Delay(100 * time.Millisecond), func(err error) bool { return err == nil }, 1},
		"late":       {apiproxy.Delay(2500 * time.Millisecond), isBroken, 1},
		"throttling": {apiproxy.Throttle(time.Second), func(err error) bool { return err == nil }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			proxy, client := connect(t, s, apiproxy.Hooks{Before: func(call apiproxy.Call) apiproxy.Fault {
				if call.Number == 1 {
					return test.fault
				}
				return nil
			}})
			_, err := client.Create(t.Context(), configMap(), metav1.CreateOptions{})
			if !test.want(err) {
				t.Errorf("the client gets %v", err)
			}
			proxy.Close()
			if s.served.Load() != test.served {
				t.Errorf("the server has got %d calls instead of %d", s.served.Load(), test.served)
			}
		})
	}
}

// A client has one connection for all its calls, and leaves some of them.
func TestLeavingACallLeavesTheOthers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault apiproxy.Fault // of the watch
		want  func(error) bool
	}{
		"a watch without an answer": {nil, func(err error) bool { return err == nil }},
		"a server that hangs":       {apiproxy.Hang, os.IsTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			came, hold := make(chan struct{}, 2), make(chan struct{})
			proxy, client := connect(t, s, apiproxy.Hooks{Before: func(call apiproxy.Call) apiproxy.Fault {
				came <- struct{}{}
				if call.Class == apiproxy.Watch {
					return test.fault
				}
				<-hold
				return nil
			}})
			defer proxy.Close()
			ctx, leave := context.WithCancel(t.Context())
			go func() {
				_, _ = client.Watch(ctx, metav1.ListOptions{LabelSelector: "a=b"}) // is left
			}()
			<-came
			if test.fault == nil {
				<-s.watched
			}
			created := make(chan error, 1)
			go func() {
				_, err := client.Create(t.Context(), configMap(), metav1.CreateOptions{})
				created <- err
			}()
			<-came
			leave()
			if test.fault == nil {
				<-s.left
			}
			close(hold)
			if err := <-created; !test.want(err) {
				t.Errorf("the other call gets %v", err)
			}
		})
	}
}
