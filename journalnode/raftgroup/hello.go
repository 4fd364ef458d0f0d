package raftgroup

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"time"
)

// A hello is the first bytes of every stream, from the side that dialled:
//
//	magic "qjmr" | version u8 | cluster 16 | from: length u8, bytes | to: length u8, bytes
const (
	// HelloMagic begins a hello; a listener that serves more than Raft tells streams apart by it.
	HelloMagic = "qjmr"
	// HelloVersion is the version that this code speaks.
	HelloVersion = 1
	// HelloTimeout bounds how long either side waits for the other one.
	HelloTimeout = 5 * time.Second
)

const helloFixed = len(HelloMagic) + 1 + 16

// WriteHello introduces the dialling side. It closes conn on an error.
func WriteHello(conn net.Conn, cluster [16]byte, from, to ServerID) error {
	err := writeHello(conn, cluster, from, to)
	if err != nil {
		_ = conn.Close()
	}
	return err
}

func writeHello(conn net.Conn, cluster [16]byte, from, to ServerID) error {
	for _, id := range []ServerID{from, to} {
		if err := id.Validate(); err != nil {
			return err
		}
	}
	b := append(make([]byte, 0, helloFixed+2+len(from)+len(to)), HelloMagic...)
	b = append(b, HelloVersion)
	b = append(b, cluster[:]...)
	for _, id := range []ServerID{from, to} {
		b = append(append(b, byte(len(id))), id...)
	}
	if err := conn.SetWriteDeadline(time.Now().Add(HelloTimeout)); err != nil {
		return fmt.Errorf("raftgroup: hello: %w", err)
	}
	if _, err := conn.Write(b); err != nil {
		return fmt.Errorf("raftgroup: hello: %w", err)
	}
	return conn.SetWriteDeadline(time.Time{})
}

// ReadHello reads a hello, and nothing behind it, and matches it: a stream of another cluster, or one
// that is meant for another server, an older incarnation of this node above all, is closed and a
// HelloError returned (G4).
func ReadHello(conn net.Conn, cluster [16]byte, self ServerID) (ServerID, error) {
	from, err := readHello(conn, cluster, self)
	if err != nil {
		_ = conn.Close()
		return "", err
	}
	return from, nil
}

func readHello(conn net.Conn, cluster [16]byte, self ServerID) (ServerID, error) {
	if err := conn.SetReadDeadline(time.Now().Add(HelloTimeout)); err != nil {
		return "", fmt.Errorf("raftgroup: hello: %w", err)
	}
	var fixed [helloFixed]byte
	if _, err := io.ReadFull(conn, fixed[:]); err != nil {
		return "", fmt.Errorf("raftgroup: hello: %w", err)
	}
	m := len(HelloMagic)
	if string(fixed[:m]) != HelloMagic {
		return "", &HelloError{Field: "magic", Got: fmt.Sprintf("%q", fixed[:m]), Want: fmt.Sprintf("%q", HelloMagic)}
	}
	if fixed[m] != HelloVersion {
		return "", &HelloError{Field: "version", Got: fmt.Sprint(fixed[m]), Want: fmt.Sprint(HelloVersion)}
	}
	if !bytes.Equal(fixed[m+1:], cluster[:]) {
		return "", &HelloError{Field: "cluster", Got: fmt.Sprintf("%x", fixed[m+1:]), Want: fmt.Sprintf("%x", cluster)}
	}
	from, err := readID(conn)
	if err != nil {
		return "", err
	}
	to, err := readID(conn)
	if err != nil {
		return "", err
	}
	if to != self {
		return "", &HelloError{Field: "to", Got: string(to), Want: string(self)}
	}
	if from == self {
		return "", &HelloError{Field: "from", Got: string(from), Want: "another server"}
	}
	return from, conn.SetReadDeadline(time.Time{})
}

func readID(conn net.Conn) (ServerID, error) {
	var n [1]byte
	if _, err := io.ReadFull(conn, n[:]); err != nil {
		return "", fmt.Errorf("raftgroup: hello: %w", err)
	}
	b := make([]byte, n[0])
	if _, err := io.ReadFull(conn, b); err != nil {
		return "", fmt.Errorf("raftgroup: hello: %w", err)
	}
	id := ServerID(b)
	if err := id.Validate(); err != nil {
		return "", &HelloError{Field: "server id", Got: fmt.Sprintf("%.64q", b), Want: "id/incarnation"}
	}
	return id, nil
}
