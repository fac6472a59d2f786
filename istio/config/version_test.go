package config_test

import (
	"testing"

	"github.com/squall-chaos/squall/istio/config"
)

func TestIsKnown(t *testing.T) {
	for version, want := range map[string]bool{
		"1.29.0": true, "1.30.2-distroless": true, "v1.31": true, "1.28.3": false, "1.32.0": false, "1.3.1": false, "latest": true, "": true, "1.299.0": false,
	} {
		if config.IsKnown(version) != want {
			t.Errorf("%q: %v", version, !want)
		}
	}
	if config.Versions() != "1.29 to 1.31" || config.AssumedVersion() != "1.31" {
		t.Error(config.Versions(), config.AssumedVersion())
	}
}
