package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/quorumjournal/qjm/libqjm"
)

const (
	keyBytesMax   = 512
	valueBytesMax = 1 << 20
	sessionTTL    = 10 * time.Minute
)

var errBad = errors.New("bad request")

// server answers requests from one replica.
type server struct {
	replica *libqjm.Replica
	store   *store
}

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range map[string]func(http.ResponseWriter, *http.Request) error{
		"GET /kv/{key...}": s.get, "PUT /kv/{key...}": s.change, "DELETE /kv/{key...}": s.change,
		"POST /session": s.openSession, "GET /status": s.status,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			timeout, err := time.ParseDuration(cmp.Or(r.Header.Get("Qjm-Timeout"), "5s"))
			ctx, cancel := context.WithTimeout(r.Context(), timeout)
			defer cancel()
			if key := r.PathValue("key"); err != nil || len(key) > keyBytesMax || !utf8.ValidString(key) {
				err = fmt.Errorf("%w: the key, or Qjm-Timeout", errBad)
			} else {
				err = h(w, r.WithContext(ctx))
			}
			if err != nil {
				fail(w, r, err)
			}
		})
	}
	return mux
}

// get waits until this replica's state is as fresh as the read has to be, and reads it.
func (s *server) get(w http.ResponseWriter, r *http.Request) error {
	bound, err1 := time.ParseDuration(cmp.Or(r.FormValue("within"), "100ms"))
	after, err2 := strconv.ParseUint(cmp.Or(r.FormValue("after"), "0"), 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("%w: %w", errBad, err)
	}
	var err error
	switch r.FormValue("read") {
	case "", "linearizable":
		_, err = s.replica.AwaitLinearizable(r.Context())
	case "lease":
		_, err = s.replica.AwaitLease(r.Context())
	case "fresh":
		_, err = s.replica.AwaitFresh(r.Context(), bound)
	case "stale":
	default:
		err = fmt.Errorf("%w: read is none of linearizable, lease, fresh, stale", errBad)
	}
	if err != nil {
		return err
	}
	applied, err := s.replica.WaitApplied(r.Context(), libqjm.TxID(after))
	if err != nil {
		return err
	}
	it, there, at := s.store.get(r.PathValue("key"))
	w.Header().Set("Qjm-Applied", fmt.Sprint(max(applied, at))) // more may have been applied since
	if !there {
		w.WriteHeader(http.StatusNotFound)
		return nil
	}
	w.Header().Set("ETag", etag(it.TxID))
	_, err = w.Write(it.Value)
	return err
}

// change has a PUT or a DELETE committed and applied, and answers what came of it.
func (s *server) change(w http.ResponseWriter, r *http.Request) error {
	match, none := r.Header.Get("If-Match"), r.Header.Get("If-None-Match")
	c := command{Key: r.PathValue("key"), Delete: r.Method == http.MethodDelete, IfAbsent: none != ""}
	_, _ = fmt.Sscanf(match, `"%d"`, &c.IfTxID)
	if match != "" && (match != etag(c.IfTxID) || c.IfTxID == 0) || none != "" && (none != "*" || c.Delete || match != "") {
		return fmt.Errorf("%w: want If-Match with an ETag, or If-None-Match: * of a PUT", errBad)
	}
	var err1, err2 error
	c.Value, err1 = io.ReadAll(http.MaxBytesReader(w, r.Body, valueBytesMax))
	session, err2 := sessionOf(r.Header)
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("%w: %w", errBad, err)
	}
	data, _ := json.Marshal(c) // it has nothing that JSON has not
	applied, err := s.replica.Propose(r.Context(), libqjm.Proposal{Data: data, Session: session})
	if err != nil {
		return err
	}
	var status int
	var txid libqjm.TxID
	if _, err := fmt.Sscan(string(applied.Result), &status, &txid); err != nil {
		return err
	}
	if txid != 0 {
		w.Header().Set("ETag", etag(txid))
	}
	w.WriteHeader(status)
	return nil
}

func etag(txid libqjm.TxID) string { return fmt.Sprintf(`"%d"`, txid) }

// sessionOf returns nil where a request is in no session.
func sessionOf(h http.Header) (*libqjm.SessionRef, error) {
	if h.Get("Qjm-Session") == "" {
		return nil, nil
	}
	var ref libqjm.SessionRef
	var id []byte
	_, err := fmt.Sscanf(h.Get("Qjm-Session")+" "+h.Get("Qjm-Seq")+" "+h.Get("Qjm-Awaited"), "%x %d %d", &id, &ref.Seq, &ref.Awaited)
	if copy(ref.ID[:], id); err != nil || len(id) != len(ref.ID) || ref.Awaited == 0 || ref.Awaited > ref.Seq {
		return nil, errors.New("want Qjm-Session of 32 hex digits, and 1 <= Qjm-Awaited <= Qjm-Seq")
	}
	return &ref, nil
}

func (s *server) openSession(w http.ResponseWriter, r *http.Request) error {
	var id libqjm.SessionID
	_, _ = rand.Read(id[:]) // it never fails
	if err := s.replica.OpenSession(r.Context(), id, sessionTTL); err != nil {
		return err
	}
	w.Header().Set("Qjm-Session", hex.EncodeToString(id[:]))
	w.WriteHeader(http.StatusCreated)
	return nil
}

func (s *server) status(w http.ResponseWriter, _ *http.Request) error {
	st := s.replica.Status()
	return json.NewEncoder(w).Encode(map[string]any{
		"name": st.Name, "role": st.Role.String(), "epoch": st.Epoch, "applied": st.Applied, "active": st.Active, "addr": st.Addr,
	})
}

// fail says what went wrong, and in Qjm-Outcome whether the change may be made nonetheless.
func fail(w http.ResponseWriter, r *http.Request, err error) {
	code := http.StatusServiceUnavailable
	notActive, _ := errors.AsType[*libqjm.NotActiveError](err)
	switch {
	case errors.Is(err, errBad):
		code = http.StatusBadRequest
	case notActive != nil && notActive.Addr != "":
		code = http.StatusTemporaryRedirect
		w.Header().Set("Location", notActive.Addr+r.URL.RequestURI())
	case r.Method == http.MethodGet:
	case libqjm.MayHaveCommitted(err), errors.Is(err, libqjm.ErrSession), errors.Is(err, libqjm.ErrSessionForgotten):
		code = http.StatusGatewayTimeout // by this try, or by one before it
		w.Header().Set("Qjm-Outcome", "unknown")
	default:
		w.Header().Set("Qjm-Outcome", "not-done")
	}
	if code == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	http.Error(w, err.Error(), code)
}
