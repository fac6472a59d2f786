package notify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
)

// Grafana is the server in whose dashboards the times of faults are marked.
type Grafana struct {
	// URL is the URL of its start page.
	URL string
	// TokenFile has the token of a service account. It is read for each request, so
	// that the token may change. If it is empty, no token is sent.
	TokenFile string
}

// annotator keeps one annotation for each run.
type annotator struct {
	Grafana
	client *http.Client
	api    *url.URL
	// open has the ids of the annotations of live runs, by run.
	open map[string]int64
}

// maxOpen limits open, because the end of a run may be lost. It is far more than
// the number of live runs.
const maxOpen = 1000

// annotation is the body of a request; omitted fields are not changed.
type annotation struct {
	Time    int64    `json:"time,omitempty"`
	TimeEnd int64    `json:"timeEnd,omitempty"`
	Tags    []string `json:"tags"`
	Text    string   `json:"text"`
}

func newAnnotator(g Grafana, client *http.Client) (name string, a *annotator, err error) {
	u, err := url.Parse(g.URL)
	if err != nil {
		return "", nil, errors.New("this is not the URL of a Grafana server")
	}
	if err := checkHTTP(u); err != nil {
		return "", nil, fmt.Errorf("the URL of Grafana: %w", err)
	}
	a = &annotator{Grafana: g, client: client, api: u.JoinPath("api", "annotations"), open: map[string]int64{}}
	if _, err := a.token(); err != nil {
		return "", nil, err
	}
	return "grafana://" + u.Host, a, nil
}

func (a *annotator) token() (string, error) {
	if a.TokenFile == "" {
		return "", nil
	}
	data, err := os.ReadFile(a.TokenFile)
	if err != nil {
		return "", &failure{text: "the token of Grafana: " + err.Error()}
	}
	token := strings.TrimSpace(string(data))
	if token == "" {
		return "", &failure{text: "the token of Grafana: " + a.TokenFile + " is empty"}
	}
	return token, nil
}

func (a *annotator) send(ctx context.Context, m *message) error {
	switch m.Kind {
	case Started:
		return a.begin(ctx, m)
	case Finished:
		return a.end(ctx, m)
	case Stopped: // the end follows
	}
	return nil
}

func (a *annotator) begin(ctx context.Context, m *message) error {
	id, err := a.create(ctx, annotation{Time: m.at.UnixMilli(), Tags: m.tags(), Text: m.text()})
	if err != nil {
		return err
	}
	if len(a.open) >= maxOpen {
		clear(a.open)
	}
	a.open[m.Run] = id
	return nil
}

// end changes the annotation to a region with the time of the fault, if there was
// one.
func (a *annotator) end(ctx context.Context, m *message) error {
	region := annotation{Tags: m.tags(), Text: m.text()}
	if !m.From.IsZero() {
		to := m.To
		if to.IsZero() {
			to = m.at
		}
		region.Time, region.TimeEnd = m.From.UnixMilli(), to.UnixMilli()
	}
	id, ok := a.open[m.Run]
	if ok {
		err := a.change(ctx, id, region)
		var f *failure
		if !errors.As(err, &f) || !f.final {
			if err == nil {
				delete(a.open, m.Run)
			}
			return err
		}
		// It was deleted, or the token permits creating but not changing it.
		delete(a.open, m.Run)
	}
	if m.From.IsZero() {
		return nil
	}
	_, err := a.create(ctx, region)
	return err
}

func (a *annotator) create(ctx context.Context, content annotation) (int64, error) {
	token, err := a.token()
	if err != nil {
		return 0, err
	}
	var created struct {
		ID int64 `json:"id"`
	}
	if err := call(ctx, a.client, http.MethodPost, a.api.String(), token, content, &created); err != nil {
		return 0, err
	}
	if created.ID == 0 {
		return 0, &failure{text: "its answer has no annotation", final: true}
	}
	return created.ID, nil
}

func (a *annotator) change(ctx context.Context, id int64, content annotation) error {
	token, err := a.token()
	if err != nil {
		return err
	}
	return call(ctx, a.client, http.MethodPatch, a.api.JoinPath(strconv.FormatInt(id, 10)).String(), token, content, nil)
}

// tags returns the tags for queries of dashboards. No tag is specific to one run,
// because Grafana stores every tag.
func (m *message) tags() []string {
	tags := []string{"squall", "experiment:" + m.Experiment, "host:" + m.Host}
	if m.Verdict != "" {
		tags = append(tags, "verdict:"+m.Verdict)
	}
	return tags
}
