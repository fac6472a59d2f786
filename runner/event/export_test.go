package event

// All returns the zero value of each type of event, in the order in which a run
// usually records them.
func All() []Event {
	all := make([]Event, len(registry))
	for i, one := range registry {
		all[i] = one.zero
	}
	return all
}
