package event

// Type implements Event.
func (Started) Type() string { return "started" }
func (Started) sealed()      {}

// Type implements Event.
func (Planned) Type() string { return "planned" }
func (Planned) sealed()      {}

// Type implements Event.
func (Phase) Type() string { return "phase" }
func (Phase) sealed()      {}

// Type implements Event.
func (Measured) Type() string { return "measured" }
func (Measured) sealed()      {}

// Type implements Event.
func (Creating) Type() string { return "creating" }
func (Creating) sealed()      {}

// Type implements Event.
func (Created) Type() string { return "created" }
func (Created) sealed()      {}

// Type implements Event.
func (Updating) Type() string { return "updating" }
func (Updating) sealed()      {}

// Type implements Event.
func (Updated) Type() string { return "updated" }
func (Updated) sealed()      {}

// Type implements Event.
func (UpdateFailed) Type() string { return "update-failed" }
func (UpdateFailed) sealed()      {}

// Type implements Event.
func (Deleting) Type() string { return "deleting" }
func (Deleting) sealed()      {}

// Type implements Event.
func (Deleted) Type() string { return "deleted" }
func (Deleted) sealed()      {}

// Type implements Event.
func (HeartbeatFailed) Type() string { return "heartbeat" }
func (HeartbeatFailed) sealed()      {}

// Type implements Event.
func (Counted) Type() string { return "counted" }
func (Counted) sealed()      {}

// Type implements Event.
func (Effect) Type() string { return "effect" }
func (Effect) sealed()      {}

// Type implements Event.
func (Clean) Type() string { return "clean" }
func (Clean) sealed()      {}

// Type implements Event.
func (Finished) Type() string { return "finished" }
func (Finished) sealed()      {}
