package cli

import (
	"fmt"

	"github.com/spf13/pflag"

	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/mesh"
)

// heartbeatFlags say what ends a fault whose runner has died.
type heartbeatFlags struct {
	mode  string
	image string
}

// The modes of the heartbeat.
const (
	heartbeatOn  = "on"
	heartbeatOff = "off"
)

func (h *heartbeatFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&h.mode, "heartbeat", heartbeatOn, "on, or off for clusters that permit no Job: then nothing removes the fault when Squall dies, and the report says so")
	flags.StringVar(&h.image, "heartbeat-image", mesh.HeartbeatImage, "image that the heartbeat Job names, for policies that permit some only; no pod is ever made of it")
}

func (h *heartbeatFlags) check() error {
	if h.mode != heartbeatOn && h.mode != heartbeatOff {
		return hint.With(fmt.Errorf("--heartbeat=%s is not known", h.mode), "on or off")
	}
	return nil
}
