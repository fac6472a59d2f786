// Package kubetest is an API server in memory, for tests of programs that reach a
// cluster through client-go. It has no goroutines and no timers: a test decides
// when a request is answered and when a change is seen by a watch.
package kubetest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// Key names an object: its resource, such as "virtualservices", its namespace and
// its name.
type Key struct{ Resource, Namespace, Name string }

func (k Key) String() string { return k.Resource + " " + k.Namespace + "/" + k.Name }

// Change is one write of an object. A watch reports it with its type: ADDED,
// MODIFIED or DELETED.
type Change struct {
	Type    string
	Version int
	Key     Key
	// Object is the object after the write, or as it was before it was deleted.
	// Before is nil for a new object. Both must not be changed.
	Object, Before *unstructured.Unstructured

	encoded []byte
}

// stored is an object with its JSON.
type stored struct {
	object  *unstructured.Unstructured
	encoded []byte
}

// Server is an API server. It is not safe for concurrent use.
type Server struct {
	// Now is the server's clock.
	Now func() time.Time
	// Changed is called after each write. It may be nil.
	Changed func(Change)

	objects   map[Key]stored
	version   int
	changes   []Change // after the version compacted
	compacted int
}

// New returns a server without objects.
func New(now func() time.Time) *Server {
	return &Server{Now: now, objects: map[Key]stored{}}
}

// Get returns an object, or nil. It must not be changed.
func (s *Server) Get(key Key) *unstructured.Unstructured { return s.objects[key].object }

// List returns the objects of a resource in all namespaces, sorted by namespace and
// name. They must not be changed.
func (s *Server) List(resource string) []*unstructured.Unstructured {
	var found []*unstructured.Unstructured
	for _, key := range s.keys(func(k Key) bool { return k.Resource == resource }) {
		found = append(found, s.objects[key].object)
	}
	return found
}

func (s *Server) keys(selected func(Key) bool) []Key { return keysOf(s.objects, selected) }

