package experiments

import (
	"fmt"
	"slices"
	"strconv"

	"gopkg.in/yaml.v3"

	"github.com/squall-chaos/squall/experiments/strictyaml"
)

// GRPCStatus is the name of a gRPC status, as Istio writes it.
type GRPCStatus string

// grpcStatuses are the names by their numbers. They are those that Istio translates
// (istio.io/istio/pkg/util/grpc, SupportedGRPCStatus).
var grpcStatuses = []GRPCStatus{ //nolint:gochecknoglobals // a constant list
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED",
	"FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

// GRPCErrors returns the statuses that an abort may have, in the order of their
// numbers: all but OK, with which an aborted call would succeed.
func GRPCErrors() []GRPCStatus { return slices.Clone(grpcStatuses[1:]) }

// NumberedGRPCStatus returns the status of a number written as text. ok is false if
// gRPC has no error status of the number.
func NumberedGRPCStatus(text string) (status GRPCStatus, ok bool) {
	number, err := strconv.Atoi(text)
	if err != nil || number < 1 || number >= len(grpcStatuses) {
		return "", false
	}
	return grpcStatuses[number], true
}

// DecodeNode implements strictyaml.NodeDecoder.
func (s *GRPCStatus) DecodeNode(l *strictyaml.Decoder, node *yaml.Node, path string) {
	if node.Kind == yaml.ScalarNode && node.Tag == "!!str" {
		*s = GRPCStatus(node.Value)
		return
	}
	remedy := "write UNAVAILABLE, for example"
	if named, ok := NumberedGRPCStatus(node.Value); ok && node.Kind == yaml.ScalarNode {
		remedy = fmt.Sprintf("write %s", named)
	}
	l.Report(path, fmt.Sprintf("want the name of a gRPC status, found %s", strictyaml.Describe(node)), remedy)
}
