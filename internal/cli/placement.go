package cli

import (
	"cmp"

	"github.com/spf13/pflag"

	"github.com/squall-chaos/squall/mesh"
)

// placementFlags are the user's wishes for where objects stand and where
// dropped connections go.
type placementFlags struct {
	home      string
	blackhole string
}

func (p *placementFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&p.home, "home-namespace", "", "namespace for the temporary objects, where that takes precedence (default the callers', then the target's)")
	flags.StringVar(&p.blackhole, "blackhole-address", "", "address that never answers, for blackholes that drop (or SQUALL_BLACKHOLE_ADDRESS; default "+mesh.DefaultBlackholeAddress+")")
}

func (p *placementFlags) options(env Env) mesh.Options {
	return mesh.Options{
		HomeNamespace:    p.home,
		BlackholeAddress: cmp.Or(p.blackhole, env.Getenv("SQUALL_BLACKHOLE_ADDRESS"), mesh.DefaultBlackholeAddress),
	}
}
