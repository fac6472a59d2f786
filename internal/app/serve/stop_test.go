package serve

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/squall-chaos/squall/internal/app/metrics"
	"github.com/squall-chaos/squall/mesh"
)

// Whoever stops a run that is not live is told about the run.
func TestStopOfARunThatIsNotLive(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("t0k3n\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	telling := metrics.New("test")
	server := New(Config{
		Folder: NewFolder(t.TempDir()), Metrics: telling, Log: slog.New(slog.DiscardHandler),
		Look: func(context.Context) ([]mesh.ActiveRun, error) { return []mesh.ActiveRun{{ID: "another"}}, nil },
		Remove: func(context.Context, []mesh.ActiveRun, string) error {
			t.Error("another run is removed")
			return nil
		},
	})
	page := httptest.NewServer((&Web{Server: server, Metrics: telling.Handler(), TokenFile: token}).handler())
	defer page.Close()
	code, body, _ := ask(t, http.MethodPost, page.URL+"/api/v1/runs/20261122-193148-outage-1ffc37/stop")
	if code != http.StatusNotFound || !strings.Contains(body, "no such run is live") {
		t.Errorf("%d %s", code, body)
	}
}
