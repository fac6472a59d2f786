package config

import (
	"strings"
	"time"
)

// ServiceManifest is the manifest of a Kubernetes Service, without the fields that do not matter here.
type ServiceManifest struct {
	Metadata struct {
		Namespace   string            `json:"namespace"`
		Name        string            `json:"name"`
		Labels      map[string]string `json:"labels"`
		Annotations map[string]string `json:"annotations"`
		Created     time.Time         `json:"creationTimestamp"`
	} `json:"metadata"`
	Spec struct {
		Type         string            `json:"type"`
		ExternalName string            `json:"externalName"`
		Selector     map[string]string `json:"selector"`
		Ports        []struct {
			Name        string `json:"name"`
			Port        int64  `json:"port"`
			Protocol    string `json:"protocol"`
			AppProtocol string `json:"appProtocol"`
		} `json:"ports"`
	} `json:"spec"`
}

// Service returns the parts of the manifest that a Snapshot holds.
func (s ServiceManifest) Service() Service {
	service := Service{Namespace: s.Metadata.Namespace, Name: s.Metadata.Name, Labels: s.Metadata.Labels, Created: s.Metadata.Created, Selector: s.Spec.Selector}
	if exportTo := s.Metadata.Annotations[exportToAnnotation]; exportTo != "" {
		for namespace := range strings.SplitSeq(exportTo, ",") {
			service.ExportTo = append(service.ExportTo, strings.TrimSpace(namespace))
		}
	}
	if s.Spec.Type == "ExternalName" {
		service.ExternalName = s.Spec.ExternalName
	}
	for _, port := range s.Spec.Ports {
		service.Ports = append(service.Ports, Port{Number: port.Port, Name: port.Name, Declared: port.Protocol, AppProtocol: port.AppProtocol, OfService: true})
	}
	return service
}

// exportToAnnotation is the exportTo of a Service.
const exportToAnnotation = "networking.istio.io/exportTo"
