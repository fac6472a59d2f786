package flag

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"

	"github.com/spf13/pflag"
	names "k8s.io/apimachinery/pkg/util/validation"

	"github.com/squall-chaos/squall/internal/hint"
	"github.com/squall-chaos/squall/mesh"
	"github.com/squall-chaos/squall/mesh/render"
)

// Placement chooses where objects are created and where blackholes divert to.
type Placement struct {
	// Home is the value of --home-namespace.
	Home      string
	blackhole string
}

// Add adds the flags.
func (p *Placement) Add(flags *pflag.FlagSet) {
	flags.StringVar(&p.Home, "home-namespace", "", "namespace tried first for the temporary objects (default the callers' namespace, then the target's)")
	flags.StringVar(&p.blackhole, "blackhole-address", "", "IP address that never answers, for blackholes with mode drop; or SQUALL_BLACKHOLE_ADDRESS (default "+render.DefaultBlackholeAddress+")")
}

// Options returns the options of a plan. The error is one of usage.
func (p *Placement) Options(getenv func(string) string) (mesh.Options, error) {
	address := cmp.Or(p.blackhole, getenv("SQUALL_BLACKHOLE_ADDRESS"), render.DefaultBlackholeAddress)
	if err := checkBlackhole(address); err != nil {
		return mesh.Options{}, hint.With(fmt.Errorf("--blackhole-address %q %w", address, err), "use an address that never answers, such as "+render.DefaultBlackholeAddress)
	}
	if problems := names.IsDNS1123Label(p.Home); p.Home != "" && len(problems) > 0 {
		return mesh.Options{}, hint.With(fmt.Errorf("--home-namespace %q is not the name of a namespace: %s", p.Home, problems[0]), "kubectl get namespaces lists the namespaces")
	}
	return mesh.Options{HomeNamespace: p.Home, BlackholeAddress: address}, nil
}

// checkBlackhole returns an error for an address that a proxy cannot send calls to, or
// that is in the caller's own pod or network and may answer.
func checkBlackhole(text string) error {
	address, err := netip.ParseAddr(text)
	switch plain := address.Unmap(); {
	case err != nil:
		return errors.New("is not an IP address")
	case address.Zone() != "":
		return errors.New("has a zone, which is a network interface of one machine")
	case plain.IsUnspecified():
		return errors.New("is not the address of a machine")
	case plain == netip.AddrFrom4([4]byte{127, 0, 0, 1}), plain == netip.IPv6Loopback():
		// Callers that are not in a pod may have another loopback address that drops
		// connections, as in the sandbox without sidecars.
		return errors.New("is the caller's own pod, which may answer")
	case plain.IsLinkLocalUnicast():
		return errors.New("is in the network of the caller's node, which may answer")
	case plain.IsMulticast(), plain == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return errors.New("is not the address of one machine")
	default:
		return nil
	}
}
