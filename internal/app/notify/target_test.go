package notify

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nicholas-fedor/shoutrrr/pkg/router"
)

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

// secrets are the secret parts of the URLs below.
var secrets = []string{
	"s3cr3t", "A0A0A0A0A", "B1B1B1B1B", "123456789012345678901234", "110201543", "AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw_",
	"11111111-4444-4444-8444-cccccccccccc", "22222222-4444-4444-8444-cccccccccccc", "eb243592faa24ba2a5511afdf565c889", "33333333012222222222333333333344", "xoxb",
}

// services has URLs of all services of shoutrrr. HOST is a server on loopback for
// services without a fixed host.
var services = map[string]string{
	"bark":       "bark://s3cr3t@HOST?scheme=http",
	"discord":    "discord://s3cr3t@123456789012345678901234",
	"generic":    "generic://HOST/s3cr3t?disabletls=yes&template=json",
	"gotify":     "gotify://HOST/As3cr3t.XXXXXXX?disabletls=yes",
	"googlechat": "googlechat://chat.googleapis.com/v1/spaces/FOO/messages?key=s3cr3t&token=s3cr3t",
	"hangouts":   "hangouts://chat.googleapis.com/v1/spaces/FOO/messages?key=s3cr3t&token=s3cr3t",
	"ifttt":      "ifttt://s3cr3t/?events=event1",
	"lark":       "lark://open.larksuite.com/s3cr3t?secret=s3cr3t",
	"join":       "join://:s3cr3t@join/?devices=s3cr3t",
	"matrix":     "matrix://user:s3cr3t@HOST?disableTLS=yes&rooms=%23room",
	"mattermost": "mattermost://HOST/s3cr3t?disabletls=yes",
	"notifiarr":  "notifiarr://s3cr3t?channel=123456789012345678",
	"ntfy":       "ntfy://user:s3cr3t@HOST/topic?scheme=http",
	"opsgenie":   "opsgenie://api.opsgenie.com/s3cr3t",
	"pagerduty":  "pagerduty://events.pagerduty.com/eb243592faa24ba2a5511afdf565c889",
	"pushbullet": "pushbullet://o.s3cr3ts3cr3ts3cr3ts3cr3ts3cr3tss/device",
	"pushover":   "pushover://:s3cr3t@s3cr3t/?devices=device",
	"rocketchat": "rocketchat://user@HOST/s3cr3t/s3cr3t",
	"signal":     "signal://user:s3cr3t@HOST/+15551234567/+15559876543?disabletls=yes",
	"slack":      "slack://hook:A0A0A0A0A-B1B1B1B1B-123456789012345678901234@webhook",
	"slack+bot":  "slack://xoxb:123456789012-1234567890123-4mt0t4l1YL3g1T5L4cK70k3N@C001CH4NN3L",
	"smtp":       "smtp://user:s3cr3t@HOST/?from=a@example.com&to=b@example.com",
	"teams":      "teams://11111111-4444-4444-8444-cccccccccccc@22222222-4444-4444-8444-cccccccccccc/33333333012222222222333333333344/44444444-4444-4444-8444-cccccccccccc/s3cr3t?host=example.webhook.office.com",
	"telegram":   "telegram://110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw_@telegram?chats=@one",
	"wecom":      "wecom://s3cr3t",
	"zulip":      "zulip://bot%40example.com:s3cr3t@chat.example.com?stream=a&topic=b",
}

// divert makes the default transport, and the given client, connect to the server.
func divert(t *testing.T, client *http.Client, address string) {
	t.Helper()
	transport := &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
	}
	original := http.DefaultTransport
	http.DefaultTransport, client.Transport = transport, transport
	t.Cleanup(func() { http.DefaultTransport = original })
}

// serve answers plain HTTP and TLS on one address.
func serve(t *testing.T, handler http.Handler) (plain, secure *httptest.Server) {
	t.Helper()
	plain, secure = httptest.NewServer(handler), httptest.NewUnstartedServer(handler)
	secure.Config.ErrorLog, plain.Config.ErrorLog = quiet(), quiet()
	secure.StartTLS()
	t.Cleanup(plain.Close)
	t.Cleanup(secure.Close)
	return plain, secure
}

