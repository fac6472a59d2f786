package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/internal/app/cli/exit"
	"github.com/squall-chaos/squall/mesh/objects"
)

// apiServer serves METHOD PATHs and forbids everything else. It returns the flags
// that choose it.
func apiServer(t *testing.T, served map[string]string) []string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		answer, known := served[r.Method+" "+r.URL.Path]
		if !known && strings.HasSuffix(r.URL.Path, "/leases/squall-hold") && r.Method == http.MethodGet {
			w.WriteHeader(http.StatusNotFound)
			answer = `{"kind":"Status","apiVersion":"v1","status":"Failure","code":404,"reason":"NotFound","message":"none"}`
		} else if !known {
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
	allVS      = "/apis/networking.istio.io/v1/virtualservices"
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
	if code != exit.Held || seen.Namespace != "shop" || len(seen.Runs) != 1 || !seen.Runs[0].Expired || !seen.Runs[0].Faults[0].Orphaned || len(seen.Unread) != 1 {
		t.Errorf("exit code %d: %s", code, stdout)
	}
	const want = "squall: not permitted: list virtualservices.networking.istio.io in the whole cluster; only namespace shop is listed (-n names another), and other namespaces may have faults on the calls from it\n"
	if stderr != want {
		t.Errorf("stderr %q", stderr)
	}
	code, stdout, stderr = execute(t, inShop, "status", "-n", "shop", "-o", "yaml")
	if code != exit.Held || !strings.Contains(stdout, "run: run-1\n") || stderr != want {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	code, stdout, stderr = execute(t, inShop, "status", "-n", "prod")
	if code != exit.Inconclusive || stdout != "" || !strings.Contains(stderr, "live faults cannot be listed: not permitted: list virtualservices.networking.istio.io in namespace prod,") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
}

func TestRollbackSaysWhatItCannotRemove(t *testing.T) {
	stuck := map[string]string{"GET " + vsInShop: oneFault, "GET " + seInShop: noItems, "GET " + drInShop: noItems, "GET " + jobsInShop: noItems}
	code, stdout, stderr := execute(t, stuck, "rollback", "run-1", "run-2", "-n", "shop", "--timeout", "2s")
	const want = `squall: not permitted: list virtualservices.networking.istio.io in the whole cluster; only namespace shop is listed (-n names another), and other namespaces may have faults on the calls from it
squall: not live: run-2
hint: live runs: run-1
squall: run-1: VirtualService shop/squall-ratings is not deleted yet: delete VirtualService shop/squall-ratings: no; its fault could not be taken out: update VirtualService shop/squall-ratings: no
squall: objects are left; delete them with:
  kubectl -n shop delete virtualservice squall-ratings
squall: cannot tell whether objects are left where list is not permitted
hint: the role squall-reader of deploy/rbac.yaml has the permission for faults; the faults of dead runs expire by themselves
`
	if diff := cmp.Diff(want, stderr); code != exit.Left || stdout != "" || diff != "" {
		t.Errorf("exit code %d: %s%s", code, stdout, diff)
	}
	code, stdout, stderr = execute(t, stuck, "rollback", "--expired", "-n", "shop", "--dry-run")
	if code != exit.Held || stdout != "run-1: would remove VirtualService shop/squall-ratings\n" {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
}

// Where the user may not list objects, something may be left.
func TestRollbackWithoutPermissions(t *testing.T) {
	clean := map[string]string{"GET " + vsInShop: noItems, "GET " + seInShop: noItems, "GET " + drInShop: noItems}
	code, stdout, stderr := execute(t, clean, "rollback", "--all", "--hold", "0", "-n", "shop")
	if code != exit.Left || strings.Contains(stdout, "no live faults") || !strings.Contains(stdout, "other namespaces, which may not be listed, may have faults on the calls from it") || !strings.Contains(stderr, "list jobs.batch in namespace shop; heartbeats there are unknown") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	clean["GET "+jobsInShop] = noItems
	if code, _, _ = execute(t, clean, "rollback", "--all", "--hold", "0", "-n", "shop"); code != exit.Left {
		t.Errorf("exit code %d", code)
	}
	clean["GET "+allVS] = noItems
	for _, which := range []string{"--all", "--expired"} {
		code, stdout, stderr = execute(t, clean, "rollback", which, "--hold", "0", "-n", "shop")
		if code != exit.Held || !strings.HasSuffix(stdout, " faults on the calls from namespace shop or in it\n") || stderr != "" {
			t.Errorf("exit code %d: %s%s", code, stdout, stderr)
		}
	}
}

// rollback --all first holds runs, where the user may.
func TestRollbackHoldsRuns(t *testing.T) {
	const (
		leases = "/apis/coordination.k8s.io/v1/namespaces/%s/leases"
		lease  = `{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"squall-hold"}}`
	)
	in := func(namespace string) string { return fmt.Sprintf("POST "+leases, namespace) }
	listed := map[string]string{}
	for _, resource := range []string{"networking.istio.io/v1/virtualservices", "networking.istio.io/v1/serviceentries", "networking.istio.io/v1/destinationrules", "batch/v1/jobs"} {
		listed["GET /apis/"+resource] = noItems
	}
	for name, test := range map[string]struct {
		permitted, args []string
		code            int
		stdout, stderr  string
	}{
		"everywhere":    {[]string{"istio-system"}, nil, exit.Held, "; release the hold: squall rollback --release -n istio-system\nno live faults\n", ""},
		"what it knows": {[]string{"shop"}, nil, exit.Left, "no run of namespace shop starts until ", "squall: runs of other namespaces are not held: write Lease istio-system/squall-hold: no\n"},
		"nothing":       {nil, nil, exit.Left, "no live faults\n", "squall: runs of other namespaces are not held: "},
		"without":       {nil, []string{"--hold", "0"}, exit.Held, "no live faults\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			served := maps.Clone(listed)
			for _, namespace := range test.permitted {
				served[in(namespace)] = lease
			}
			code, stdout, stderr := execute(t, served, append([]string{"rollback", "--all"}, test.args...)...)
			if code != test.code || !strings.Contains(stdout, test.stdout) || !strings.HasPrefix(stderr, test.stderr) || test.stderr == "" && stderr != "" {
				t.Errorf("exit code %d: %s%s", code, stdout, stderr)
			}
		})
	}
	const held = `{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"squall-hold","uid":"u-1","labels":{"app.kubernetes.io/managed-by":"squall"}}}`
	released := map[string]string{}
	for _, namespace := range []string{"istio-system", "shop"} {
		item := fmt.Sprintf(leases, namespace) + "/squall-hold"
		released["GET "+item], released["DELETE "+item] = held, "{}"
	}
	code, stdout, stderr := execute(t, released, "rollback", "--release")
	if code != exit.Held || stdout != "the hold in namespace istio-system is ended\nthe hold in namespace shop is ended\n" || stderr != "" {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	if code, _, _ := execute(t, released, "rollback", "--release", "--all"); code != exit.Usage {
		t.Errorf("exit code %d", code)
	}
}

// -n also selects the faults on the calls from a namespace that are in another one.
func TestCallersInAnotherNamespace(t *testing.T) {
	elsewhere := strings.NewReplacer(`"namespace":"shop"`, `"namespace":"prod"`).Replace(oneFault)
	served := map[string]string{
		"GET " + allVS: elsewhere, "GET " + vsInShop: noItems, "GET " + seInShop: noItems, "GET " + jobsInShop: noItems,
		"GET /apis/networking.istio.io/v1/serviceentries": noItems, "GET /apis/networking.istio.io/v1/destinationrules": noItems, "GET /apis/networking.istio.io/v1/namespaces/shop/destinationrules": noItems,
		"GET /apis/batch/v1/jobs": noItems,
	}
	code, stdout, stderr := execute(t, served, "status", "-n", "shop")
	if code != exit.Held || !strings.Contains(stdout, "run-1") || stderr != "" {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	code, stdout, _ = execute(t, served, "rollback", "--all", "-n", "shop", "--dry-run")
	if code != exit.Held || stdout != "run-1: would remove VirtualService prod/squall-ratings\n" {
		t.Errorf("exit code %d: %s", code, stdout)
	}
	code, stdout, _ = execute(t, served, "status", "-n", "cart")
	if code != exit.Inconclusive {
		t.Errorf("exit code %d: %s", code, stdout)
	}
}