func keysOf(objects map[Key]stored, selected func(Key) bool) []Key {
	var keys []Key
	for key := range objects {
		if selected(key) {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, func(a, b Key) int { return strings.Compare(a.String(), b.String()) })
	return keys
}

// Put creates or replaces an object, whatever its resource version is.
func (s *Server) Put(resource string, object *unstructured.Unstructured) *unstructured.Unstructured {
	key := Key{Resource: resource, Namespace: object.GetNamespace(), Name: object.GetName()}
	return s.write(key, object.DeepCopy())
}

// Remove deletes an object. If finalizers keep it, it is only marked as deleted.
func (s *Server) Remove(key Key) {
	now, known := s.objects[key]
	if !known {
		return
	}
	if len(now.object.GetFinalizers()) > 0 {
		if now.object.GetDeletionTimestamp() == nil {
			marked := now.object.DeepCopy()
			at := metav1.NewTime(s.Now())
			marked.SetDeletionTimestamp(&at)
			s.write(key, marked)
		}
		return
	}
	s.version++
	delete(s.objects, key)
	s.changed(Change{Type: "DELETED", Version: s.version, Key: key, Object: now.object, Before: now.object, encoded: now.encoded})
}

// write stores an object with its new version.
func (s *Server) write(key Key, object *unstructured.Unstructured) *unstructured.Unstructured {
	before, known := s.objects[key]
	change := Change{Type: "ADDED", Key: key, Object: object, Before: before.object}
	if known {
		change.Type = "MODIFIED"
		object.SetUID(before.object.GetUID())
		object.SetCreationTimestamp(before.object.GetCreationTimestamp())
		object.SetGeneration(before.object.GetGeneration())
		if !reflect.DeepEqual(before.object.Object["spec"], object.Object["spec"]) {
			object.SetGeneration(before.object.GetGeneration() + 1)
		}
		if object.GetDeletionTimestamp() != nil && len(object.GetFinalizers()) == 0 {
			s.version++
			delete(s.objects, key)
			s.changed(Change{Type: "DELETED", Version: s.version, Key: key, Object: object, Before: before.object, encoded: encode(object)})
			return object
		}
	}
	s.version++
	if !known {
		object.SetUID(types.UID(fmt.Sprintf("uid-%d", s.version)))
		object.SetGeneration(1)
		if at := object.GetCreationTimestamp(); at.IsZero() {
			object.SetCreationTimestamp(metav1.NewTime(s.Now().Truncate(time.Second)))
		}
	}
	object.SetResourceVersion(strconv.Itoa(s.version))
	change.Version, change.encoded = s.version, encode(object)
	s.objects[key] = stored{object: object, encoded: change.encoded}
	s.changed(change)
	return object
}

func (s *Server) changed(change Change) {
	s.changes = append(s.changes, change)
	if s.Changed != nil {
		s.Changed(change)
	}
}

// Compact forgets the changes so far: a watch from before them has to list again.
func (s *Server) Compact() { s.changes, s.compacted = nil, s.version }

// Version returns the version of the last write.
func (s *Server) Version() int { return s.version }

func encode(value any) []byte {
	encoded, err := json.Marshal(value)
	if err != nil {
		panic(err) // objects come from JSON
	}
	return encoded
}

func equalJSON(a, b any) bool { return string(encode(a)) == string(encode(b)) }

// Request is a request to a server.
type Request struct {
	Method, Path, ContentType string
	// Query are the parameters of the URL, the first value of each.
	Query map[string]string
	Body  []byte
}

// Response is the answer to a request.
type Response struct {
	Code int
	Body []byte
}

// target is what the path of a request names.
type target struct {
	group schema.GroupVersionResource
	Key
}

// parse parses a path such as /apis/GROUP/VERSION/namespaces/NAMESPACE/RESOURCE/NAME.
func parse(path string) (t target, ok bool) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case len(parts) > 3 && parts[0] == "apis":
		t.group.Group, t.group.Version, parts = parts[1], parts[2], parts[3:]
	case len(parts) > 2 && parts[0] == "api":
		t.group.Version, parts = parts[1], parts[2:]
	default:
		return t, false
	}
	if len(parts) > 2 && parts[0] == "namespaces" {
		t.Namespace, parts = parts[1], parts[2:]
	}
	t.Resource = parts[0]
	if len(parts) > 1 {
		t.Name = parts[1]
	}
	t.group.Resource = t.Resource
	return t, len(parts) < 3
}

// Do carries out a request. Watches are the subject of Watch.
func (s *Server) Do(r Request) Response {
	t, ok := parse(r.Path)
	switch {
	case r.Path == "/version":
		return Response{Code: http.StatusOK, Body: []byte(`{"gitVersion":"v1.36.0"}`)}
	case r.Path == "/apis/networking.istio.io":
		return Response{Code: http.StatusOK, Body: []byte(`{"kind":"APIGroup","apiVersion":"v1","name":"networking.istio.io","versions":[{"groupVersion":"networking.istio.io/v1","version":"v1"}]}`)}
	case !ok:
		return failure(apierrors.NewGenericServerResponse(http.StatusNotFound, r.Method, schema.GroupResource{}, r.Path, "no such path", 0, false))
	}
	var object *unstructured.Unstructured
	var err error
	switch r.Method {
	case http.MethodGet:
		if t.Name == "" {
			return s.list(t, r)
		}
		object, err = s.get(t)
	case http.MethodPost:
		object, err = s.create(t, r)
	case http.MethodPut:
		object, err = s.replace(t, r)
	case http.MethodPatch:
		object, err = s.patch(t, r)
	case http.MethodDelete:
		err = s.remove(t, r)
	default:
		err = apierrors.NewMethodNotSupported(t.group.GroupResource(), r.Method)
	}
	switch {
	case err != nil:
		return failure(err)
	case object == nil:
		return Response{Code: http.StatusOK, Body: []byte(`{"kind":"Status","apiVersion":"v1","status":"Success"}`)}
	case r.Method == http.MethodPost:
		return Response{Code: http.StatusCreated, Body: s.encoded(object)}
	default:
		return Response{Code: http.StatusOK, Body: s.encoded(object)}
	}
}

