// Package network builds the pod network of a sandbox: a bridge in the node's
// network namespace, and for each pod a network namespace that is connected to
// the bridge. Nothing has a name outside of the process, so the kernel removes
// all of it when the processes end.
package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// The addresses of the pod network. Each sandbox has its own network, so all
// of them use the same addresses.
const (
	// NodeAddress is the address of the node on the bridge.
	NodeAddress = "10.77.0.1"
	// firstPod is the address of the first pod.
	firstPod = "10.77.1.1"
	// prefixLength is the length of the network's prefix.
	prefixLength = 16

	bridgeName = "pods"
	podDevice  = "eth0"
)

// Node is the node's side of the pod network.
type Node struct {
	bridge netlink.Link
	next   netip.Addr
	count  int
}

// NewNode creates the bridge in the network namespace of the process, which
// must be one that was made for the sandbox.
func NewNode() (*Node, error) {
	if err := up("lo"); err != nil {
		return nil, err
	}
	// A bridge without a hardware address takes the lowest one of its
	// ports, and changes it when pods come and go.
	attributes := netlink.NewLinkAttrs()
	attributes.Name, attributes.HardwareAddr = bridgeName, net.HardwareAddr{0x02, 0x73, 0x71, 0x75, 0x00, 0x01}
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attributes}); err != nil {
		return nil, fmt.Errorf("create bridge: %w", err)
	}
	bridge, err := netlink.LinkByName(bridgeName)
	if err != nil {
		return nil, fmt.Errorf("bridge: %w", err)
	}
	if err := addAddress(nil, bridge, netip.MustParseAddr(NodeAddress)); err != nil {
		return nil, err
	}
	return &Node{bridge: bridge, next: netip.MustParseAddr(firstPod)}, up(bridgeName)
}

func up(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("network device %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set up network device %s: %w", name, err)
	}
	return nil
}

// addAddress adds an address in a namespace, or in the current one if handle
// is nil.
func addAddress(handle *netlink.Handle, link netlink.Link, ip netip.Addr) error {
	address := &netlink.Addr{IPNet: &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(prefixLength, ip.BitLen())}}
	add := netlink.AddrAdd
	if handle != nil {
		add = handle.AddrAdd
	}
	if err := add(link, address); err != nil {
		return fmt.Errorf("add address %s: %w", ip, err)
	}
	return nil
}

// Namespace is the network namespace of a pod. It exists until it is closed
// and no process is left in it.
type Namespace struct {
	// IP is the address of the pod.
	IP     netip.Addr
	handle netns.NsHandle
}

// NewPod creates a network namespace with an address on the bridge. It must not
// be called by two goroutines at the same time.
func (n *Node) NewPod() (*Namespace, error) {
	handle, err := newNamespace()
	if err != nil {
		return nil, fmt.Errorf("create network namespace: %w", err)
	}
	ns := &Namespace{IP: n.next, handle: handle}
	n.next = n.next.Next()
	n.count++
	if err := errors.Join(n.connect(ns), ns.configure()); err != nil {
		return nil, errors.Join(err, ns.Close())
	}
	return ns, nil
}

// newNamespace creates a network namespace on a thread that ends with it.
func newNamespace() (netns.NsHandle, error) {
	type result struct {
		handle netns.NsHandle
		err    error
	}
	results := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the runtime ends the thread
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			results <- result{err: err}
			return
		}
		handle, err := netns.GetFromPath("/proc/thread-self/ns/net")
		results <- result{handle: handle, err: err}
	}()
	r := <-results
	return r.handle, r.err
}

// connect creates the pair of devices between the bridge and the pod.
func (n *Node) connect(ns *Namespace) error {
	attributes := netlink.NewLinkAttrs()
	attributes.Name, attributes.MasterIndex = fmt.Sprintf("pod%d", n.count), n.bridge.Attrs().Index
	pair := &netlink.Veth{LinkAttrs: attributes, PeerName: podDevice, PeerNamespace: netlink.NsFd(ns.handle)}
	if err := netlink.LinkAdd(pair); err != nil {
		return fmt.Errorf("connect pod %s to the bridge: %w", ns.IP, err)
	}
	return up(attributes.Name)
}

// configure sets the address of the pod and its default route.
func (ns *Namespace) configure() error {
	handle, err := netlink.NewHandleAt(ns.handle)
	if err != nil {
		return fmt.Errorf("network of pod %s: %w", ns.IP, err)
	}
	defer handle.Close()
	for _, name := range []string{"lo", podDevice} {
		link, err := handle.LinkByName(name)
		if err != nil {
			return fmt.Errorf("network device %s of pod %s: %w", name, ns.IP, err)
		}
		if name == podDevice {
			if err := addAddress(handle, link, ns.IP); err != nil {
				return err
			}
		}
		if err := handle.LinkSetUp(link); err != nil {
			return fmt.Errorf("set up network device %s of pod %s: %w", name, ns.IP, err)
		}
	}
	// The node forwards nothing, so what is sent there is lost without an answer.
	if err := handle.RouteAdd(&netlink.Route{Gw: net.ParseIP(NodeAddress)}); err != nil {
		return fmt.Errorf("default route of pod %s: %w", ns.IP, err)
	}
	return nil
}

// Do calls f on a thread in the namespace. A process that f starts is in the
// namespace too.
func (ns *Namespace) Do(f func() error) error {
	results := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the runtime ends the thread
		if err := netns.Set(ns.handle); err != nil {
			results <- fmt.Errorf("enter the network of pod %s: %w", ns.IP, err)
			return
		}
		results <- f()
	}()
	return <-results
}

// Close releases the namespace.
func (ns *Namespace) Close() error { return ns.handle.Close() }

// Isolate makes the mounts of the process private, and mounts what its network
// and process namespaces need: /proc, and the resolver's configuration. The
// process must have a mount namespace that was made for the sandbox.
func Isolate(resolvConf string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	for _, target := range []string{"/etc/resolv.conf"} {
		if _, err := os.Stat(target); err != nil {
			return fmt.Errorf("the resolver's configuration: %w", err)
		}
		if err := unix.Mount(resolvConf, target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s: %w", target, err)
		}
	}
	return nil
}