// Every service must report each failure, and the reported text must not contain a
// secret.
func TestServicesFailAloudAndTellNoSecret(t *testing.T) {
	var library router.ServiceRouter
	for _, name := range library.ListServices() {
		if _, ok := services[name]; !ok && name != "logger" {
			t.Errorf("no URL to test %s with", name)
		}
	}
	for kind, handler := range map[string]http.HandlerFunc{
		"broken": answer(500), "unauthorized": answer(401), "limited": answer(429, "Retry-After", "1"), "reset": reset, "gone": nil,
	} {
		t.Run(kind, func(t *testing.T) {
			plain, secure := serve(t, handler)
			if handler == nil {
				plain.Close()
				secure.Close()
			}
			for service, template := range services {
				if service == "discord" && kind != "unauthorized" {
					continue // it retries for minutes
				}
				t.Run(service, func(t *testing.T) {
					checkFailure(t, service, template, plain.Listener.Addr().String(), secure.Listener.Addr().String())
				})
			}
		})
	}
}

func checkFailure(t *testing.T, service, template, plain, secure string) {
	t.Helper()
	client := newClient()
	to := secure
	if strings.Contains(template, "HOST") && service != "rocketchat" {
		to = plain
	}
	divert(t, client, to)
	name, s, err := parse(strings.ReplaceAll(template, "HOST", to), client)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err = s.send(ctx, &message{Event: Event{Kind: Started, Run: "r1", Experiment: "x", Host: "h"}})
	if err == nil {
		t.Fatal("it says that it has been sent")
	}
	told := name + ": " + explain(err).Error()
	for _, secret := range secrets {
		if strings.Contains(told, secret) {
			t.Errorf("%s is in %s", secret, told)
		}
	}
	t.Log(told, "<-", err)
}

func TestServiceDelivers(t *testing.T) {
	var requests []string
	plain, secure := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		requests = append(requests, r.URL.Path+" "+string(data))
		_, _ = io.WriteString(w, "ok")
	}))
	m := &message{Event: Event{Kind: Started, Run: "r1", Experiment: "x", Host: "h"}}
	for _, test := range []struct {
		service, want string
	}{
		{"mattermost", `/hooks/s3cr3t {"text":"squall: x started: it disturbs calls to h\nto stop it: squall rollback r1"}`},
		{"slack", `/services/A0A0A0A0A/B1B1B1B1B/123456789012345678901234 {"text":"","attachments":[{"text":"squall: x started: it disturbs calls to h"},{"text":"to stop it: squall rollback r1"}]}`},
		{"telegram", `/bot110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw_/sendMessage {"chat_id":"@one","text":"squall: x started: it disturbs calls to h\nto stop it: squall rollback r1"}`},
	} {
		t.Run(test.service, func(t *testing.T) {
			requests = nil
			client := newClient()
			address := secure.Listener.Addr().String()
			if test.service == "mattermost" {
				address = plain.Listener.Addr().String()
			}
			divert(t, client, address)
			_, s, err := parse(strings.ReplaceAll(services[test.service], "HOST", address), client)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.send(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{test.want}, requests); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
		})
	}
}

// A chat that refuses a message does not affect other chats, and no chat gets a
// message twice.
func TestTelegramChats(t *testing.T) {
	var got []string
	_, secure := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		chat := strings.Split(string(data), `"`)[3]
		got = append(got, chat)
		switch {
		case chat == "bad":
			w.WriteHeader(http.StatusBadRequest)
		case len(got) == 3:
			w.WriteHeader(http.StatusBadGateway)
		}
	}))
	client := newClient()
	divert(t, client, secure.Listener.Addr().String())
	_, s, err := parse("telegram://110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw_@telegram?chats=one,bad,two:7", client)
	if err != nil {
		t.Fatal(err)
	}
	m := &message{}
	first, second := s.send(t.Context(), m), s.send(t.Context(), m)
	if explain(first).text != "it answered 502 Bad Gateway" || explain(second).text != "it answered 400 Bad Request" {
		t.Errorf("%v, then %v", first, second)
	}
	if diff := cmp.Diff([]string{"one", "bad", "two", "two"}, got); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// A message that hangs in the library is awaited, not sent again.
func TestServiceThatHangs(t *testing.T) {
	var calls atomic.Int32
	release := make(chan struct{})
	plain, _ := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		calls.Add(1)
		<-release
	}))
	_, s, err := parse(strings.ReplaceAll(services["mattermost"], "HOST", plain.Listener.Addr().String()), nil)
	if err != nil {
		t.Fatal(err)
	}
	one, two := &message{Event: Event{Run: "r1"}}, &message{Event: Event{Run: "r2"}}
	for _, m := range []*message{one, one, two} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		if err := s.send(ctx, m); err == nil || explain(err).text != "no answer within 10s" {
			t.Errorf("it hangs, but %v", err)
		}
		cancel()
	}
	close(release)
	if err := s.send(t.Context(), two); err != nil || calls.Load() != 2 {
		t.Errorf("%v, %d calls, want 2", err, calls.Load())
	}
}

