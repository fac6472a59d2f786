package prom_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/squall-chaos/squall/steady-state/prom"
)

// response is one answer of a scripted Prometheus.
type response struct {
	code  int
	body  string
	stall bool
}

// serve answers requests with the given responses in turn. It fails the test for
// additional and missing requests, and for a request with a time.
func serve(t *testing.T, responses ...response) *prom.Client {
	t.Helper()
	next := 0
	done := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if next >= len(responses) {
			t.Errorf("request %d was not expected", next+1)
			return
		}
		this := responses[next]
		next++
		if err := r.ParseForm(); err != nil || r.Form.Get("query") != "up" || r.Form.Has("time") {
			t.Errorf("form %v: %v", r.Form, err)
		}
		if this.stall {
			<-done
			return
		}
		w.WriteHeader(this.code)
		fmt.Fprint(w, this.body)
	}))
	t.Cleanup(func() {
		close(done)
		server.Close()
		if next != len(responses) {
			t.Errorf("%d of %d responses were asked for", next, len(responses))
		}
	})
	client, err := prom.New(server.URL, "")
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func success(data string) response {
	return response{code: http.StatusOK, body: `{"status":"success","data":` + data + `}`}
}

func TestQuery(t *testing.T) {
	for _, test := range []struct {
		name string
		data string
		want string
	}{
		{"vector", `{"resultType":"vector","result":[{"metric":{"a":"b"},"value":[1,"2.5"]}]}`, "[map[a:b]=2.5 at 1]"},
		{"two series", `{"resultType":"vector","result":[{"metric":{"a":"b"},"value":[1,"1"]},{"metric":{"a":"c"},"value":[1,"2"]}]}`, "[map[a:b]=1 at 1 map[a:c]=2 at 1]"},
		{"no series", `{"resultType":"vector","result":[]}`, "[]"},
		{"scalar", `{"resultType":"scalar","result":[1,"3"]}`, "[map[]=3 at 1]"},
		{"infinity", `{"resultType":"scalar","result":[1,"+Inf"]}`, "[map[]=+Inf at 1]"},
		{"a remark", `{"resultType":"scalar","result":[1,"3"]},"infos":["PromQL info: metric might not be a counter"]`, "[map[]=3 at 1]"},
		{"a remark of an older server", `{"resultType":"scalar","result":[1,"3"]},"warnings":["PromQL info: metric might not be a counter"]`, "[map[]=3 at 1]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			samples, err := serve(t, success(test.data)).Query(t.Context(), "up")
			got := []string{}
			for _, s := range samples {
				got = append(got, fmt.Sprintf("%v=%v at %d", s.Labels, s.Value, s.Time.Unix()))
			}
			if err != nil || fmt.Sprint(got) != test.want {
				t.Errorf("%v, error %v", got, err)
			}
		})
	}
}

func TestNaNStaysNaN(t *testing.T) {
	samples, err := serve(t, success(`{"resultType":"vector","result":[{"metric":{},"value":[1,"NaN"]}]}`)).Query(t.Context(), "up")
	if err != nil || len(samples) != 1 || !math.IsNaN(samples[0].Value) {
		t.Errorf("%v, error %v", samples, err)
	}
}

func TestErrors(t *testing.T) {
	badQuery := response{code: http.StatusBadRequest, body: `{"status":"error","errorType":"bad_data","error":"1:3: parse error"}`}
	broken := response{code: http.StatusServiceUnavailable, body: "overloaded"}
	for _, test := range []struct {
		name      string
		responses []response
		want      string
	}{
		{"a string", []response{success(`{"resultType":"string","result":[1,"x"]}`)}, `unexpected value type "string"`},
		{"a range", []response{success(`{"resultType":"matrix","result":[]}`)}, "returns a matrix, not a number"},
		{"a native histogram", []response{success(`{"resultType":"vector","result":[{"metric":{},"histogram":[1,{"count":"1","sum":"1","buckets":[[0,"0","1","1"]]}]}]}`)}, "returns a native histogram"},
		{"a partial response", []response{{code: http.StatusOK, body: `{"status":"success","warnings":["store x is unavailable"],"data":{"resultType":"scalar","result":[1,"3"]}}`}}, "the server warns: store x is unavailable"},
		{"a bad query is not asked twice", []response{badQuery}, "refuses the query: 1:3: parse error"},
		{"a server that fails is asked twice", []response{broken, broken}, "fails: server error: 503"},
		{"junk", []response{{code: http.StatusOK, body: "<html>"}}, "does not answer like Prometheus"},
		{"a stall", []response{{stall: true}}, "did not answer in time"},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := serve(t, test.responses...).Query(ctx, "up")
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v does not say %q", err, test.want)
			}
		})
	}
}

func TestAFailureThatPassesIsNotNoticed(t *testing.T) {
	client := serve(t, response{code: http.StatusServiceUnavailable}, success(`{"resultType":"scalar","result":[1,"3"]}`))
	if samples, err := client.Query(t.Context(), "up"); err != nil || samples[0].Value != 3 {
		t.Errorf("%v, error %v", samples, err)
	}
}

