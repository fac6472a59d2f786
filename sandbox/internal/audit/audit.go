// Package audit reads the API server's audit log of every write, and finds writes of
// Squall to objects of others.
package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
)

// Policy is the API server's audit policy: every write, with its body. Questions about
// permissions are not writes.
const Policy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  resources: [{group: authorization.k8s.io}]
- level: Request
  verbs: [create, update, patch, delete, deletecollection]
`

const (
	label = "app.kubernetes.io/managed-by"
	ours  = "squall"
)

// isSquall reports whether a user agent is the squall binary.
func isSquall(agent string) bool { return strings.HasPrefix(agent, "squall/") }

// event is the part of a record that counts here.
type event struct {
	Verb       string `json:"verb"`
	RequestURI string `json:"requestURI"`
	UserAgent  string `json:"userAgent"`
	// Received is when the API server got the request.
	Received time.Time `json:"requestReceivedTimestamp"`
	Object   struct {
		Resource    string `json:"resource"`
		Namespace   string `json:"namespace"`
		Name        string `json:"name"`
		Subresource string `json:"subresource"`
	} `json:"objectRef"`
	Request struct {
		Metadata struct {
			Name   string            `json:"name"`
			Labels map[string]string `json:"labels"`
		} `json:"metadata"`
	} `json:"requestObject"`
	Response struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
}

// unread reports whether the API server has refused a create of which it has
// not got everything, as it comes from a client that is killed.
func (e event) unread() bool {
	return e.Request.Metadata.Name == "" && e.Response.Code >= http.StatusBadRequest
}

// Summary counts the writes of Squall that were not dry runs.
type Summary struct {
	Creates, Patches, Deletes int
}

// Check reads an audit log and fails when Squall has written an object that it
// did not make: when it created one without its label, or changed or deleted one
// that it has not created. A log without any write of Squall's proves nothing,
// and fails as well.
func Check(log string) (Summary, error) {
	file, err := os.Open(log) //nolint:gosec // the sandbox's own log
	if err != nil {
		return Summary{}, fmt.Errorf("audit log: %w", err)
	}
	defer file.Close() //nolint:errcheck // opened for reading
	return check(file)
}

func check(log io.Reader) (summary Summary, err error) {
	events, err := read(log)
	if err != nil {
		return summary, err
	}
	events = slices.DeleteFunc(events, func(e event) bool { return !isSquall(e.UserAgent) && !e.isLabelled() })
	// The log has the order of the answers, so creates are handled first here.
	created := map[string]bool{}
	var wrong []error
	for _, e := range events {
		if e.Verb != "create" || e.unread() {
			continue
		}
		created[e.object(e.Request.Metadata.Name)] = true
		if !isSquall(e.UserAgent) {
			continue // a test that simulates an earlier run
		}
		summary.Creates++
		if e.Request.Metadata.Labels[label] != ours {
			wrong = append(wrong, fmt.Errorf("squall created %s without its label", e.object(e.Request.Metadata.Name)))
		}
	}
	for _, e := range events {
		if !isSquall(e.UserAgent) {
			continue
		}
		switch {
		case e.Verb == "create":
			continue
		case e.Verb == "patch", e.Verb == "update" && e.Object.Resource == "leases":
			summary.Patches++
		case e.Verb == "delete":
			summary.Deletes++
		default:
			wrong = append(wrong, fmt.Errorf("squall wrote by %s %s", e.Verb, e.RequestURI))
			continue
		}
		if !created[e.object(e.Object.Name)] || e.Object.Subresource != "" {
			wrong = append(wrong, fmt.Errorf("squall wrote what it has not created: %s %s", e.Verb, e.RequestURI))
		}
	}
	if summary == (Summary{}) {
		wrong = append(wrong, errors.New("the audit log has no write of squall's"))
	}
	return summary, errors.Join(wrong...)
}

// isLabelled reports whether another client has created an object with Squall's label.
func (e event) isLabelled() bool {
	return e.Verb == "create" && e.Request.Metadata.Labels[label] == ours
}

// object names an object of the kind that a record is about.
func (e event) object(name string) string {
	return e.Object.Resource + " " + e.Object.Namespace + "/" + name
}

// Received returns when the API server got the last write of an object, with a
// verb and of a resource such as virtualservices.
func Received(log, verb, resource, name string) (time.Time, error) {
	file, err := os.Open(log) //nolint:gosec // the sandbox's own log
	if err != nil {
		return time.Time{}, fmt.Errorf("audit log: %w", err)
	}
	defer file.Close() //nolint:errcheck // opened for reading
	return received(file, verb, resource, name)
}

func received(log io.Reader, verb, resource, name string) (time.Time, error) {
	events, err := read(log)
	if err != nil {
		return time.Time{}, err
	}
	for _, e := range slices.Backward(events) {
		if e.Verb == verb && e.Object.Resource == resource && (e.Object.Name == name || e.Request.Metadata.Name == name) {
			return e.Received, nil
		}
	}
	return time.Time{}, fmt.Errorf("the audit log has no %s of %s %s", verb, resource, name)
}

// read returns the records without dry runs. The last line may be cut short while
// the API server still writes.
func read(log io.Reader) ([]event, error) {
	content, err := io.ReadAll(log)
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	var events []event
	for line := range bytes.Lines(content) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break
		}
		// A patch may be a list, which is of no interest here.
		var e event
		if err := json.Unmarshal(line, &e); err != nil && !isPatch(err) {
			return nil, fmt.Errorf("audit log: %w in %s", err, line)
		}
		if !strings.Contains(e.RequestURI, "dryRun=") {
			events = append(events, e)
		}
	}
	return events, nil
}

// isPatch reports whether the only error of a record is that its body is not an object.
func isPatch(err error) bool {
	wrongType, is := errors.AsType[*json.UnmarshalTypeError](err)
	return is && strings.HasPrefix(wrongType.Field, "requestObject")
}
