package cli

import (
	"github.com/spf13/pflag"

	"github.com/squall-chaos/squall/mesh/objects"
)

// heartbeatFlags choose the heartbeat Job of a run.
type heartbeatFlags struct {
	mode  heartbeatMode
	image string
}

// heartbeatMode is the value of --heartbeat.
type heartbeatMode string

// The modes of the heartbeat.
const (
	heartbeatOn  heartbeatMode = "on"
	heartbeatOff heartbeatMode = "off"
)

func (h *heartbeatFlags) add(flags *pflag.FlagSet) {
	h.mode = heartbeatOn
	addChoice(flags, &h.mode, "heartbeat", "", "whether a Job in the cluster removes the fault if Squall dies", heartbeatOn, heartbeatOff)
	addHeartbeatImage(flags, &h.image)
}

// addHeartbeatImage adds the flag --heartbeat-image.
func addHeartbeatImage(flags *pflag.FlagSet, image *string) {
	flags.StringVar(image, "heartbeat-image", objects.HeartbeatImage, "image in the heartbeat Job, for policies that allow some images only; the Job creates no pod")
}