// encoded returns the JSON of an object that may be stored.
func (s *Server) encoded(object *unstructured.Unstructured) []byte {
	if last := len(s.changes) - 1; last >= 0 && s.changes[last].Object == object {
		return s.changes[last].encoded
	}
	return encode(object)
}

// failure returns the answer for an error.
func failure(err error) Response {
	status := apierrors.APIStatus(nil)
	if known, ok := err.(apierrors.APIStatus); ok {
		status = known
	} else {
		status = apierrors.NewBadRequest(err.Error())
	}
	answer := status.Status()
	answer.Kind, answer.APIVersion = "Status", "v1"
	return Response{Code: int(answer.Code), Body: encode(answer)}
}

func (s *Server) get(t target) (*unstructured.Unstructured, error) {
	found, known := s.objects[t.Key]
	if !known {
		return nil, apierrors.NewNotFound(t.group.GroupResource(), t.Name)
	}
	return found.object, nil
}

// ListAt returns the objects of a resource in all namespaces that existed at a resource
// version, or now if it is empty, sorted by namespace and name. It returns an error if the
// version is compacted. They must not be changed.
func (s *Server) ListAt(resource, version string) ([]*unstructured.Unstructured, error) {
	if version == "" {
		return s.List(resource), nil
	}
	wanted, err := strconv.Atoi(version)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if wanted < s.compacted {
		return nil, apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %d (%d)", wanted, s.compacted))
	}
	objects := s.at(wanted)
	var found []*unstructured.Unstructured
	for _, key := range keysOf(objects, func(k Key) bool { return k.Resource == resource }) {
		found = append(found, objects[key].object)
	}
	return found, nil
}

// at returns the objects at a version.
func (s *Server) at(version int) map[Key]stored {
	then := maps.Clone(s.objects)
	for _, change := range slices.Backward(s.changes) {
		switch {
		case change.Version <= version:
			return then
		case change.Type == "ADDED":
			delete(then, change.Key)
		default:
			then[change.Key] = stored{object: change.Before}
		}
	}
	return then
}

// list answers a list of the present. It has no pages.
func (s *Server) list(t target, r Request) Response {
	selector, err := labels.Parse(r.Query["labelSelector"])
	if err != nil {
		return failure(apierrors.NewBadRequest(err.Error()))
	}
	name := strings.TrimPrefix(r.Query["fieldSelector"], "metadata.name=")
	keys := s.keys(func(k Key) bool {
		return k.Resource == t.Resource && (t.Namespace == "" || k.Namespace == t.Namespace) && (name == "" || k.Name == name) &&
			selector.Matches(labels.Set(s.objects[k].object.GetLabels()))
	})
	var body strings.Builder
	fmt.Fprintf(&body, `{"kind":"List","apiVersion":%q,"metadata":{"resourceVersion":"%d"},"items":[`, t.group.GroupVersion(), s.version)
	for i, key := range keys {
		if i > 0 {
			body.WriteByte(',')
		}
		body.Write(s.objects[key].encoded)
	}
	body.WriteString("]}")
	return Response{Code: http.StatusOK, Body: []byte(body.String())}
}

func decode(body []byte) (*unstructured.Unstructured, error) {
	object := &unstructured.Unstructured{}
	if err := object.UnmarshalJSON(body); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return object, nil
}

func (s *Server) create(t target, r Request) (*unstructured.Unstructured, error) {
	object, err := decode(r.Body)
	if err != nil {
		return nil, err
	}
	t.Name = object.GetName()
	if prefix := object.GetGenerateName(); t.Name == "" && prefix != "" {
		t.Name = fmt.Sprintf("%s%05d", prefix, s.version)
		object.SetName(t.Name)
	}
	object.SetNamespace(t.Namespace)
	if _, taken := s.objects[t.Key]; taken {
		return nil, apierrors.NewAlreadyExists(t.group.GroupResource(), t.Name)
	}
	if r.Query["dryRun"] != "" {
		return object, nil
	}
	return s.write(t.Key, object), nil
}

