package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/mesh/objects"
)

// apiServer serves METHOD PATHs and forbids everything else. It returns the flags
// that choose it.
func apiServer(t *testing.T, served map[string]string) []string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		answer, known := served[r.Method+" "+r.URL.Path]
		if !known {
			w.WriteHeader(http.StatusForbidden)
			answer = `{"kind":"Status","apiVersion":"v1","status":"Failure","code":403,"reason":"Forbidden","message":"no"}`
		}
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(server.Close)
	file := filepath.Join(t.TempDir(), "kubeconfig")
	config := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","clusters":[{"name":"c","cluster":{"server":%q}}],"contexts":[{"name":"c","context":{"cluster":"c","namespace":"shop"}}],"current-context":"c"}`, server.URL)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"--kubeconfig", file}
}

const (
	apiGroup = `{"kind":"APIGroup","apiVersion":"v1","name":"networking.istio.io","versions":[{"version":"v1"}]}`
	noItems  = `{"kind":"List","apiVersion":"v1","items":[]}`
	oneFault = `{"kind":"List","apiVersion":"v1","items":[{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","metadata":{"namespace":"shop","name":"squall-ratings","uid":"u-1","creationTimestamp":"2026-01-01T12:00:00Z",
		"labels":{"app.kubernetes.io/managed-by":"squall","squall.dev/run":"run-1"},"annotations":{"squall.dev/host":"ratings","squall.dev/callers":"shop","squall.dev/expires":"2026-01-01T12:01:00Z"}}}]}`
	vsInShop   = "/apis/networking.istio.io/v1/namespaces/shop/virtualservices"
	seInShop   = "/apis/networking.istio.io/v1/namespaces/shop/serviceentries"
	drInShop   = "/apis/networking.istio.io/v1/namespaces/shop/destinationrules"
	jobsInShop = "/apis/batch/v1/namespaces/shop/jobs"
)

// execute runs a command against a scripted API server.
func execute(t *testing.T, served map[string]string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	served["GET /version"], served["GET /apis/networking.istio.io"] = `{"gitVersion":"v1.36.3"}`, apiGroup
	var out, err bytes.Buffer
	code = Main(t.Context(), Env{Args: append(args, apiServer(t, served)...), Stdout: &out, Stderr: &err, Getenv: func(string) string { return "" }})
	return code, out.String(), err.String()
}

// A user who may list one namespace only is notified.
func TestStatusOfOneNamespace(t *testing.T) {
	inShop := map[string]string{"GET " + vsInShop: oneFault, "GET " + seInShop: noItems, "GET " + drInShop: noItems, "GET " + jobsInShop: noItems}
	code, stdout, stderr := execute(t, inShop, "status", "-o", "json")
	var seen struct {
		Namespace string
		Runs      []objects.ActiveRun
		Unread    []string
	}
	if err := json.Unmarshal([]byte(stdout), &seen); err != nil {
		t.Fatal(err)
	}
	if code != exitHeld || seen.Namespace != "shop" || len(seen.Runs) != 1 || !seen.Runs[0].Expired || !seen.Runs[0].Faults[0].Orphaned || len(seen.Unread) != 1 {
		t.Errorf("exit code %d: %s", code, stdout)
	}
	const want = "squall: not permitted: list virtualservices.networking.istio.io in the whole cluster; only namespace shop is listed (-n names another)\n"
	if stderr != want {
		t.Errorf("stderr %q", stderr)
	}
	code, stdout, stderr = execute(t, inShop, "status", "-n", "shop", "-o", "yaml")
	if code != exitHeld || !strings.Contains(stdout, "run: run-1\n") || stderr != "" {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	code, stdout, stderr = execute(t, inShop, "status", "-n", "prod")
	if code != exitInconclusive || stdout != "" || !strings.Contains(stderr, "live faults cannot be listed: not permitted: list virtualservices.networking.istio.io in namespace prod,") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
}

func TestRollbackSaysWhatItCannotRemove(t *testing.T) {
	stuck := map[string]string{"GET " + vsInShop: oneFault, "GET " + seInShop: noItems, "GET " + drInShop: noItems, "GET " + jobsInShop: noItems}
	code, stdout, stderr := execute(t, stuck, "rollback", "run-1", "run-2", "-n", "shop", "--timeout", "2s")
	const want = `squall: not live: run-2
hint: live runs: run-1
squall: run-1: VirtualService shop/squall-ratings is not deleted yet: delete VirtualService shop/squall-ratings: no
squall: objects are left; delete them with:
  kubectl -n shop delete virtualservice squall-ratings
`
	if diff := cmp.Diff(want, stderr); code != exitLeft || stdout != "" || diff != "" {
		t.Errorf("exit code %d: %s%s", code, stdout, diff)
	}
	code, stdout, stderr = execute(t, stuck, "rollback", "--expired", "-n", "shop", "--dry-run")
	if code != exitHeld || stdout != "run-1: would remove VirtualService shop/squall-ratings\n" || stderr != "" {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
}

// Where the user may not list objects, something may be left.
func TestRollbackWithoutPermissions(t *testing.T) {
	clean := map[string]string{"GET " + vsInShop: noItems, "GET " + seInShop: noItems, "GET " + drInShop: noItems}
	code, stdout, stderr := execute(t, clean, "rollback", "--all", "-n", "shop")
	if code != exitLeft || stdout != "no live faults in namespace shop\n" || !strings.Contains(stderr, "list jobs.batch in namespace shop; heartbeats there are unknown") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	clean["GET "+jobsInShop] = noItems
	for _, which := range []string{"--all", "--expired"} {
		code, stdout, stderr = execute(t, clean, "rollback", which, "-n", "shop")
		if code != exitHeld || !strings.HasSuffix(stdout, " faults in namespace shop\n") || stderr != "" {
			t.Errorf("exit code %d: %s%s", code, stdout, stderr)
		}
	}
}
