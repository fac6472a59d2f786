package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/squall-chaos/squall/istio/config"
)

// configMap returns the ConfigMap istio-system/istio with a MeshConfig.
func configMap(text string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"metadata": map[string]any{"namespace": "istio-system", "name": "istio"}, "data": map[string]any{"mesh": text},
	}}
}

func TestApply(t *testing.T) {
	for _, test := range []struct {
		name, text    string
		rootNamespace string
		exportTo      []string
		problem       string
	}{
		{name: "nothing", rootNamespace: "istio-system"},
		{name: "others", text: "accessLogFile: /dev/stdout\n", rootNamespace: "istio-system"},
		{name: "both", text: "rootNamespace: istio-config\ndefaultVirtualServiceExportTo: ['.']\n", rootNamespace: "istio-config", exportTo: []string{"."}},
		{name: "no mapping", text: "a list of words", rootNamespace: "istio-system", problem: "ConfigMap istio-system/istio does not hold a MeshConfig"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := config.Defaults()
			err := s.Apply(configMap(test.text))
			if test.problem == "" && err != nil || test.problem != "" && (err == nil || !strings.Contains(err.Error(), test.problem)) {
				t.Fatalf("%v instead of %q", err, test.problem)
			}
			if s.RootNamespace != test.rootNamespace || s.ClusterDomain != "cluster.local" {
				t.Errorf("%s, %s", s.RootNamespace, s.ClusterDomain)
			}
			if diff := cmp.Diff(test.exportTo, s.DefaultExportTo); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The settings that decide how long a caller waits for a connection.
func TestApplyDurations(t *testing.T) {
	s := config.Defaults()
	text := "connectTimeout: 5s\ndefaultConfig: {drainDuration: 5s}\ndefaultHttpRetryPolicy: {attempts: 0}\ndefaultDestinationRuleExportTo: ['.']\n"
	if err := s.Apply(configMap(text)); err != nil {
		t.Fatal(err)
	}
	if s.ConnectTimeout != 5*time.Second || s.DrainDuration != 5*time.Second || s.Retries != 0 || len(s.DefaultRuleExportTo) != 1 {
		t.Errorf("%+v", s)
	}
	s = config.Defaults()
	if s.ConnectTimeout != 10*time.Second || s.DrainDuration != 45*time.Second || s.Retries != 2 {
		t.Errorf("defaults %+v", s)
	}
}
