// Package browser opens pages in a headless Chromium, for tests of the view of a person:
// errors, requests, layout, and the findings of axe-core about accessibility.
//
// The browser sends no requests except for its pages; [Page.Requests] has them.
package browser

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// timeout is generous: the machine may be busy.
const timeout = 30 * time.Second

// Browser is a running Chromium.
type Browser struct{ ctx context.Context } //nolint:containedctx // chromedp keeps the browser in it

// View is how a page is looked at. The zero value is light, 1000 pixels wide, and
// on a screen.
type View struct {
	Width    int
	Dark     bool
	Print    bool
	NoScript bool
}

// Start starts a Chromium that ends with the test. Its profile is new, in a temporary
// directory.
func Start(t testing.TB) *Browser {
	t.Helper()
	// Cleanups run when the test's own context is over, and they close the browser.
	ctx, stop := chromedp.NewExecAllocator(
		context.WithoutCancel(t.Context()),
		chromedp.ExecPath(executable(t)),
		chromedp.UserDataDir(filepath.Join(t.TempDir(), "chromium")),
		chromedp.Headless,
		chromedp.NoSandbox,
		chromedp.DisableGPU,
		chromedp.NoFirstRun,
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.WSURLReadTimeout(timeout),
	)
	t.Cleanup(stop)
	// The library logs messages of newer protocols that it cannot parse.
	quiet := func(string, ...any) {}
	ctx, _ = chromedp.NewContext(ctx, chromedp.WithErrorf(quiet)) // Cancel, below, ends it and waits
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Errorf("close the browser: %v", err)
		}
	})
	if err := chromedp.Run(ctx); err != nil {
		t.Fatalf("start Chromium: %v", err)
	}
	return &Browser{ctx}
}

// executable finds Chromium by the names that systems give it.
func executable(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("no Chromium on the PATH; tools/pages/setup.sh installs it, or says how")
	return ""
}

// NodeModules returns the directory of the tests' npm packages.
func NodeModules(t testing.TB) string {
	t.Helper()
	const folder = "tools/pages/node_modules"
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, folder)); err == nil {
			return filepath.Join(dir, folder)
		}
	}
	t.Fatalf("%s is missing; run: make %[1]s", folder)
	return ""
}

// Open opens a page in a new tab, and waits until it is loaded.
func (b *Browser) Open(t testing.TB, url string, view View) *Page {
	t.Helper()
	ctx, closeTab := chromedp.NewContext(b.ctx)
	t.Cleanup(closeTab)
	p := &Page{t: t, ctx: ctx}
	chromedp.ListenTarget(ctx, p.listen)
	scheme, media := "light", "screen"
	if view.Dark {
		scheme = "dark"
	}
	if view.Print {
		media = "print"
	}
	if view.Width == 0 {
		view.Width = 1000
	}
	// A tab lives as long as the context that it is opened with: not one that ends
	// in time.
	if err := chromedp.Run(ctx); err != nil {
		t.Fatalf("open a tab: %v", err)
	}
	p.run(
		log.Enable(), network.Enable(),
		chromedp.EmulateViewport(int64(view.Width), 800),
		emulation.SetEmulatedMedia().WithMedia(media).WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}),
		emulation.SetScriptExecutionDisabled(view.NoScript),
		chromedp.Navigate(url),
	)
	return p
}
