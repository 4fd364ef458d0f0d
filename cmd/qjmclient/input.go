package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"

	"github.com/quorumjournal/qjm/internal/cli"
)

// input splits a stream into transactions: lines, or records with a length of four bytes, big endian,
// in front.
type input struct {
	r         *bufio.Reader
	records   bool
	skipEmpty bool
	max       int
	n         int // of the line or record read last, from 1
	bytes     int64
	total     int64 // size of the file, if it is known
}

// errNoTxns refuses an input that has nothing to append.
var errNoTxns = cli.Usagef("there is no transaction in the input")

const inputBuffer = 256 << 10

func newInput(r io.Reader, records, skipEmpty bool, most int) *input {
	return &input{r: bufio.NewReaderSize(r, inputBuffer), records: records, skipEmpty: skipEmpty, max: most}
}

func (in *input) unit() string {
	if in.records {
		return "record"
	}
	return "line"
}

// next appends the next transaction to buf. Errors: io.EOF; *cli.UsageError that names the line.
func (in *input) next(buf []byte) ([]byte, error) {
	for {
		start := len(buf)
		in.n++
		var err error
		if in.records {
			buf, err = in.record(buf)
		} else {
			buf, err = in.line(buf)
		}
		if err != nil {
			return buf[:start], err
		}
		if len(buf) > start {
			return buf, nil
		}
		if !in.skipEmpty {
			return buf, cli.Usagef("%s %d is empty, and a transaction cannot be; --skip-empty leaves such %ss out", in.unit(), in.n, in.unit())
		}
	}
}

func (in *input) line(buf []byte) ([]byte, error) {
	start := len(buf)
	for {
		part, err := in.r.ReadSlice('\n')
		in.bytes += int64(len(part))
		buf = append(buf, part...)
		whole := err == nil
		if whole {
			buf = buf[:len(buf)-1]
		}
		switch {
		case len(buf)-start > in.max:
			return buf, cli.Usagef("line %d is longer than the limit of %d bytes", in.n, in.max)
		case whole:
			return buf, nil
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && len(buf) > start:
			return buf, nil // the last line may lack its end
		}
		return buf, err
	}
}

func (in *input) record(buf []byte) ([]byte, error) {
	var head [4]byte
	n, err := io.ReadFull(in.r, head[:])
	in.bytes += int64(n)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return buf, cli.Usagef("record %d is cut short in its length", in.n)
	case err != nil:
		return buf, err
	}
	size := int64(binary.BigEndian.Uint32(head[:]))
	if size > int64(in.max) {
		return buf, cli.Usagef("record %d has %d bytes, the limit is %d; is the input length-prefixed?", in.n, size, in.max)
	}
	start := len(buf)
	buf = append(buf, make([]byte, size)...)
	n, err = io.ReadFull(in.r, buf[start:])
	in.bytes += int64(n)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return buf, cli.Usagef("record %d is cut short (got %d bytes of %d)", in.n, n, size)
	}
	return buf, err
}

// ready reports whether the next transaction is here already, so that reading it will not wait.
func (in *input) ready() bool {
	have, _ := in.r.Peek(in.r.Buffered())
	if !in.records {
		return bytes.IndexByte(have, '\n') >= 0
	}
	return len(have) >= 4 && int64(len(have)-4) >= int64(binary.BigEndian.Uint32(have))
}

// txns is a run of transactions, or why there are no more.
type txns struct {
	list  [][]byte
	bytes int64 // of the input read so far
	err   error
}

// Bounds of one run.
const (
	runBytes = 256 << 10
	runTxns  = 4096
)

// runs reads the input and sends runs of what is there, without waiting for more, until it ends: the
// last run has an error, io.EOF or another.
func (in *input) runs(ctx context.Context, out chan<- txns) {
	for {
		run := in.run()
		select {
		case out <- run:
		case <-ctx.Done():
			return
		}
		if run.err != nil {
			return
		}
	}
}

func (in *input) run() txns {
	var buf []byte
	var ends []int
	var run txns
	for {
		if buf, run.err = in.next(buf); run.err != nil {
			break
		}
		ends = append(ends, len(buf))
		if len(buf) >= runBytes || len(ends) >= runTxns || !in.ready() {
			break
		}
	}
	start := 0
	for _, end := range ends {
		run.list = append(run.list, buf[start:end:end])
		start = end
	}
	run.bytes = in.bytes
	return run
}

// check reads all of the input and returns what is wrong with it, nil if nothing.
func (in *input) check() error {
	var buf []byte
	for found := false; ; found = true {
		var err error
		buf, err = in.next(buf[:0])
		switch {
		case errors.Is(err, io.EOF) && !found:
			return errNoTxns
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}
