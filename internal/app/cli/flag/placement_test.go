package flag

import (
	"testing"

	"github.com/spf13/pflag"
)

// An address that may answer is not a blackhole.
func TestBlackholeAddress(t *testing.T) {
	noVariable := func(string) string { return "" }
	for address, want := range map[string]bool{
		"":                 true,
		"192.0.2.7":        true,
		"10.255.255.1":     true,
		"2001:db8::1":      true,
		"nowhere.example":  false,
		"127.0.0.1":        false,
		"127.8.8.8":        true,
		"::1":              false,
		"::ffff:127.0.0.1": false,
		"0.0.0.0":          false,
		"::":               false,
		"169.254.169.254":  false,
		"fe80::1":          false,
		"fe80::1%eth0":     false,
		"2001:db8::1%eth0": false,
		"224.0.0.1":        false,
		"ff02::1":          false,
		"255.255.255.255":  false,
	} {
		var placement Placement
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		placement.Add(flags)
		if err := flags.Parse([]string{"--blackhole-address", address}); err != nil {
			t.Fatal(err)
		}
		if _, err := placement.Options(noVariable); (err == nil) != want {
			t.Errorf("--blackhole-address %q: %v", address, err)
		}
		fromVariable := func(string) string { return address }
		if _, err := new(Placement).Options(fromVariable); (err == nil) != want {
			t.Errorf("SQUALL_BLACKHOLE_ADDRESS=%q: %v", address, err)
		}
	}
}
