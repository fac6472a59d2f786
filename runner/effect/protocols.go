package effect

import (
	"github.com/squall-chaos/squall/istio/telemetry"
)

// caller is a workload that calls a host.
type caller struct{ namespace, workload, host string }

func callerOf(labels map[string]string) caller {
	return caller{namespace: labels[telemetry.LabelSourceNamespace], workload: labels[telemetry.LabelSourceWorkload], host: labels[telemetry.LabelDestination]}
}

// protocols are the protocols that callers use, by their requests that no fault has
// aborted: Envoy reports an aborted request as HTTP, whatever it is.
type protocols struct {
	grpc, others map[caller]bool
	// answered is the number of requests of each caller that an abort with a gRPC
	// status has answered with the HTTP status 200.
	answered map[caller]float64
}

func newProtocols() protocols {
	return protocols{grpc: map[caller]bool{}, others: map[caller]bool{}, answered: map[caller]float64{}}
}

// see adds the callers of a reading.
func (p protocols) see(now Reading) {
	for _, c := range now.Counters {
		if telemetry.HasFlag(c.labels[telemetry.LabelResponseFlags], telemetry.FlagAborted) {
			continue
		}
		switch c.labels[telemetry.LabelProtocol] {
		case "":
		case telemetry.ProtocolGRPC:
			p.grpc[callerOf(c.labels)] = true
		default:
			p.others[callerOf(c.labels)] = true
		}
	}
}

// add adds requests that an abort with a gRPC status has hit.
func (p protocols) add(g Growth) {
	if g.labels[telemetry.LabelResponseCode] == "200" && telemetry.HasFlag(g.labels[telemetry.LabelResponseFlags], telemetry.FlagAborted) {
		p.answered[callerOf(g.labels)] += g.Amount
	}
}

// answeredOK returns the number of requests that got 200 OK for an abort with a gRPC
// status. It counts callers of which all other requests are not gRPC.
func (p protocols) answeredOK() float64 {
	sum := 0.0
	for who, count := range p.answered {
		if p.others[who] && !p.grpc[who] {
			sum += count
		}
	}
	return sum
}
