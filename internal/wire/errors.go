package wire

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	"github.com/quorumjournal/qjm/internal/rpc"
)

// errorDomain marks our reasons among those of proxies and libraries.
const errorDomain = "qjm"

// ErrMalformedReply: the node answered with something that cannot be read. The outcome is unknown. It
// is no rpc.ErrBadRequest, which would be the node's word that there was no effect.
var ErrMalformedReply = errors.New("qjm: malformed reply")

// class is one class that an error belongs to, with the facts of its struct.
type class struct {
	reason string
	code   codes.Code
	facts  map[string]string
}

// classify lists the classes of an error, the one that names it first. Those that follow from one
// before them are left out: a *FencedError is ErrFenced anyway.
func classify(err error, depth int) []class {
	var classes []class
	var rebuilt []error
	for _, r := range table {
		if !errors.Is(err, r.class) || errors.Is(errors.Join(rebuilt...), r.class) {
			continue
		}
		f := newFacts()
		f.depth = depth
		for _, s := range r.shapes {
			if s.put(f, err, r.class) {
				f.set("type", s.name)
				break
			}
		}
		classes = append(classes, class{reason: r.reason, code: r.code, facts: f.m})
		rebuilt = append(rebuilt, rebuild(r.reason, f))
	}
	return classes
}

// rebuild makes the error of a reason again: the struct if its facts are there and can be read, else
// the bare class, so that a later version's facts never cost the class. An unknown reason gives nil.
func rebuild(reason string, f *facts) error {
	r, ok := rowOf(reason)
	if !ok {
		return nil
	}
	for _, s := range r.shapes {
		if f.has("type") && f.get("type") == s.name {
			if err := s.take(f, r.class); f.err == nil {
				return err
			}
		}
	}
	return r.class
}

// remoteError is an error that was more at its origin than one of ours: the text it had there, and the
// classes and structs that were in it.
type remoteError struct {
	text    string
	classes []error
}

func (e *remoteError) Error() string   { return e.text }
func (e *remoteError) Unwrap() []error { return e.classes }

// assemble gives the classes the text they had; an error that already says just that stays bare.
func assemble(text string, classes []error) error {
	if len(classes) == 1 && classes[0].Error() == text {
		return classes[0]
	}
	return &remoteError{text: text, classes: classes}
}

// toStatus turns an error of a service into a gRPC status: one ErrorInfo per class. nil stays nil.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	classes := classify(err, 0)
	if len(classes) == 0 {
		return status.Error(codes.Unknown, text(err.Error()))
	}
	st := status.New(classes[0].code, text(err.Error()))
	var details []protoadapt.MessageV1
	for _, c := range classes {
		details = append(details, &errdetails.ErrorInfo{Reason: c.reason, Domain: errorDomain, Metadata: c.facts})
	}
	with, failed := st.WithDetails(details...)
	if failed != nil { // not a proto message, or code OK: neither can be
		return st.Err()
	}
	return with.Err()
}

// fromStatus turns the error of a gRPC call back into the service's. peer says who was called.
func fromStatus(peer string, err error) error {
	if err == nil {
		return nil
	}
	st, ok := status.FromError(err)
	if !ok {
		st = status.FromContextError(err)
	}
	var classes []error
	for _, d := range st.Details() {
		info, ok := d.(*errdetails.ErrorInfo)
		if !ok || info.Domain != errorDomain {
			continue
		}
		if e := rebuild(info.Reason, &facts{m: info.Metadata}); e != nil {
			classes = append(classes, e)
		}
	}
	// A reason is the service's word, except that it got no word itself.
	if len(classes) > 0 && !isContextError(classes[0]) {
		return assemble(st.Message(), classes)
	}
	switch st.Code() {
	case codes.Canceled:
		return &unavailableError{peer, st.Message(), []error{context.Canceled, err}}
	case codes.DeadlineExceeded:
		return &unavailableError{peer, st.Message(), []error{context.DeadlineExceeded, err}}
	case codes.Unavailable:
		return &unavailableError{peer, st.Message(), []error{err}}
	}
	return assemble(st.Message(), classes)
}

func isContextError(err error) bool {
	return err == context.Canceled || err == context.DeadlineExceeded
}

// unavailableError says that a node was not reached, or gave no answer.
type unavailableError struct {
	peer   string
	text   string
	causes []error
}

func (e *unavailableError) Error() string {
	return fmt.Sprintf("%v: %s: %s", rpc.ErrUnavailable, e.peer, e.text)
}

// Is makes errors.Is(err, rpc.ErrUnavailable) true.
func (e *unavailableError) Is(target error) bool { return target == rpc.ErrUnavailable }

func (e *unavailableError) Unwrap() []error { return e.causes }

// printed is how %v shows a value.
func printed(v any) string { return fmt.Sprintf("%v", v) }

// fromCaller names what broke a stream on the server's side. A message above the limit is refused by
// the transport, which ends the stream; anything else means that the caller is gone.
func fromCaller(err error) error {
	if status.Code(err) == codes.ResourceExhausted {
		return fmt.Errorf("%w: %s", rpc.ErrTooLarge, status.Convert(err).Message())
	}
	return fromStatus("the caller", err)
}
