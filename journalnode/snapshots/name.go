package snapshots

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/segments"
)

const (
	finalSuffix  = ".snap"
	uploadPrefix = "upload-"
	uploadSuffix = ".tmp"
)

func finalName(txid segments.TxID) string { return fmt.Sprintf("%020d%s", uint64(txid), finalSuffix) }

func asideName(base string, reason segments.Reason, n uint64) string {
	return base + "." + string(reason) + "-" + strconv.FormatUint(n, 10)
}

// uploadName is the same for the same upload, so that it can be resumed.
func uploadName(id ID) string {
	return fmt.Sprintf("%s%020d-%020d-%v%s", uploadPrefix, uint64(id.TxID), uint64(id.Epoch), id.At.Digest, uploadSuffix)
}

// parseFinal returns 0 for what is no name of a finished snapshot.
func parseFinal(s string) segments.TxID {
	digits, _ := strings.CutSuffix(s, finalSuffix)
	v, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || finalName(segments.TxID(v)) != s {
		return 0
	}
	return segments.TxID(v)
}

// parseUpload returns the id, without the end of its frame.
func parseUpload(s string) (id ID, ok bool) {
	parts := strings.Split(strings.TrimSuffix(strings.TrimPrefix(s, uploadPrefix), uploadSuffix), "-")
	if len(parts) != 3 {
		return id, false
	}
	txid, err1 := strconv.ParseUint(parts[0], 10, 64)
	epoch, err2 := strconv.ParseUint(parts[1], 10, 64)
	digest, err3 := segments.ParseDigest(parts[2])
	id = ID{TxID: segments.TxID(txid), Epoch: fencing.Epoch(epoch), At: segments.Position{Digest: digest}}
	return id, err1 == nil && err2 == nil && err3 == nil && txid > 0 && uploadName(id) == s
}

// parseAside returns base.reason and the number.
func parseAside(s string) (key string, n uint64, ok bool) {
	i := strings.LastIndexByte(s, '-')
	if i < 0 {
		return "", 0, false
	}
	key = s[:i]
	base, reason, _ := strings.Cut(key, finalSuffix+".")
	n, err := strconv.ParseUint(s[i+1:], 10, 64)
	return key, n, err == nil && parseFinal(base+finalSuffix) != 0 && segments.Reason(reason).Valid()
}

// Files lists the finished snapshots of a directory, by file name, and changes nothing.
func Files(fsys vfs.FS, dir string) ([]string, error) {
	names, err := fsys.List(dir)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(names, func(name string) bool { return parseFinal(name) == 0 }), nil
}
