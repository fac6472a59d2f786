package preview

import (
	"strings"
	"testing"

	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/mesh/render"
)

// A host without HTTP has the changes of its connections only, and the version of Istio
// is printed.
func TestDiffOfConnections(t *testing.T) {
	route := func(host string) []map[string]any {
		return []map[string]any{{"route": []any{map[string]any{"destination": map[string]any{"host": host}}}}}
	}
	d := mesh.Decision{
		Host: "db.test", Callers: "shop", Placement: mesh.Plain, Namespace: "shop", Connections: true, Before: route("db.test"), During: route("db.test"),
		Undiverted: render.Connections{TCP: route("db.test")}, Diverted: render.Connections{TCP: route("reject.test"), TLS: route("db.test")},
	}
	var out strings.Builder
	if err := WriteDiff(&out, Preview{Experiment: "x", Decisions: []Decision{{Decision: d, Istio: "1.30.2"}}}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"  istio      1.30.2\n", "  ~ tcp route 1\n", `route[0].destination.host: "db.test" -> "reject.test"`, "  + tls route 1\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
	if strings.Contains(out.String(), "http route") {
		t.Errorf("HTTP routes in\n%s", &out)
	}
}
