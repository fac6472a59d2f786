package pages_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/squall-chaos/squall/sandbox/internal/browser"
)

// bad has one of each problem that a test must detect.
const bad = `<!DOCTYPE html><html><head><title>bad</title><meta http-equiv="Content-Security-Policy" content="img-src 'none'">
<style>p { color: #ccc; background: #fff } @media (prefers-color-scheme: dark) { h1::after { content: "dark" } } @media print { h1 { display: none } }</style></head>
<body><h1>hello</h1><p>pale</p><button onclick="document.querySelector('p').innerText = document.querySelector('input').value">go</button><input aria-label="word">
<noscript>no script</noscript><script src="/script.js"></script><img src="http://127.0.0.1:1/x.png" alt=""></body></html>`

func serve(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/":
			fmt.Fprint(w, bad)
		case "/script.js":
			fmt.Fprint(w, `console.error("broken", 7); console.log("fine"); throw new Error("thrown")`)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL + "/"
}

func TestAPageTellsEverything(t *testing.T) {
	url := serve(t)
	page := browser.Start(t).Open(t, url, browser.View{})
	page.Type("input", "changed")
	page.Click("button")
	page.WaitFor(`document.querySelector("p").innerText === "changed"`)
	if text := page.Text("p"); text != "changed" {
		t.Errorf("text %q", text)
	}
	seen := strings.Join(page.Errors(), "\n")
	for _, want := range []string{`error: "broken" 7`, "thrown", "Content Security Policy"} {
		if !strings.Contains(seen, want) {
			t.Errorf("no %q in %s", want, seen)
		}
	}
	if strings.Contains(seen, "fine") {
		t.Errorf("not an error: %s", seen)
	}
	if diff := cmp.Diff([]string{url, url + "script.js"}, page.Requests()[:2]); diff != "" {
		t.Error(diff)
	}
	found := strings.Join(page.Axe(), "\n")
	for _, want := range []string{"color-contrast: ", "html-has-lang: "} {
		if !strings.Contains(found, want) {
			t.Errorf("no %q in %s", want, found)
		}
	}
}

func TestViews(t *testing.T) {
	url, chromium := serve(t), browser.Start(t)
	for name, tc := range map[string]struct {
		view       browser.View
		expression string
	}{
		"light":     {browser.View{}, `innerWidth === 1000 && matchMedia("(prefers-color-scheme: light)").matches && matchMedia("screen").matches`},
		"dark":      {browser.View{Dark: true}, `matchMedia("(prefers-color-scheme: dark)").matches`},
		"narrow":    {browser.View{Width: 360}, `innerWidth === 360`},
		"print":     {browser.View{Print: true}, `matchMedia("print").matches`},
		"no script": {browser.View{NoScript: true}, `document.body.innerText.includes("no script")`},
	} {
		t.Run(name, func(t *testing.T) {
			page := chromium.Open(t, url, tc.view)
			var is bool
			if page.Eval(tc.expression, &is); !is {
				t.Errorf("not so: %s", tc.expression)
			}
			file := filepath.Join(t.ArtifactDir(), "page.png")
			page.Screenshot(file)
			if picture, err := os.ReadFile(file); err != nil || !strings.HasPrefix(string(picture), "\x89PNG") {
				t.Errorf("no picture: %v", err)
			}
		})
	}
}
