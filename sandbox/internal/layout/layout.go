// Package layout says where everything of a sandbox is: the addresses that its
// processes listen on, and the files in its directory.
package layout

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"syscall"
)

// The addresses. They are below the range from which the kernel takes ports for
// outgoing connections, so that only another program's listener can have them.
const (
	EtcdClient        = "127.0.0.1:12379"
	EtcdPeer          = "127.0.0.1:12380"
	APIServer         = "127.0.0.1:16443"
	ControllerManager = "127.0.0.1:20257"
	IstiodHTTP        = "127.0.0.1:18080"
	IstiodXDS         = "127.0.0.1:15010"
	IstiodMonitoring  = "127.0.0.1:15014"
	Prometheus        = "127.0.0.1:19090"
	ProductPage       = "127.0.0.10:9080"
	ReviewsV1         = "127.0.0.11:9080"
	ReviewsV2         = "127.0.0.12:9080"
	Ratings           = "127.0.0.13:9080"
	Details           = "127.0.0.14:9080"
	// Blackhole accepts connections and never answers.
	Blackhole = "127.0.0.66:9080"
)

// Addresses of a sandbox with sidecars, in its own network.
const (
	// Kubelet serves the metrics of all pods.
	Kubelet = "127.0.0.1:10250"
	// IstiodSecure is where proxies get their configuration and certificates.
	IstiodSecure = "10.77.0.1:15012"
	// IstiodFromPods is where pods ask istiod for configuration in plain text.
	IstiodFromPods = "10.77.0.1:15010"
	// ProxylessMetricsPort is where an application in a pod without Envoy serves
	// its metrics; pilot-agent has Istio's port there.
	ProxylessMetricsPort = "9464"
	// AccessLog is the file in a proxy's working directory that Envoy logs to.
	AccessLog = "access.log"
	// ControlSocket is the file in the sandbox's directory through which it
	// takes commands.
	ControlSocket = "control.sock"
)

// MetricsPort is where each workload serves its metrics, on its own address;
// Istio's sidecars use the same.
const MetricsPort = "15020"

// Metrics returns the address of the metrics of the workload at an IP address.
func Metrics(ip string) string { return net.JoinHostPort(ip, MetricsPort) }

// Listener is an address and the part that listens on it.
type Listener struct{ Owner, Address string }

// ControlPlane lists the addresses of everything but the workloads.
func ControlPlane() []Listener {
	return []Listener{
		{Owner: "etcd", Address: EtcdClient},
		{Owner: "etcd", Address: EtcdPeer},
		{Owner: "kube-apiserver", Address: APIServer},
		{Owner: "kube-controller-manager", Address: ControllerManager},
		{Owner: "istiod", Address: IstiodHTTP},
		{Owner: "istiod", Address: IstiodXDS},
		{Owner: "istiod", Address: IstiodMonitoring},
		{Owner: "prometheus", Address: Prometheus},
		{Owner: "the blackhole", Address: Blackhole},
	}
}

// CheckFree returns an error that lists the addresses that are taken.
func CheckFree(listeners []Listener) error {
	var taken []error
	for _, l := range listeners {
		listener, err := net.Listen("tcp", l.Address) //nolint:noctx // binding does not wait
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			taken = append(taken, fmt.Errorf("%s, which %s needs, is taken by another program", l.Address, l.Owner))
		case err != nil:
			taken = append(taken, fmt.Errorf("%s, which %s needs: %w", l.Address, l.Owner, err))
		default:
			taken = append(taken, listener.Close())
		}
	}
	return errors.Join(taken...)
}

// Dir is the directory of a sandbox.
type Dir string

// Kubeconfig is the file with the contexts sandbox (administrator) and
// restricted (a user without any permission).
func (d Dir) Kubeconfig() string { return d.Path("kubeconfig") }

// NodeKubeconfig is the same for the sandbox's own network.
func (d Dir) NodeKubeconfig() string { return d.Path("node.kubeconfig") }

// Env is a shell script of exports.
func (d Dir) Env() string { return d.Path("env") }

// Lock is held by the sandbox that runs in the directory, and contains its pid.
func (d Dir) Lock() string { return d.Path("lock") }

// Control is the socket through which the sandbox takes commands.
func (d Dir) Control() string { return d.Path(ControlSocket) }

// AuditLog is the API server's record of every write.
func (d Dir) AuditLog() string { return d.Path("logs", "audit.log") }

// Log is the output of one process.
func (d Dir) Log(name string) string { return d.Path("logs", name+".log") }

// Path returns the path of a file in the directory.
func (d Dir) Path(elements ...string) string {
	return filepath.Join(append([]string{string(d)}, elements...)...)
}
