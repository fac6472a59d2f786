package network

import (
	"net/netip"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

func TestServiceName(t *testing.T) {
	for host, want := range map[string][3]string{
		"ratings.svc.cluster.local":            {"shop", "ratings", ""},
		"ratings.prod.svc.cluster.local":       {"prod", "ratings", ""},
		"web-0.web.prod.svc.cluster.local":     {"prod", "web", "web-0"},
		"api.example.com":                      {},
		"a.web-0.web.prod.svc.cluster.local":   {},
		"ratings.prod.svc.cluster.local.local": {},
	} {
		namespace, name, pod, ok := ServiceName(host, "shop")
		if got := [3]string{namespace, name, pod}; got != want || ok != (want[1] != "") {
			t.Errorf("%s: %v, %v", host, got, ok)
		}
	}
}

func TestAnswer(t *testing.T) {
	address := netip.MustParseAddr("10.96.0.7")
	resolve := func(host string, client netip.Addr) []netip.Addr {
		if host != "ratings.prod.svc.cluster.local" || client != netip.MustParseAddr("10.77.1.1") {
			return nil
		}
		return []netip.Addr{address}
	}
	for _, test := range []struct {
		name    string
		kind    dnsmessage.Type
		code    dnsmessage.RCode
		answers int
	}{
		{"Ratings.prod.svc.cluster.local.", dnsmessage.TypeA, dnsmessage.RCodeSuccess, 1},
		{"ratings.prod.svc.cluster.local.", dnsmessage.TypeAAAA, dnsmessage.RCodeSuccess, 0},
		{"nothing.prod.svc.cluster.local.", dnsmessage.TypeA, dnsmessage.RCodeNameError, 0},
	} {
		question := dnsmessage.Message{
			Header:    dnsmessage.Header{ID: 7, RecursionDesired: true},
			Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(test.name), Type: test.kind, Class: dnsmessage.ClassINET}},
		}
		packed, err := question.Pack()
		if err != nil {
			t.Fatal(err)
		}
		packed, err = answerTo(packed, netip.MustParseAddr("10.77.1.1"), resolve)
		if err != nil {
			t.Fatal(err)
		}
		var answer dnsmessage.Message
		if err := answer.Unpack(packed); err != nil {
			t.Fatal(err)
		}
		if answer.ID != 7 || !answer.Response || answer.RCode != test.code || len(answer.Answers) != test.answers {
			t.Errorf("%s %s: %+v", test.name, test.kind, answer)
		}
	}
}
