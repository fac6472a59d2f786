// Package yamlerr finds the line in an error of the YAML library, which reports it
// in the message only.
package yamlerr

import (
	"regexp"
	"strconv"
	"strings"
)

var prefix = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// Split returns the line of a syntax error and the rest of the message. The line is
// 0 if the error has none.
func Split(err error) (line int, message string) {
	found := prefix.FindStringSubmatch(err.Error())
	if found == nil {
		return 0, err.Error()
	}
	message = strings.TrimPrefix(err.Error(), found[0])
	if line, err = strconv.Atoi(found[1]); err != nil {
		line = 0
	}
	return line, message
}
