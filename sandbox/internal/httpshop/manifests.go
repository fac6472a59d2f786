// Package httpshop is the shop of a sandbox with sidecars: a product page that
// calls reviews and details over HTTP, reviews that call ratings, a checkout
// that calls a gRPC service, a TCP service and a host outside of the mesh, a
// warehouse that calls the gRPC service without a sidecar, and a load generator.
// Except for the warehouse the applications know nothing of the mesh.
package httpshop

import (
	"bytes"
	_ "embed"
	"text/template"
)

//go:embed shop.yaml
var objects []byte

//go:embed gateway.yaml
var gateway []byte

// Alerts are the alerting rules of the shop.
//
//go:embed alerts.yaml
var Alerts []byte

// workload is a Deployment with one pod and a ServiceAccount.
type workload struct {
	Namespace, Name, App, Version string
	// Args run the application; empty for a pod that only waits.
	Args string
	// Ports are the container's ports.
	Ports []int
	// Region is the value of the label region, if the pod has one.
	Region string
	// Gateway is the value of the label istio if the pod is a gateway.
	Gateway string
	// Template is the injection template, if it is not the namespace's.
	Template string
}

func workloads(gateways bool) []workload {
	list := []workload{
		{Namespace: "prod", Name: "ratings-v1", App: "ratings", Version: "v1", Args: "[ratings]", Ports: []int{9080}},
		{Namespace: "prod", Name: "details-v1", App: "details", Version: "v1", Args: "[details]", Ports: []int{9080}},
		{Namespace: "prod", Name: "stock-v1", App: "stock", Version: "v1", Args: "[stock]", Ports: []int{9090}},
		{Namespace: "prod", Name: "ledger-v1", App: "ledger", Version: "v1", Args: "[ledger]", Ports: []int{7070}},
		{Namespace: "shop", Name: "reviews-v1", App: "reviews", Version: "v1", Region: "eu-west-1", Args: "[reviews]", Ports: []int{9080}},
		{Namespace: "shop", Name: "reviews-v2", App: "reviews", Version: "v2", Args: "[reviews]", Ports: []int{9080}},
		{Namespace: "shop", Name: "reviews-v3", App: "reviews", Version: "v3", Args: "[reviews]", Ports: []int{9080}},
		{Namespace: "shop", Name: "productpage-v1", App: "productpage", Version: "v1", Args: "[productpage]", Ports: []int{9080}},
		{Namespace: "shop", Name: "checkout-v1", App: "checkout", Version: "v1", Args: "[checkout]"},
		{Namespace: "shop", Name: "warehouse-v1", App: "warehouse", Version: "v1", Args: "[warehouse]", Template: "grpc-agent"},
		{Namespace: "shop", Name: "other", App: "other", Version: "v1"},
		{Namespace: "shop", Name: "loadgenerator", App: "loadgenerator", Version: "v1", Args: "[load]"},
		{Namespace: "outside", Name: "payments", App: "payments", Version: "v1", Args: "[payments]", Ports: []int{8080, 8443}},
	}
	if gateways {
		list = append(list,
			workload{Namespace: "istio-ingress", Name: "istio-ingressgateway", App: "istio-ingressgateway", Version: "v1", Gateway: "ingressgateway", Template: "gateway"},
			workload{Namespace: "istio-egress", Name: "istio-egressgateway", App: "istio-egressgateway", Version: "v1", Gateway: "egressgateway", Template: "gateway"})
	}
	return list
}

// Pods returns how many pods the shop has.
func Pods(gateways bool) int { return len(workloads(gateways)) }

//nolint:gochecknoglobals // a constant template
var deployment = template.Must(template.New("deployment").Parse(`---
apiVersion: v1
kind: ServiceAccount
metadata: {name: {{.App}}, namespace: {{.Namespace}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{.Name}}, namespace: {{.Namespace}}, labels: {app: {{.App}}, version: {{.Version}}}}
spec:
  replicas: 1
  selector: {matchLabels: {app: {{.App}}, version: {{.Version}}}}
  template:
    metadata:
      labels: {app: {{.App}}, version: {{.Version}}{{with .Region}}, region: {{.}}{{end}}{{with .Gateway}}, istio: {{.}}{{end}}}
      {{- with .Template}}
      annotations: {inject.istio.io/templates: {{.}}}
      {{- end}}
    spec:
      nodeName: sandbox
      serviceAccountName: {{.App}}
      containers:
      - name: {{.App}}
        image: sandbox/app
        {{- with .Args}}
        args: {{.}}
        {{- end}}
        {{- with .Ports}}
        ports: [{{range $i, $port := .}}{{if $i}}, {{end}}{containerPort: {{$port}}}{{end}}]
        {{- end}}
`))

// Manifests returns the objects of the shop.
func Manifests(gateways bool) ([]byte, error) {
	buffer := bytes.NewBuffer(bytes.Clone(objects))
	if gateways {
		buffer.Write(gateway)
	}
	for _, w := range workloads(gateways) {
		if err := deployment.Execute(buffer, w); err != nil {
			return nil, err
		}
	}
	return buffer.Bytes(), nil
}
