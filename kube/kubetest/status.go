package kubetest

import (
	"bytes"
	"encoding/json"
	"testing"
)

// Status returns the API server's answer to a refused request.
func Status(code int, reason, message string) string {
	encoded, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message})
	if err != nil {
		panic(err)
	}
	return string(encoded)
}

// EqualJSON reports whether two texts are the same JSON value.
func EqualJSON(t testing.TB, a, b []byte) bool {
	t.Helper()
	var compact [2]bytes.Buffer
	for i, text := range [][]byte{a, b} {
		var value any
		if err := json.Unmarshal(text, &value); err != nil {
			t.Fatal(err)
		}
		if err := json.NewEncoder(&compact[i]).Encode(value); err != nil {
			t.Fatal(err)
		}
	}
	return bytes.Equal(compact[0].Bytes(), compact[1].Bytes())
}