// replace is a PUT. Without a resource version it is unconditional.
func (s *Server) replace(t target, r Request) (*unstructured.Unstructured, error) {
	before, err := s.get(t)
	if err != nil {
		return nil, err
	}
	object, err := decode(r.Body)
	if err != nil {
		return nil, err
	}
	if version := object.GetResourceVersion(); version != "" && version != before.GetResourceVersion() {
		return nil, conflict(t)
	}
	return s.write(t.Key, object), nil
}

func conflict(t target) error {
	return apierrors.NewConflict(t.group.GroupResource(), t.Name, fmt.Errorf("the object has been modified; please apply your changes to the latest version and try again"))
}

// patch applies a JSON patch or a merge patch.
func (s *Server) patch(t target, r Request) (*unstructured.Unstructured, error) {
	before, err := s.get(t)
	if err != nil {
		return nil, err
	}
	object := before.DeepCopy()
	if strings.HasPrefix(r.ContentType, string(types.JSONPatchType)) {
		err = jsonPatch(object.Object, r.Body)
	} else {
		err = mergePatch(object.Object, r.Body)
	}
	switch {
	case err != nil:
		return nil, apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, r.Method, t.group.GroupResource(), t.Name, err.Error(), 0, false)
	case object.GetUID() != before.GetUID(), object.GetResourceVersion() != before.GetResourceVersion():
		return nil, conflict(t)
	case r.Query["dryRun"] != "":
		return object, nil
	}
	return s.write(t.Key, object), nil
}

func (s *Server) remove(t target, r Request) error {
	before, err := s.get(t)
	if err != nil {
		return err
	}
	var options metav1.DeleteOptions
	if len(r.Body) > 0 {
		if err := json.Unmarshal(r.Body, &options); err != nil {
			return apierrors.NewBadRequest(err.Error())
		}
	}
	if conditions := options.Preconditions; conditions != nil {
		if conditions.UID != nil && *conditions.UID != before.GetUID() {
			return conflict(t)
		}
		if conditions.ResourceVersion != nil && *conditions.ResourceVersion != before.GetResourceVersion() {
			return conflict(t)
		}
	}
	s.Remove(t.Key)
	return nil
}

// Watch is a watch of a resource. It is read with Next.
type Watch struct {
	server *Server
	target target
	name   string
	since  int
	// first are the objects that existed when the watch began, if it has no version.
	first [][]byte
}

// IsWatch reports whether a request is a watch.
func (r Request) IsWatch() bool { return r.Query["watch"] != "" && r.Query["watch"] != "false" }

// Watch begins a watch.
func (s *Server) Watch(r Request) *Watch {
	t, _ := parse(r.Path)
	w := &Watch{server: s, target: t, name: strings.TrimPrefix(r.Query["fieldSelector"], "metadata.name="), since: s.version}
	if version, err := strconv.Atoi(r.Query["resourceVersion"]); err == nil && version > 0 {
		w.since = version
		return w
	}
	for _, key := range s.keys(w.matches) {
		w.first = append(w.first, event("ADDED", s.objects[key].encoded))
	}
	return w
}

func (w *Watch) matches(key Key) bool {
	return key.Resource == w.target.Resource && (w.target.Namespace == "" || key.Namespace == w.target.Namespace) && (w.name == "" || key.Name == w.name)
}

func event(kind string, object []byte) []byte {
	return fmt.Appendf(nil, "{\"type\":%q,\"object\":%s}\n", kind, object)
}

// Next returns the events since the last call, as lines of JSON. After an error
// event the watch has ended.
func (w *Watch) Next() (lines [][]byte, ended bool) {
	lines, w.first = w.first, nil
	if w.since < w.server.compacted {
		expired := failure(apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %d (%d)", w.since, w.server.compacted)))
		return append(lines, event("ERROR", expired.Body)), true
	}
	for _, change := range w.server.changes {
		if change.Version > w.since && w.matches(change.Key) {
			lines = append(lines, event(change.Type, change.encoded))
		}
	}
	w.since = w.server.version
	return lines, false
}
