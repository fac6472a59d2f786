// Package sim is a simulator of Squall: its tests run the real runner, scheduler,
// leader election and kill switch against models of everything around them, and
// check what Squall promises after every event.
package sim
