package output

import (
	"io"

	"github.com/squall-chaos/squall/mesh/objects"
)

// Left prints the commands that delete what is left.
func Left(w io.Writer, left []objects.Left) {
	Line(w, "squall: objects are left; delete them with:")
	for _, one := range left {
		Line(w, "  %s", one.Removal())
	}
}
