package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// replica is one of the service's processes, as clients see it.
type replica struct {
	name, addr  string
	incarnation func() int
}

// request to one replica.
type request struct {
	method, path string
	header       map[string]string
	body         string
	timeout      time.Duration
}

// answer of one replica.
type answer struct {
	replica, incarnation  int
	status                int
	body, session         string
	etag, applied         uint64
	location, outcome, id string
	err                   error // none came
	sent                  bool  // the request may have left
	odd                   string
}

// errNotSent: there was no connection to send a request by.
var errNotSent = errors.New("no connection")

const (
	bodyMax    = 1 << 20
	hopsMax    = 4
	answerLate = 500 * time.Millisecond // beyond the timeout that the replica was told
)

// transport sends requests of one client by connections of its own, under the network's rule.
type transport struct {
	net      *network
	from     string
	replicas []replica
	http     *http.Client
}

func newTransport(n *network, from string, replicas []replica) *transport {
	t := &transport{net: n, from: from, replicas: replicas}
	t.http = &http.Client{
		Transport:     &http.Transport{DialContext: t.dial, MaxIdleConnsPerHost: 4},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return t
}

// dial: no connection begins on a way that is cut.
func (t *transport) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	i := t.at(addr)
	if i < 0 {
		return nil, fmt.Errorf("%w: nobody is at %s", errNotSent, addr)
	}
	for _, w := range []way{{t.from, t.replicas[i].name}, {t.replicas[i].name, t.from}} {
		if !t.net.pass(w, ctx.Done()) {
			return nil, fmt.Errorf("%w: %w", errNotSent, context.Cause(ctx))
		}
	}
	incarnation := t.replicas[i].incarnation()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotSent, err)
	}
	g := t.net.gate(c, t.from, t.replicas[i].name)
	g.incarnation = incarnation
	return g, nil
}

// at returns which replica is at an address, or -1.
func (t *transport) at(addr string) int {
	for i, r := range t.replicas {
		if r.addr == addr {
			return i
		}
	}
	return -1
}

func (t *transport) close() { t.http.CloseIdleConnections() }

// ask sends a request to one replica.
func (t *transport) ask(ctx context.Context, to int, r request) answer {
	a := answer{replica: to}
	ctx, cancel := context.WithTimeout(ctx, r.timeout+answerLate)
	defer cancel()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
		if g, ok := i.Conn.(*gated); ok {
			a.incarnation = g.incarnation
		}
	}})
	req, err := http.NewRequestWithContext(ctx, r.method, "http://"+t.replicas[to].addr+r.path, strings.NewReader(r.body))
	if err != nil {
		a.err = err
		return a
	}
	req.Header.Set("Qjm-Timeout", r.timeout.String())
	for k, v := range r.header {
		req.Header.Set(k, v)
	}
	resp, err := t.http.Do(req)
	if err != nil {
		a.err, a.sent = err, !errors.Is(err, errNotSent)
		return a
	}
	defer resp.Body.Close()
	a.sent = true
	body, err := io.ReadAll(io.LimitReader(resp.Body, bodyMax))
	if err != nil {
		a.err = err
		return a
	}
	a.read(resp, string(body))
	return a
}

// read takes in what a replica answered, and notes what the contract does not know.
func (a *answer) read(resp *http.Response, body string) {
	a.status, a.body, a.location = resp.StatusCode, body, resp.Header.Get("Location")
	a.outcome, a.session = resp.Header.Get("Qjm-Outcome"), resp.Header.Get("Qjm-Session")
	var err1, err2 error
	if e := resp.Header.Get("ETag"); e != "" {
		a.etag, err1 = strconv.ParseUint(strings.Trim(e, `"`), 10, 64)
	}
	if n := resp.Header.Get("Qjm-Applied"); n != "" {
		a.applied, err2 = strconv.ParseUint(n, 10, 64)
	}
	if err := errors.Join(err1, err2); err != nil {
		a.odd = err.Error()
	}
}

// follow sends a request to one replica after the other, as they redirect it.
func (t *transport) follow(ctx context.Context, to int, r request) answer {
	for hop := 1; ; hop++ {
		a := t.ask(ctx, to, r)
		if a.status != http.StatusTemporaryRedirect || hop == hopsMax {
			return a
		}
		u, err := url.Parse(a.location)
		if err != nil || t.at(u.Host) < 0 {
			a.odd = fmt.Sprintf("redirected to %q", a.location)
			return a
		}
		to = t.at(u.Host)
	}
}

// writeOutcome says what came of a PUT or DELETE.
func (a *answer) writeOutcome(k Kind, conditional bool) (o Outcome, odd string) {
	switch {
	case a.err != nil && !a.sent:
		return NotDone, ""
	case a.err != nil:
		return Unknown, ""
	case a.status == http.StatusOK && k == Put, a.status == http.StatusNoContent && k == Delete:
		return OK, ""
	case a.status == http.StatusPreconditionFailed && conditional:
		return Failed, ""
	case a.status == http.StatusNotFound && k == Delete:
		return Absent, ""
	case a.status == http.StatusTemporaryRedirect, a.status == http.StatusServiceUnavailable && a.outcome == "not-done":
		return NotDone, ""
	case a.status == http.StatusGatewayTimeout && a.outcome == "unknown":
		return Unknown, ""
	}
	return Unknown, fmt.Sprintf("%s was answered %d, Qjm-Outcome %q: %.100s", k, a.status, a.outcome, a.body)
}

// readOutcome says what came of a GET.
func (a *answer) readOutcome() (o Outcome, odd string) {
	switch {
	case a.err != nil, a.status == http.StatusServiceUnavailable, a.status == http.StatusTemporaryRedirect:
		return NotDone, ""
	case a.status == http.StatusOK && a.etag != 0 && a.applied != 0:
		return OK, ""
	case a.status == http.StatusNotFound && a.etag == 0:
		return Absent, ""
	}
	return NotDone, fmt.Sprintf("get was answered %d, ETag %d, Qjm-Applied %d: %.100s", a.status, a.etag, a.applied, a.body)
}
