package leadership

import (
	"crypto/rand"
	"encoding/hex"
	"os"
)

// Identity returns a unique name of this process, with the address at which other
// replicas reach it. The address may be empty.
func Identity(address string) string {
	host, err := os.Hostname()
	if err != nil {
		host = "squall"
	}
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails (crypto/rand)
	name := host + "-" + hex.EncodeToString(random[:])
	if address != "" {
		name += "@" + address
	}
	return name
}
