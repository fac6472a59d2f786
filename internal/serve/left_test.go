package serve

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Whoever ends the process hears of what its last runs could not remove.
func TestWhatIsLeftAtTheEnd(t *testing.T) {
	for name, end := range map[string]func(*process){"the cluster answers": func(r *process) { r.stop() }, "it does not": (*process).kill} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.write("a.yaml", written("outage", "duration: 10s", "duration: 40s"))
				r := w.lead("a")
				time.Sleep(70 * time.Second)
				if len(w.injections("outage")) != 1 {
					t.Fatalf("injections %+v", w.injections("outage"))
				}
				end(r)
				if left := r.Left(); (len(left) > 0) != (name == "it does not") {
					t.Errorf("left: %v", left)
				}
			})
		})
	}
}

// A replica is ready when it knows the experiments and who leads.
func TestReady(t *testing.T) {
	web, handler := site(t)
	check := func(when string, code int, says string) {
		t.Helper()
		if got := request(t, handler, http.MethodGet, "/readyz", ""); got.Code != code || !strings.Contains(got.Body.String(), says) {
			t.Errorf("%s: %d %s", when, got.Code, got.Body)
		}
	}
	check("nobody leads", http.StatusServiceUnavailable, "no replica leads")
	web.Server.Observed("other")
	check("another leads", http.StatusOK, "ok")
	must(t, os.RemoveAll(web.Server.Folder.path))
	web.Server.reload()
	check("the folder is gone", http.StatusServiceUnavailable, "the experiments cannot be read")
}
