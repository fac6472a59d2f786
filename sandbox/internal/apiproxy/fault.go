package apiproxy

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Fault is what befalls a call.
type Fault func(*exchange)

// Refuse answers with a status in place of the server, as Kubernetes writes it.
func Refuse(code int, reason metav1.StatusReason) Fault {
	return func(x *exchange) { x.refuse(code, metav1.Status{Reason: reason}) }
}

// Throttle answers that there are too many requests, and when to come again.
func Throttle(after time.Duration) Fault {
	seconds := int(after / time.Second)
	return func(x *exchange) {
		x.w.Header().Set("Retry-After", strconv.Itoa(seconds))
		x.refuse(http.StatusTooManyRequests, metav1.Status{
			Reason: metav1.StatusReasonTooManyRequests, Details: &metav1.StatusDetails{RetryAfterSeconds: int32(seconds)}, //nolint:gosec // a few seconds
		})
	}
}

func (x *exchange) refuse(code int, status metav1.Status) {
	status.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
	status.Status, status.Code, status.Message = metav1.StatusFailure, int32(code), "made up by a test" //nolint:gosec // an HTTP status
	x.w.Header().Set("Content-Type", "application/json")
	x.w.WriteHeader(code)
	_ = json.NewEncoder(x.w).Encode(status) // the client may have left
}

// Reset resets the connection before the server receives the call.
func Reset(x *exchange) { reset(x.conn) }

// Lose lets the server do what is asked, and resets the connection in place of
// the answer.
func Lose(x *exchange) {
	if x.call.Class != Watch { // a watch does nothing at the server
		_, _ = x.ask() // whatever the answer is, it is lost
	}
	reset(x.conn)
}

// Halve lets the server do what is asked, and resets the connection in the
// middle of the answer.
func Halve(x *exchange) {
	if a, err := x.half(); err == nil {
		x.tell(a)
	}
	reset(x.conn)
}

// half returns the first half of an answer; of a watch, its first bytes.
func (x *exchange) half() (answer, error) {
	if x.call.Class != Watch {
		a, err := x.ask()
		a.body = a.body[:len(a.body)/2]
		return a, err
	}
	response, err := x.send(x.r.Context())
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close() //nolint:errcheck // dropped
	const some = 20
	body := make([]byte, some)
	n, err := response.Body.Read(body)
	return answer{header: response.Header, code: response.StatusCode, body: body[:n]}, err
}

// Delay holds a call for some time before it lets it through. The server gets
// it even when its client has left meanwhile.
func Delay(by time.Duration) Fault {
	return func(x *exchange) {
		timer := time.NewTimer(by)
		defer timer.Stop()
		<-timer.C
		pass(x)
	}
}

// Vanish makes the server unreachable from this call on.
func Vanish(x *exchange) { x.proxy.Vanish() }

// Hang makes the server silent from this call on.
func Hang(x *exchange) {
	x.proxy.Hang()
	_, back := x.proxy.reach()
	x.keepSilent(back)
}

// Pause makes the server unreachable from this call on, for some time.
func Pause(length time.Duration) Fault {
	return func(x *exchange) {
		x.proxy.Vanish()
		time.AfterFunc(length, x.proxy.Return)
	}
}

// Freeze loses the call and freezes all current connections.
func Freeze(x *exchange) {
	x.proxy.Freeze()
	<-x.proxy.closed
}
