// Package library holds ready-made experiments.
package library

import "embed"

// Files are the experiment files.
//
//go:embed *.yaml
var Files embed.FS
