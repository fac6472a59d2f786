package manifests

import (
	"path/filepath"
	"slices"

	"gopkg.in/yaml.v3"
)

// kustomizations are the names under which Kustomize looks for its configuration.
var kustomizations = []string{"kustomization.yaml", "kustomization.yml", "Kustomization"} //nolint:gochecknoglobals // a constant list

func isKustomization(name string) bool { return slices.Contains(kustomizations, filepath.Base(name)) }

// patches returns the files that kustomizations among some files use as patches. A
// patch looks like a manifest, but is only a part of an object. A kustomization that
// cannot be read has none.
func (r *reader) patches(files []string) map[string]bool {
	found := map[string]bool{}
	for _, name := range files {
		if !isKustomization(name) {
			continue
		}
		content, err := r.content(name)
		if err != nil {
			continue
		}
		var config struct {
			Patches []struct {
				Path string `yaml:"path"`
			} `yaml:"patches"`
			PatchesJSON []struct {
				Path string `yaml:"path"`
			} `yaml:"patchesJson6902"`
			// Strategic are paths or inline patches.
			Strategic []string `yaml:"patchesStrategicMerge"`
		}
		if yaml.Unmarshal(content, &config) != nil {
			continue
		}
		paths := slices.Clone(config.Strategic)
		for _, patch := range slices.Concat(config.Patches, config.PatchesJSON) {
			paths = append(paths, patch.Path)
		}
		for _, path := range paths {
			if path != "" {
				found[filepath.Join(filepath.Dir(name), path)] = true
			}
		}
	}
	return found
}
