package web

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/squall-chaos/squall/internal/clock"
)

// The address of the leader comes from a Lease, which others may be able to write.
// So a replica sends no token there. It proves instead that it knows the token, by
// a message authentication code over the whole request and the identity of the
// leader, and requires the same of the answer.

// The headers of a forwarded request and of its answer. The first one marks a
// request that is not forwarded again.
const (
	forwardedHeader = "X-Squall-Forwarded" // the identity of the replica
	clientHeader    = "X-Squall-Client"    // the address of its client
	timeHeader      = "X-Squall-Time"
	nonceHeader     = "X-Squall-Nonce"
	proofHeader     = "X-Squall-Proof"
)

// mac returns the message authentication code of parts under a token.
func mac(token string, parts ...string) string {
	text, _ := json.Marshal(parts) // strings can be encoded; the parts cannot run together
	code := hmac.New(sha256.New, []byte(token))
	_, _ = code.Write(text) // never fails (hash.Hash)
	return hex.EncodeToString(code.Sum(nil))
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// requestMAC is the proof of a request to a replica.
func requestMAC(token, to string, request *http.Request, body []byte) string {
	header := request.Header
	return mac(
		token, "request", to, header.Get(forwardedHeader), header.Get(clientHeader), header.Get(timeHeader), header.Get(nonceHeader),
		request.Method, request.URL.RequestURI(), digest(body),
	)
}

// answerMAC is the proof of the answer to a request.
func answerMAC(token, nonce string, code int, contentType string, body []byte) string {
	return mac(token, "answer", nonce, strconv.Itoa(code), contentType, digest(body))
}

// prove adds the proof to a request to another replica.
func prove(token, from, to, client string, request *http.Request, body []byte) {
	request.Header.Set(forwardedHeader, from)
	request.Header.Set(clientHeader, client)
	request.Header.Set(timeHeader, time.Now().UTC().Format(time.RFC3339))
	request.Header.Set(nonceHeader, rand.Text())
	request.Header.Set(proofHeader, requestMAC(token, to, request, body))
}

// nonces are the numbers of acts that were carried out, with their times. An act is
// not carried out twice.
type nonces struct {
	mu   sync.Mutex
	used map[string]time.Time
}

// use reports whether a nonce is new.
func (n *nonces) use(nonce string, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for old, at := range n.used {
		if now.Sub(at) > 2*clock.Skew { // its request has expired
			delete(n.used, old)
		}
	}
	if _, is := n.used[nonce]; is {
		return false
	}
	n.used[nonce] = now
	return true
}

// check returns the address of the client of a request from another replica. It
// returns an error if the proof is not valid.
func (s *Site) check(token string, request *http.Request, body []byte) (netip.Addr, error) {
	header := request.Header
	if !hmac.Equal([]byte(header.Get(proofHeader)), []byte(requestMAC(token, s.config.Identity, request, body))) {
		return netip.Addr{}, errors.New("the proof of the replica that forwards is not valid; all replicas need the same token")
	}
	sent, err := time.Parse(time.RFC3339, header.Get(timeHeader))
	if now := time.Now(); err != nil || now.Sub(sent).Abs() > clock.Skew {
		return netip.Addr{}, fmt.Errorf("the proof of the replica that forwards is of %s; check the clocks", header.Get(timeHeader))
	} else if request.Method != http.MethodGet && request.Method != http.MethodHead && !s.acts.use(header.Get(nonceHeader), now) {
		return netip.Addr{}, errors.New("the request was forwarded before")
	}
	return netip.ParseAddr(header.Get(clientHeader))
}

// forwardedFor is the key of the address of the client for which a replica has
// forwarded a request.
type forwardedFor struct{}

// clientOf returns the address of the client for which a replica has provably
// forwarded a request.
func clientOf(request *http.Request) (client netip.Addr, forwarded bool) {
	client, forwarded = request.Context().Value(forwardedFor{}).(netip.Addr)
	return client, forwarded
}

// proven checks the proof of a request that has one, and adds one to the answer.
func (s *Site) proven(next http.Handler) http.Handler {
	return http.HandlerFunc(func(out http.ResponseWriter, request *http.Request) {
		token, err := s.token()
		if err != nil || request.Header.Get(proofHeader) == "" {
			next.ServeHTTP(out, request)
			return
		}
		body, err := io.ReadAll(request.Body)
		if err != nil {
			answer(out, codeOf(err), problem{Error: err.Error()})
			return
		}
		client, err := s.check(token, request, body)
		if err != nil {
			answer(out, http.StatusUnauthorized, problem{Error: err.Error()})
			return
		}
		request = request.WithContext(context.WithValue(request.Context(), forwardedFor{}, client))
		request.Body = io.NopCloser(bytes.NewReader(body))
		held := &heldAnswer{header: out.Header(), code: http.StatusOK}
		next.ServeHTTP(held, request)
		if held.body.Len() > maxForwarded {
			held.body.Reset()
			answer(held, http.StatusBadGateway, problem{Error: errTooLong.Error(), Hint: "ask the replica that leads"})
		}
		content := held.body.Bytes()
		if out.Header().Get("Content-Type") == "" {
			out.Header().Set("Content-Type", http.DetectContentType(content))
		}
		if request.Method == http.MethodHead {
			content = nil
		}
		out.Header().Set(proofHeader, answerMAC(token, request.Header.Get(nonceHeader), held.code, out.Header().Get("Content-Type"), content))
		out.WriteHeader(held.code)
		_, _ = out.Write(content) // the client's error
	})
}

// maxForwarded is the longest answer to another replica in bytes.
const maxForwarded = 32 << 20

var errTooLong = fmt.Errorf("the answer is longer than %d MiB", maxForwarded>>20)

// heldAnswer holds an answer until its proof is known.
type heldAnswer struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (h *heldAnswer) Header() http.Header { return h.header }

// WriteHeader implements http.ResponseWriter.
func (h *heldAnswer) WriteHeader(code int) { h.code = code }

// Write implements http.ResponseWriter. It keeps a little more than the longest
// answer.
func (h *heldAnswer) Write(content []byte) (int, error) {
	if h.body.Len() > maxForwarded {
		return 0, errTooLong
	}
	return h.body.Write(content)
}

// verify returns an error if the answer to a request with a proof has none.
func verify(token string, response *http.Response) error {
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	_ = response.Body.Close() // read to its end
	response.Body = io.NopCloser(bytes.NewReader(content))
	wanted := answerMAC(token, response.Request.Header.Get(nonceHeader), response.StatusCode, response.Header.Get("Content-Type"), content)
	if !hmac.Equal([]byte(response.Header.Get(proofHeader)), []byte(wanted)) {
		return errUnproven
	}
	return nil
}

var errUnproven = errors.New("the server at the address of the leader does not prove that it knows the token")