func TestMailSubject(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	mail := make(chan string, 1)
	go func() { mail <- takeMail(listener) }()
	_, s, err := parse("smtp://"+listener.Addr().String()+"/?from=a@example.com&to=b@example.com&usestarttls=no", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.send(t.Context(), &message{Event: Event{Kind: Started, Run: "r1", Experiment: "x", Host: "h"}}); err != nil {
		t.Fatal(err)
	}
	got := <-mail
	for _, want := range []string{"Subject: squall: x started: it disturbs calls to h\r\n", "\r\n\r\nsquall: x started: it disturbs calls to h\r\nto stop it: squall rollback r1\r\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in %q", want, got)
		}
	}
}

// takeMail speaks enough SMTP for one message, and returns its text.
func takeMail(listener net.Listener) string {
	connection, err := listener.Accept()
	if err != nil {
		return err.Error()
	}
	defer func() { _ = connection.Close() }()
	var data strings.Builder
	say := func(line string) { _, _ = io.WriteString(connection, line+"\r\n") }
	say("220 ready")
	buffer, inData := make([]byte, 4096), false
	for {
		n, err := connection.Read(buffer)
		if err != nil {
			return data.String()
		}
		text := string(buffer[:n])
		switch {
		case inData:
			data.WriteString(text)
			if strings.HasSuffix(data.String(), "\r\n.\r\n") {
				inData = false
				say("250 taken")
			}
		case strings.HasPrefix(text, "DATA"):
			inData = true
			say("354 go on")
		case strings.HasPrefix(text, "QUIT"):
			say("221 bye")
			return data.String()
		default:
			say("250 fine")
		}
	}
}

func TestLoad(t *testing.T) {
	for _, test := range []struct {
		name, file string
		want       []string
		err        string
	}{
		{"all forms", "# chat\nslack://hook:A0A0A0A0A-B1B1B1B1B-123456789012345678901234@webhook\r\n\n  https://u:s3cr3t@hooks.example.com/x#y\n", []string{
			"slack://hook:A0A0A0A0A-B1B1B1B1B-123456789012345678901234@webhook", "https://u:s3cr3t@hooks.example.com/x#y",
		}, ""},
		{"nothing", "# nothing yet\n", nil, ""},
		{"every problem", "https://\nxoxb-s3cr3t://x\ns3cr3t\nhttps://a b/s3cr3t%zz\nslack://s3cr3t@webhook\nlogger://\ntelegram://s3cr3t@telegram?chats=1\n", nil, `FILE:1: no host after https://
FILE:2: the URL begins with an unknown service; docs/reference/notifications.md lists the formats
FILE:3: the URL begins with an unknown service; docs/reference/notifications.md lists the formats
FILE:4: this is not a URL; docs/reference/notifications.md lists the formats
FILE:5: slack does not accept this URL; docs/reference/notifications.md lists the formats
FILE:6: the URL begins with an unknown service; docs/reference/notifications.md lists the formats
FILE:7: telegram does not accept this URL; docs/reference/notifications.md lists the formats`},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "urls")
			if err := os.WriteFile(file, []byte(test.file), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := Load(file)
			told := ""
			if err != nil {
				told = strings.ReplaceAll(err.Error(), file, "FILE")
			}
			if diff := cmp.Diff(test.err, told); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("URLs (-want +got):\n%s", diff)
			}
		})
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none")); !os.IsNotExist(err) {
		t.Errorf("no file: %v", err)
	}
}

// The examples of the page are valid URLs.
func TestPage(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", "..", page))
	if err != nil {
		t.Fatal(err)
	}
	examples := regexp.MustCompile("(?m)^\\| .* \\| `([a-z]+://[^`]+)`").FindAllStringSubmatch(string(data), -1)
	if len(examples) < 9 {
		t.Errorf("only %d examples", len(examples))
	}
	for _, example := range examples {
		if strings.HasPrefix(example[1], "teams:") {
			continue // its identifiers are too long for the page
		}
		if _, _, err := parse(example[1], nil); err != nil {
			t.Errorf("%s: %v", example[1], err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	_, err := New([]string{"https://fine.example.com", "nope://s3cr3t"}, nil, nil)
	if want := "notification URL 2: the URL begins with an unknown service; docs/reference/notifications.md lists the formats"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestNames(t *testing.T) {
	got := map[string]string{}
	for service, template := range services {
		name, _, err := parse(strings.ReplaceAll(template, "HOST", "chat.example.com"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(secrets, func(s string) bool { return strings.Contains(name, s) }) {
			t.Errorf("%s is called %s", service, name)
		}
		got[service] = name
	}
	if got["slack"] != "slack" || got["mattermost"] != "mattermost://chat.example.com" {
		t.Errorf("names are %v", got)
	}
}
