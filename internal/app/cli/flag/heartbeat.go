package flag

import (
	"github.com/spf13/pflag"

	"github.com/squall-chaos/squall/mesh/objects"
)

// Heartbeat chooses the heartbeat Job of a run.
type Heartbeat struct {
	mode heartbeatMode
	// Image is the value of --heartbeat-image.
	Image string
}

// heartbeatMode is the value of --heartbeat.
type heartbeatMode string

// The modes of the heartbeat.
const (
	heartbeatOn  heartbeatMode = "on"
	heartbeatOff heartbeatMode = "off"
)

// Add adds the flags.
func (h *Heartbeat) Add(flags *pflag.FlagSet) {
	h.mode = heartbeatOn
	Choice(flags, &h.mode, "heartbeat", "", "whether a Job in the cluster removes the fault if Squall dies", heartbeatOn, heartbeatOff)
	HeartbeatImage(flags, &h.Image)
}

// HeartbeatImage adds the flag --heartbeat-image.
func HeartbeatImage(flags *pflag.FlagSet, image *string) {
	flags.StringVar(image, "heartbeat-image", objects.HeartbeatImage, "image in the heartbeat Job, for policies that allow some images only; the Job creates no pod")
}

// Off reports whether there is no heartbeat.
func (h *Heartbeat) Off() bool { return h.mode == heartbeatOff }