func TestNobodyListens(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	client, err := prom.New(server.URL, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Query(t.Context(), "up"); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("error %v", err)
	}
}

func TestAddressHidesThePassword(t *testing.T) {
	client, err := prom.New("http://ann:secret@localhost:9090/prefix", "")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(client.Address(), "secret") {
		t.Error(client.Address())
	}
	for _, bad := range []string{"", "localhost:9090", "ftp://x", "http://", "://"} {
		if _, err := prom.New(bad, ""); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// A server behind a proxy requires a token, a tenant and a path.
func TestHTTPConfig(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer t0k3n" || r.Header.Get("X-Scope-Orgid") != "team-a" || r.URL.Path != "/prometheus/api/v1/query" {
			t.Errorf("%s with %v", r.URL, r.Header)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"status":"success","data":{"resultType":"scalar","result":[1,"7"]}}`)
	}))
	defer server.Close()
	folder := t.TempDir()
	write := func(name, content string) string {
		t.Helper()
		file := filepath.Join(folder, name)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	write("token", "t0k3n")
	file := write("http.yaml", "authorization: {credentials_file: token}\nhttp_headers: {X-Scope-OrgID: {values: [team-a]}}\n")
	client, err := prom.New(server.URL+"/prometheus", file)
	if err != nil {
		t.Fatal(err)
	}
	samples, err := client.Query(t.Context(), "up")
	if err != nil || len(samples) != 1 || samples[0].Value != 7 {
		t.Errorf("samples %v: %v", samples, err)
	}
	for name, content := range map[string]string{"unknown field": "bearer: x\n", "a secret in the wrong place": "basic_auth: s3cret\n", "not YAML": "{"} {
		_, err := prom.New(server.URL, write("bad.yaml", content))
		if err == nil || strings.Contains(err.Error(), "s3cret") || !strings.Contains(err.Error(), "http_config") {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if _, err := prom.New(server.URL, filepath.Join(folder, "nowhere")); err == nil {
		t.Error("a file that is not there is accepted")
	}
}

// Basic authentication and certificates of both sides, with files relative to
// the http_config.
func TestHTTPConfigWithCertificates(t *testing.T) {
	ca, server, client := certificates(t)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	pair, err := tls.X509KeyPair(server.certificate, server.key)
	if err != nil {
		t.Fatal(err)
	}
	listening := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "ann" || password != "s3cret" || len(r.TLS.PeerCertificates) != 1 {
			t.Errorf("%s %s with %d certificates", user, password, len(r.TLS.PeerCertificates))
		}
		_, _ = io.WriteString(w, `{"status":"success","data":{"resultType":"scalar","result":[1,"7"]}}`)
	}))
	listening.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
	listening.Config.ErrorLog = log.New(io.Discard, "", 0) // it logs the handshakes that must fail
	listening.StartTLS()
	defer listening.Close()
	folder := t.TempDir()
	for name, content := range map[string][]byte{
		"ca.pem": ca, "client.pem": client.certificate, "client.key": client.key, "password": []byte("s3cret\n"),
		"http.yaml":    []byte("basic_auth: {username: ann, password_file: password}\ntls_config: {ca_file: ca.pem, cert_file: client.pem, key_file: client.key}\n"),
		"no-cert.yaml": []byte("tls_config: {ca_file: ca.pem}\n"),
		"no-ca.yaml":   []byte("tls_config: {cert_file: client.pem, key_file: client.key}\n"),
	} {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"http.yaml": "", "no-cert.yaml": "certificate required", "no-ca.yaml": "certificate signed by unknown authority"} {
		t.Run(name, func(t *testing.T) {
			asking, err := prom.New(listening.URL, filepath.Join(folder, name))
			if err != nil {
				t.Fatal(err)
			}
			samples, err := asking.Query(t.Context(), "up")
			if want == "" && (err != nil || len(samples) != 1 || samples[0].Value != 7) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("samples %v: %v", samples, err)
			}
		})
	}
}

// pair is a certificate and its key, in PEM.
type pair struct{ certificate, key []byte }

// certificates creates an authority, and certificates signed by it for a server
// on loopback and for a client.
func certificates(t *testing.T) (ca []byte, server, client pair) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	authority := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	root, err := x509.CreateCertificate(rand.Reader, authority, authority, authorityKey.Public(), authorityKey)
	check(err)
	sign := func(usage x509.ExtKeyUsage) pair {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		check(err)
		template := &x509.Certificate{SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{usage}}
		signed, err := x509.CreateCertificate(rand.Reader, template, authority, key.Public(), authorityKey)
		check(err)
		encoded, err := x509.MarshalECPrivateKey(key)
		check(err)
		return pair{pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: encoded})}
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root}), sign(x509.ExtKeyUsageServerAuth), sign(x509.ExtKeyUsageClientAuth)
}
