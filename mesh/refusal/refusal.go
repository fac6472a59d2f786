// Package refusal has the causes for which a plan refuses to place a fault. Each
// has a page in docs/refusals.
package refusal

import "fmt"

// Cause is the kind of a refusal, and the name of its page in docs/refusals.
type Cause string

// The causes of refusals.
const (
	UnknownHost        Cause = "unknown-host"        // the registry has no entry for the host
	NoCallers          Cause = "no-callers"          // the experiment names no callers, and none were found
	NoNamespace        Cause = "no-namespace"        // the callers' namespace does not exist
	Ambient            Cause = "ambient"             // the callers have no sidecars: their namespace is ambient
	GatewayCallers     Cause = "gateway-callers"     // the pods of a gateway are named as callers with sidecars
	NoGateway          Cause = "no-gateway"          // no Gateway selects the pods that are named
	GatewayOrder       Cause = "gateway-order"       // several Gateways have routes for one host
	GatewayConnections Cause = "gateway-connections" // the gateway passes connections on as they are
	IngressWaypoint    Cause = "ingress-waypoint"    // the gateway sends the target's requests to a waypoint
	GatewayAPIRoute    Cause = "gateway-api-route"   // a route of the Gateway API routes the calls
	LiveRun            Cause = "live-run"            // a run already disturbs the same calls
	NoSuchPort         Cause = "no-such-port"        // the target does not have the port
	UnknownPorts       Cause = "unknown-ports"       // the target has no port that the callers can see
	NotHTTP            Cause = "not-http"            // an abort, a delay or a match on requests needs HTTP
	ExternalName       Cause = "external-name"       // the target is an alias of another host
	NotVisible         Cause = "not-visible"         // the host is not exported to the callers
	NotImported        Cause = "not-imported"        // the callers' Sidecar does not import the host
	ControlPlane       Cause = "control-plane"       // it is not known which control plane configures the callers
	ClusterDomain      Cause = "cluster-domain"      // the cluster domain is not known
	OtherRevision      Cause = "other-revision"      // the effective VirtualService is for another revision of the control plane
	PrivateBase        Cause = "private-base"        // the effective VirtualService is private to the callers' namespace
	PrivateConnections Cause = "private-connections" // TCP or TLS routes are private to the callers' namespace
	NoPlacement        Cause = "no-placement"        // no namespace is imported, permitted and takes precedence
	UnknownAge         Cause = "unknown-age"         // the older of two objects is effective, and their ages are not known
	RoutesForSome      Cause = "routes-for-some"     // the effective VirtualService has routes for some of the callers only
	WildcardForOthers  Cause = "wildcard-for-others" // an object for the exact host would replace a wildcard for other proxies
	DifferentRoutes    Cause = "different-routes"    // the callers do not use the same routes
	OtherServerNames   Cause = "other-server-names"  // a TLS port serves other server names too
	SharedListener     Cause = "shared-listener"     // proxies cannot tell the target's connections from those to other hosts
	OtherNames         Cause = "other-names"         // calls by another name of the target have other routes
	Affinity           Cause = "affinity"            // a consistent hash of one port would be lost
	NothingToCarry     Cause = "nothing-to-carry"    // no route both forwards the requests and meets the match
	ExistingFault      Cause = "existing-fault"      // a route already has a fault of the same kind
	Inexpressible      Cause = "inexpressible"       // no match of Istio selects exactly the requests
	UnroundWeights     Cause = "unround-weights"     // weights and percentage have no common denominator that Istio can hold
)

// Error is why a fault cannot be placed for some callers.
type Error struct {
	Cause  Cause
	Reason string
	// NextStep is what would help; it may be empty.
	NextStep string
}

func (e *Error) Error() string { return e.Reason }

// Hint returns what would help.
func (e *Error) Hint() string { return e.NextStep }

// New returns an *Error with a formatted reason.
func New(cause Cause, nextStep, format string, args ...any) error {
	return &Error{Cause: cause, Reason: fmt.Sprintf(format, args...), NextStep: nextStep}
}
