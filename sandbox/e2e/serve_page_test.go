package e2e_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/sandbox/internal/browser"
)

// alone makes a directory with one experiment, which is started by hand.
func alone(t *testing.T) (folder string) {
	t.Helper()
	folder = t.TempDir()
	put(t, filepath.Join(folder, "soon.yaml"), planned("soon", ratings, ""))
	return folder
}

// wantRecord waits until a run is among the past ones, with a verdict.
func (s *server) wantRecord(run, status string) {
	s.t.Helper()
	eventually(s.t, func() error {
		code, answer, err := s.ask(http.MethodGet, "/api/v1/runs/"+run, "", nil)
		if err != nil || code != http.StatusOK || !strings.Contains(answer, fmt.Sprintf("%q: %q", "status", status)) {
			return fmt.Errorf("the record of %s is not %s: %d, %w", run, status, code, err)
		}
		return nil
	})
}

// The actions of a person: with a wrong token the run is not stopped and an error is
// shown, with the right one it is stopped.
func TestServePageStopsARun(t *testing.T) {
	folder := alone(t)
	put(t, filepath.Join(folder, "broken.yaml"), "spec: [\n")
	s := serve(t, folder, "--api-token-file", tokenFile(t))
	s.post("/api/v1/experiments/soon/run", "")
	run := s.phase("soon", "observe")
	inForce(t, reviews, ratings, true)
	chromium := browser.Start(t)
	looks(t, s, chromium, "live")

	page := chromium.Open(t, s.url, browser.View{})
	page.Click("button.stop")
	page.Type("#token", "wrong horse")
	page.Click("#ask button[value=ok]")
	tells(t, page, "#said", "This is not the token")
	if live := s.status().Live; len(live) != 1 || live[0].Run != run || live[0].Phase != "observe" {
		t.Fatalf("a wrong token has disturbed the run: %+v", live)
	}
	// The browser itself notes the refusal, and nothing else.
	if errors := page.Errors(); len(errors) != 1 || !strings.Contains(errors[0], "401") {
		t.Errorf("errors: %q", errors)
	}
	page.Click("button.stop")
	page.Type("#token", token)
	page.Click("#ask button[value=ok]")
	tells(t, page, "#said", "stopping")
	inForce(t, reviews, ratings, false)
	nothingLeft(t)
	s.wantRecord(run, "interrupted")
	tells(t, page, "#main", "interrupted")
	if errors := page.Errors(); len(errors) != 1 {
		t.Errorf("errors: %q", errors)
	}
	looks(t, s, chromium, "over")
}

// tells waits until an element of the page says something.
func tells(t *testing.T, page *browser.Page, selector, want string) {
	t.Helper()
	eventually(t, func() error {
		var text string
		if page.Eval(fmt.Sprintf("document.querySelector(%q).textContent", selector), &text); !strings.Contains(text, want) {
			return fmt.Errorf("the page does not say %q but %q", want, strings.Join(strings.Fields(text), " "))
		}
		return nil
	})
}

// looks demands of the page in each look that nothing is wrong with it.
func looks(t *testing.T, s *server, chromium *browser.Browser, name string) {
	t.Helper()
	for look, view := range map[string]browser.View{"light": {}, "dark": {Dark: true}, "narrow": {Width: 360}} {
		page := chromium.Open(t, s.url, view)
		page.Screenshot(filepath.Join(t.ArtifactDir(), name+"-"+look+".png"))
		if diff := cmp.Diff([]string(nil), page.Axe()); diff != "" {
			t.Errorf("%s, %s: axe-core (-want +got):\n%s", name, look, diff)
		}
		if diff := cmp.Diff([]string(nil), page.Errors()); diff != "" {
			t.Errorf("%s, %s: errors (-want +got):\n%s", name, look, diff)
		}
		var wide bool
		if page.Eval(`document.documentElement.scrollWidth > innerWidth`, &wide); wide {
			t.Errorf("%s, %s: the page scrolls sideways", name, look)
		}
	}
}

// Without a token file the page has no actions.
func TestServePageReadsOnly(t *testing.T) {
	s := serve(t, alone(t))
	page := browser.Start(t).Open(t, s.url, browser.View{})
	tells(t, page, "#main", "soon")
	var buttons int
	if page.Eval(`document.querySelectorAll("#main button").length`, &buttons); buttons != 0 {
		t.Errorf("%d buttons", buttons)
	}
	for _, path := range []string{"/api/v1/experiments/soon/run", "/api/v1/pause", "/api/v1/runs/any/stop"} {
		code, answer, err := s.ask(http.MethodPost, path, token, nil)
		if err != nil || code != http.StatusForbidden || !strings.Contains(answer, "--api-token-file") {
			t.Errorf("POST %s: %d, %v: %s", path, code, err, answer)
		}
	}
	if live := s.status().Live; len(live) > 0 {
		t.Errorf("live: %+v", live)
	}
	if errors := page.Errors(); len(errors) > 0 {
		t.Errorf("errors: %q", errors)
	}
}

