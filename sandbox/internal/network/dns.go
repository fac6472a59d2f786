package network

import (
	"context"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// ResolvConf is the resolver's configuration of node and pods.
const ResolvConf = "nameserver " + NodeAddress + "\nsearch svc.cluster.local cluster.local\noptions ndots:5\n"

// clusterDomain ends the names of Services.
const clusterDomain = ".svc.cluster.local"

// recordTTL is for how many seconds an answer is valid.
const recordTTL = 1

// Resolver returns the addresses of a host, which has no dot at its end. A name
// without a namespace is one of the client's namespace.
type Resolver func(host string, client netip.Addr) []netip.Addr

// ServeDNS answers questions for addresses until ctx ends.
func ServeDNS(ctx context.Context, resolve Resolver) error {
	conn, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp", net.JoinHostPort(NodeAddress, "53"))
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() }) // ends the loop
	go func() {
		buffer := make([]byte, 1500)
		for {
			n, client, err := conn.ReadFrom(buffer)
			if err != nil {
				return // closed
			}
			from, err := netip.ParseAddrPort(client.String())
			if err != nil {
				continue
			}
			if answer, err := answerTo(buffer[:n], from.Addr().Unmap(), resolve); err == nil {
				_, _ = conn.WriteTo(answer, client) // the client asks again
			}
		}
	}()
	return nil
}

func answerTo(question []byte, client netip.Addr, resolve Resolver) ([]byte, error) {
	var parser dnsmessage.Parser
	header, err := parser.Start(question)
	if err != nil {
		return nil, err
	}
	asked, err := parser.Question()
	if err != nil {
		return nil, err
	}
	host := strings.ToLower(strings.TrimSuffix(asked.Name.String(), "."))
	addresses := resolve(host, client)
	header.Response, header.Authoritative, header.RecursionAvailable = true, true, true
	if len(addresses) == 0 {
		header.RCode = dnsmessage.RCodeNameError
	}
	builder := dnsmessage.NewBuilder(nil, header)
	builder.EnableCompression()
	if err := builder.StartQuestions(); err != nil {
		return nil, err
	}
	if err := builder.Question(asked); err != nil {
		return nil, err
	}
	if err := builder.StartAnswers(); err != nil {
		return nil, err
	}
	for _, address := range addresses {
		if asked.Type != dnsmessage.TypeA || !address.Is4() {
			continue
		}
		resource := dnsmessage.ResourceHeader{Name: asked.Name, Class: dnsmessage.ClassINET, TTL: recordTTL}
		if err := builder.AResource(resource, dnsmessage.AResource{A: address.As4()}); err != nil {
			return nil, err
		}
	}
	return builder.Finish()
}

// ServiceName returns the namespace, the name and the pod that a host of a
// Service names, and reports whether it names one. A host without a namespace is
// one of the client's namespace; pod is empty unless the host names one of a
// headless Service.
func ServiceName(host, clientNamespace string) (namespace, name, pod string, ok bool) {
	labels, isService := strings.CutSuffix(host, clusterDomain)
	if !isService {
		return "", "", "", false
	}
	switch parts := strings.Split(labels, "."); {
	case len(parts) == 1 && clientNamespace != "":
		return clientNamespace, parts[0], "", true
	case len(parts) == 2:
		return parts[1], parts[0], "", true
	case len(parts) == 3:
		return parts[2], parts[1], parts[0], true
	default:
		return "", "", "", false
	}
}
