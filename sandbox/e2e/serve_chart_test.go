package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// request sends a request to the API of a server, and decodes the answer.
func request(t *testing.T, method, url, token string, answer any) error {
	t.Helper()
	asking, err := http.NewRequestWithContext(t.Context(), method, url, http.NoBody)
	if err != nil {
		return err
	}
	if token != "" {
		asking.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultClient.Do(asking)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // read only
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s", method, url, response.Status)
	}
	return json.NewDecoder(response.Body).Decode(answer)
}

// deployedArgs returns the arguments of the chart's container, with what is
// elsewhere on this machine replaced.
func deployedArgs(t *testing.T, release string, replaced map[string]string, values ...string) []string {
	t.Helper()
	for _, o := range charted(t, release, values...) {
		if o.GetKind() != "Deployment" {
			continue
		}
		containers, _, err := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
		if err != nil || len(containers) != 1 {
			t.Fatalf("%d containers: %v", len(containers), err)
		}
		args, _, err := unstructured.NestedStringSlice(containers[0].(map[string]any), "args")
		if err != nil {
			t.Fatal(err)
		}
		for i, arg := range args {
			name, _, _ := strings.Cut(arg, "=")
			if to, is := replaced[name]; is {
				args[i] = to
				delete(replaced, name)
			}
		}
		if len(replaced) > 0 {
			t.Fatalf("%v do not have %v", args, replaced)
		}
		return args
	}
	t.Fatal("the chart has no Deployment")
	return nil
}

// squall serve does its work with exactly what the chart grants and says: it is
// elected, notes its starts, runs an experiment, writes Events, and ends.
func TestChartServes(t *testing.T) {
	const release = "chart-serves"
	a := chartAccount(t, release, chartValues("listed"))
	folder := t.TempDir()
	content, err := os.ReadFile(spec{duration: "2s", more: "effect: {minRequests: 1}"}.write(t))
	if err != nil {
		t.Fatal(err)
	}
	token := filepath.Join(t.TempDir(), "token")
	if err := errors.Join(os.WriteFile(filepath.Join(folder, "test.yaml"), content, 0o600), os.WriteFile(token, []byte("s3cret\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	const address = "127.0.0.1:18099"
	s := prepare(t, a.as(append(deployedArgs(t, release, map[string]string{
		"/etc/squall/experiments": folder, "--listen": "--listen=" + address, "--out": "--out=" + t.TempDir(),
	}, chartValues("listed")), "--api-token-file="+token)...)...)
	s.cmd.Env = append(s.cmd.Env, "POD_NAMESPACE="+release, "POD_IP=127.0.0.1")
	s.start()
	var started struct{ Run string }
	eventually(t, func() error {
		return request(t, http.MethodPost, "http://"+address+"/api/v1/experiments/test/run", "s3cret", &started)
	})
	eventually(t, func() error {
		var past struct {
			Runs []struct{ Run, Status, Verdict, Reason string }
		}
		if err := request(t, http.MethodGet, "http://"+address+"/api/v1/runs", "", &past); err != nil {
			return err
		}
		if len(past.Runs) != 1 || past.Runs[0].Run != started.Run || past.Runs[0].Verdict != "held" {
			return fmt.Errorf("runs %+v instead of %s", past.Runs, started.Run)
		}
		return nil
	})
	events := schema.GroupVersionResource{Version: "v1", Resource: "events"}
	eventually(t, func() error {
		list, err := mesh.Kube.Resource(events).Namespace("shop").List(t.Context(), metav1.ListOptions{FieldSelector: "source=squall"})
		if err != nil {
			return err
		}
		reasons := map[string]bool{}
		for _, event := range list.Items {
			reason, _, _ := unstructured.NestedString(event.Object, "reason")
			reasons[reason] = true
		}
		if !reasons["FaultStarted"] || !reasons["ExperimentFinished"] {
			return fmt.Errorf("events %v", reasons)
		}
		return nil
	})
	leases := schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"}
	for _, name := range []string{"squall", "squall-starts"} {
		if _, err := mesh.Kube.Resource(leases).Namespace(release).Get(t.Context(), name, metav1.GetOptions{}); err != nil {
			t.Error(err)
		}
	}
	s.signal(syscall.SIGTERM)
	s.exits(0)
	if strings.Contains(s.stderr.String(), "level=ERROR") || strings.Contains(s.stderr.String(), "level=WARN") || strings.Contains(s.stderr.String(), `"level":"WARN"`) || strings.Contains(s.stderr.String(), `"level":"ERROR"`) {
		t.Error("the log complains")
	}
}