// The page renews itself, and keeps the focus and the scroll position.
func TestServePageKeepsItsReadersPlace(t *testing.T) {
	s := serve(t, alone(t), "--api-token-file", tokenFile(t))
	page := browser.Start(t).Open(t, s.url, browser.View{Width: 360})
	tells(t, page, "#main", "soon")
	const table, button = `document.querySelector("[aria-label=Experiments]")`, `document.querySelector("[data-post$=pause]")`
	var before, after float64
	if page.Eval(fmt.Sprintf(`{ const t = %s; t.scrollLeft = 40; t.scrollLeft }`, table), &before); before == 0 {
		t.Fatal("the table fits into a narrow page, so nothing is shown")
	}
	for _, element := range []string{table, button} {
		var focused bool
		page.Eval(fmt.Sprintf(`{ const e = %s; e.dataset.old = "yes"; e.focus(); document.activeElement === e }`, element), &focused)
		if !focused {
			t.Fatalf("%s takes no focus", element)
		}
		page.WaitFor(fmt.Sprintf(`!%s.dataset.old`, element))
		if page.Eval("document.activeElement === "+element, &focused); !focused {
			t.Errorf("%s has lost the focus", element)
		}
		if page.Eval(table+".scrollLeft", &after); after != before {
			t.Errorf("the table was scrolled by %g and is scrolled by %g", before, after)
		}
	}
	if errors := page.Errors(); len(errors) > 0 {
		t.Errorf("errors: %q", errors)
	}
}

// Clients that are slow, greedy or many do not disturb a run, and leave nothing
// behind.
func TestServeWithstandsItsClients(t *testing.T) {
	s := serve(t, alone(t), "--api-token-file", tokenFile(t))
	s.post("/api/v1/experiments/soon/run", "")
	run := s.phase("soon", "observe")
	before, _ := s.metric("go_goroutines")

	// Clients that say half of a request.
	const slow = 300
	for range slow {
		connection, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = connection.Close() }) // the server has closed it
		if _, err := io.WriteString(connection, "POST /api/v1/pause HTTP/1.1\r\nHost: x\r\nAuthorization: Bea"); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, func() error {
		if now, _ := s.metric("go_goroutines"); now < before+slow {
			return fmt.Errorf("%g goroutines: the slow clients have not come", now)
		}
		return nil
	})
	body := strings.Repeat(" ", 1<<20) + "{}"
	if code, answer, err := s.ask(http.MethodPost, "/api/v1/pause", token, strings.NewReader(body)); err == nil && code != http.StatusRequestEntityTooLarge {
		t.Errorf("a body of a megabyte: %d: %s", code, answer)
	}
	// Of a header that is too large the server reads no more than it must.
	if code, _, err := s.ask(http.MethodPost, "/api/v1/pause", strings.Repeat("x", 1<<20), nil); err == nil && code != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a token of a megabyte: %d", code)
	}
	for _, path := range []string{"/runs/..%2f..%2fetc%2fpasswd/report.html", "/runs/" + run + "/../../starts.json", "/api/v1/runs/%00"} {
		if code, _, err := s.ask(http.MethodGet, path, "", nil); err != nil || code != http.StatusNotFound {
			t.Errorf("GET %s: %d, %v", path, code, err)
		}
	}
	if live := s.status().Live; len(live) != 1 || live[0].Run != run || live[0].Phase != "observe" {
		t.Fatalf("the run was disturbed: %+v", live)
	}
	if paused, _ := s.metric("squall_paused"); paused != 0 {
		t.Error("the schedules are paused")
	}
	inForce(t, reviews, ratings, true)

	// All stop the same run: it stops once.
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			code, answer, err := s.ask(http.MethodPost, "/api/v1/runs/"+run+"/stop", token, nil)
			if err != nil || code != http.StatusOK && code != http.StatusNotFound {
				t.Errorf("stop: %d, %v: %s", code, err, answer)
			}
		})
	}
	all.Wait()
	inForce(t, reviews, ratings, false)
	nothingLeft(t)
	s.wantRecord(run, "interrupted")
	if finished := strings.Count(s.stderr.String(), "msg=finished run="+run); finished != 1 {
		t.Errorf("the run has ended %d times", finished)
	}
	http.DefaultClient.CloseIdleConnections()
	// A slow client has 5 s.
	eventually(t, func() error {
		if now, _ := s.metric("go_goroutines"); now > before {
			return fmt.Errorf("%g goroutines instead of at most %g", now, before)
		}
		return nil
	})
}
