package web

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/squall-chaos/squall/internal/app/serve/leadership"
	"github.com/squall-chaos/squall/internal/app/serve/runs"
	"github.com/squall-chaos/squall/internal/app/serve/scheduler"
)

// trusted requires the token. It is sent in a header that a page of another origin
// cannot set, and not in a cookie, so that such a page cannot act for a user.
func (s *Site) trusted(next func(owner string, request *http.Request) (any, error)) http.HandlerFunc {
	return func(out http.ResponseWriter, request *http.Request) {
		if _, forwarded := clientOf(request); !forwarded {
			if refused := s.refusal(request); refused != nil {
				refused.write(out)
				return
			}
		}
		done, err := next(client(request), request)
		if err != nil {
			answer(out, codeOf(err), problem{Error: err.Error()})
			return
		}
		answer(out, http.StatusOK, done)
	}
}

// refusal is the answer to a request without the token.
type refusal struct {
	code int
	problem
}

func (r *refusal) write(out http.ResponseWriter) {
	if r.code == http.StatusUnauthorized {
		out.Header().Set("WWW-Authenticate", `Bearer realm="squall"`)
	}
	answer(out, r.code, r.problem)
}

// refusal returns nil for a request with the token.
func (s *Site) refusal(request *http.Request) *refusal {
	token, err := s.token()
	if err != nil {
		return &refusal{code: http.StatusForbidden, problem: problem{Error: "the API is read-only here", Hint: "squall serve --api-token-file FILE names the token that permits it"}}
	}
	sent, is := strings.CutPrefix(request.Header.Get("Authorization"), "Bearer ")
	// Hashes have the same length.
	wanted, got := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(sent))
	if !is || subtle.ConstantTimeCompare(wanted[:], got[:]) != 1 {
		return &refusal{code: http.StatusUnauthorized, problem: problem{Error: "the token is missing or wrong", Hint: "Authorization: Bearer TOKEN"}}
	}
	return nil
}

var errNoToken = errors.New("there is no token")

// token reads the token. It does so for each request, so that the file can be
// changed. The error is errNoToken for an empty file.
func (s *Site) token() (string, error) {
	if s.config.TokenFile == "" {
		return "", errNoToken
	}
	content, err := os.ReadFile(s.config.TokenFile)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(content))
	if token == "" {
		return "", errNoToken
	}
	return token, nil
}

// client describes who has sent a request: the address of the peer and, if the peer
// is provably a replica, the address of its client.
func client(request *http.Request) string {
	if client, forwarded := clientOf(request); forwarded {
		return fmt.Sprintf("API from %s through %s", client, peerOf(request))
	}
	return "API from " + peerOf(request)
}

// peerOf returns the address of the peer.
func peerOf(request *http.Request) string {
	host, _, err := net.SplitHostPort(request.RemoteAddr)
	if err != nil {
		return request.RemoteAddr
	}
	return host
}

var errBadRequest = errors.New("bad request")

func codeOf(err error) int {
	_, tooLarge := errors.AsType[*http.MaxBytesError](err)
	switch {
	case errors.Is(err, scheduler.ErrUnknown), errors.Is(err, runs.ErrNotLive):
		return http.StatusNotFound
	case errors.Is(err, scheduler.ErrForbidden):
		return http.StatusForbidden
	case errors.Is(err, scheduler.ErrBusy):
		return http.StatusConflict
	case errors.Is(err, leadership.ErrNotLeading), errors.Is(err, leadership.ErrTakingOver):
		return http.StatusServiceUnavailable
	case errors.Is(err, errBadRequest):
		return http.StatusBadRequest
	case tooLarge:
		return http.StatusRequestEntityTooLarge
	default:
		return http.StatusBadGateway // an error of the cluster
	}
}

// started is the answer to a start.
type started struct {
	Run string `json:"run"`
}

func (s *Site) run(owner string, request *http.Request) (any, error) {
	run, err := s.config.Controls.StartNow(request.PathValue("name"), owner)
	return started{Run: run}, err
}

// done is the answer to a stop.
type done struct {
	Done string `json:"done"`
}

func (s *Site) stop(owner string, request *http.Request) (any, error) {
	id := request.PathValue("id")
	if err := s.config.Controls.Stop(request.Context(), id, owner); err != nil {
		return nil, err
	}
	return done{Done: "stopping " + id}, nil
}

// paused is the answer to a pause.
type paused struct {
	Paused bool `json:"paused"`
}

// pause resumes the schedules if the body is {"paused": false}. Without a body it
// pauses them.
func (s *Site) pause(owner string, request *http.Request) (any, error) {
	wanted := struct {
		Paused *bool `json:"paused"`
	}{}
	decoder := json.NewDecoder(request.Body)
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&wanted)
	if err == nil {
		if _, err = decoder.Token(); err == nil {
			err = errors.New("there is more after the object")
		}
	}
	if !errors.Is(err, io.EOF) {
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			return nil, err
		}
		return nil, fmt.Errorf(`%w: %w; the body is {"paused": true} or {"paused": false}`, errBadRequest, err)
	}
	pause := wanted.Paused == nil || *wanted.Paused
	if err := s.config.Controls.Pause(request.Context(), pause, owner); err != nil {
		return nil, err
	}
	return paused{Paused: pause}, nil
}
