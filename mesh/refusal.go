package mesh

import "fmt"

// Cause is the kind of a refusal. Each has a page of its name in docs/refusals.
type Cause string

// The causes of refusals.
const (
	UnknownHost        Cause = "unknown-host"        // the mesh knows no such host
	NoCallers          Cause = "no-callers"          // the experiment names no callers, and none are known
	NoNamespace        Cause = "no-namespace"        // a namespace of callers does not exist
	Ambient            Cause = "ambient"             // the callers have no sidecars: their namespace is ambient
	Waypoint           Cause = "waypoint"            // the calls go through a waypoint
	GatewayAPIRoute    Cause = "gateway-api-route"   // a route of the Gateway API is in force
	LiveRun            Cause = "live-run"            // a run disturbs the same calls already
	NoSuchPort         Cause = "no-such-port"        // the target does not have the port
	UnknownPorts       Cause = "unknown-ports"       // the target has no port that the callers can see
	NotHTTP            Cause = "not-http"            // an abort, a delay or a match on requests, for connections
	ExternalName       Cause = "external-name"       // the target is only another name for a host
	NotVisible         Cause = "not-visible"         // the host is not exported to the callers
	NotImported        Cause = "not-imported"        // the callers' Sidecar does not import the host
	OtherRevision      Cause = "other-revision"      // the object in force is for another control-plane revision
	PrivateBase        Cause = "private-base"        // the object in force is private to the callers' namespace
	PrivateConnections Cause = "private-connections" // so are rules for connections
	NoPlacement        Cause = "no-placement"        // no namespace is imported, permitted and takes precedence
	RoutesForSome      Cause = "routes-for-some"     // the object in force has routes for some of the callers only
	WildcardForOthers  Cause = "wildcard-for-others" // a new exact host would take a wildcard away from others
	DifferentRoutes    Cause = "different-routes"    // the callers do not take the same routes
	OtherServerNames   Cause = "other-server-names"  // other server names of a TLS port
	NothingToCarry     Cause = "nothing-to-carry"    // no route both forwards the requests and meets the match
	ExistingFault      Cause = "existing-fault"      // a route has a fault of the same kind already
	Inexpressible      Cause = "inexpressible"       // Istio has no match for the requests that both conditions mean
	UnroundWeights     Cause = "unround-weights"     // weights and percentage have no common terms
)

// Causes lists all causes of refusals.
func Causes() []Cause {
	return []Cause{
		ExternalName, UnknownHost, NoCallers, NoNamespace, Ambient, Waypoint, GatewayAPIRoute, LiveRun, NoSuchPort,
		UnknownPorts, NotHTTP, NotVisible, NotImported, OtherRevision, PrivateBase, PrivateConnections, NoPlacement,
		RoutesForSome, WildcardForOthers, DifferentRoutes, OtherServerNames, NothingToCarry, ExistingFault, Inexpressible, UnroundWeights,
	}
}

// refusal is why a fault cannot be brought to some callers, and what would
// help.
type refusal struct {
	cause        Cause
	reason, hint string
}

func (r refusal) Error() string { return r.reason }

func refuse(cause Cause, hint, format string, args ...any) error {
	return refusal{cause, fmt.Sprintf(format, args...), hint}
}

// LiveRunHint says what to do about a run that disturbs the same calls.
func LiveRunHint(run string) string {
	return "wait until it has ended, or end it: squall rollback " + run
}
