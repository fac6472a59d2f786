package browser

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// Page is an open page. An error of the browser fails the test.
type Page struct {
	t   testing.TB
	ctx context.Context //nolint:containedctx // chromedp keeps the tab in it

	mu       sync.Mutex
	errors   []string
	requests []string
}

// listen notes what a person would see in the developer tools.
func (p *Page) listen(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		p.requests = append(p.requests, e.Request.URL)
	case *runtime.EventExceptionThrown:
		p.errors = append(p.errors, e.ExceptionDetails.Error())
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.APITypeError || e.Type == runtime.APITypeWarning || e.Type == runtime.APITypeAssert {
			p.errors = append(p.errors, said(e))
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.LevelError || e.Entry.Level == log.LevelWarning {
			p.errors = append(p.errors, fmt.Sprintf("%s: %s %s", e.Entry.Level, e.Entry.Text, e.Entry.URL))
		}
	}
}

// said returns what a script has written to the console.
func said(e *runtime.EventConsoleAPICalled) string {
	words := []string{string(e.Type) + ":"}
	for _, argument := range e.Args {
		if argument.Description != "" {
			words = append(words, argument.Description)
		} else {
			words = append(words, string(argument.Value))
		}
	}
	return strings.Join(words, " ")
}

// Errors returns the errors and warnings so far: exceptions, what scripts wrote to
// the console, and what the browser refused to load.
func (p *Page) Errors() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.errors)
}

// Requests returns the addresses that the page has asked for so far, its own first.
func (p *Page) Requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.requests)
}

// Click clicks in the middle of the first element that a selector matches, when it is
// visible. Like a person it clicks at a position: a page may put another element there
// at any time.
func (p *Page) Click(selector string) {
	p.t.Helper()
	element := fmt.Sprintf("document.querySelector(%q)", selector)
	p.WaitFor(element + "?.checkVisibility()")
	var at struct{ X, Y, Width, Height float64 }
	p.Eval(fmt.Sprintf(`{ const e = %s; e.scrollIntoView({block: "center"}); e.getBoundingClientRect().toJSON() }`, element), &at)
	p.run(chromedp.MouseClickXY(at.X+at.Width/2, at.Y+at.Height/2))
}

// Type types into a field as soon as it is visible.
func (p *Page) Type(selector, text string) {
	p.t.Helper()
	p.run(chromedp.SendKeys(selector, text, chromedp.ByQuery, chromedp.NodeVisible))
}

// WaitFor waits until a JavaScript expression is true.
func (p *Page) WaitFor(expression string) {
	p.t.Helper()
	const pause = 50 * time.Millisecond // by default it asks at each frame, and a hidden tab has none
	p.run(chromedp.Poll(expression, nil, chromedp.WithPollingInterval(pause), chromedp.WithPollingTimeout(timeout)))
}

// Text returns the visible text of an element.
func (p *Page) Text(selector string) string {
	p.t.Helper()
	var text string
	p.run(chromedp.Text(selector, &text, chromedp.ByQuery))
	return text
}

// Eval puts the value of a JavaScript expression into a variable.
func (p *Page) Eval(expression string, value any) {
	p.t.Helper()
	p.run(chromedp.Evaluate(expression, value))
}

// Screenshot writes a picture of the whole page as PNG.
func (p *Page) Screenshot(file string) {
	p.t.Helper()
	var picture []byte
	// A tab behind another one may draw nothing for ever.
	p.run(page.BringToFront(), chromedp.FullScreenshot(&picture, 100))
	if err := os.WriteFile(file, picture, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// Axe runs every default rule of axe-core and returns its findings, one line for each
// element.
func (p *Page) Axe() []string {
	p.t.Helper()
	source, err := os.ReadFile(filepath.Join(NodeModules(p.t), "axe-core", "axe.min.js"))
	if err != nil {
		p.t.Fatal(err)
	}
	var found struct {
		Rules      int
		Violations []struct {
			ID, Help string
			Nodes    []struct{ HTML, FailureSummary string }
		}
	}
	p.run(
		chromedp.Evaluate(string(source)+"; 0", nil),
		chromedp.Evaluate(`axe.run(document).then(r => ({Rules: r.passes.length + r.violations.length, Violations: r.violations}))`, &found, awaited),
	)
	if found.Rules == 0 {
		p.t.Fatal("axe-core has checked nothing")
	}
	var lines []string
	for _, violation := range found.Violations {
		for _, node := range violation.Nodes {
			lines = append(lines, fmt.Sprintf("%s: %s: %s: %s", violation.ID, violation.Help, node.HTML, strings.Join(strings.Fields(node.FailureSummary), " ")))
		}
	}
	return lines
}

func awaited(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }

// run has the browser do something, in bounded time.
func (p *Page) run(actions ...chromedp.Action) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, timeout)
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		p.t.Fatalf("browser: %v", err)
	}
}
