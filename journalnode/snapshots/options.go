package snapshots

import (
	"errors"
	"fmt"
)

// Options of a store. The zero value is good.
type Options struct {
	// BlockBytes is the content of a block of a new file: the unit of verification, and the memory that one
	// upload or reader takes. Default 1 MiB, at most BlockBytesMax.
	BlockBytes int
	// SyncBytes bounds what is written without a sync, so that no single sync of a large snapshot holds up
	// those of appends. Default 8 MiB.
	SyncBytes int64
	// UploadsMax bounds the uploads, those under way and those that may be resumed. Default 4.
	UploadsMax int
	// UploadBytesMax bounds the bytes of all uploads together. Default 1 TiB.
	UploadBytesMax int64
	// QuotaBytes bounds the bytes of all snapshots and uploads together; what was put aside is not counted.
	// 0: no quota.
	QuotaBytes int64
}

func (o Options) withDefaults() Options {
	if o.BlockBytes == 0 {
		o.BlockBytes = 1 << 20
	}
	if o.SyncBytes == 0 {
		o.SyncBytes = 8 << 20
	}
	if o.UploadsMax == 0 {
		o.UploadsMax = 4
	}
	if o.UploadBytesMax == 0 {
		o.UploadBytesMax = 1 << 40
	}
	return o
}

func (o Options) validate() error {
	var errs []error
	check := func(ok bool, what string, got int64) {
		if !ok {
			errs = append(errs, fmt.Errorf("%w: option %s is out of range (got %d)", ErrInvalid, what, got))
		}
	}
	check(o.BlockBytes >= blockBytesMin && o.BlockBytes <= BlockBytesMax, "BlockBytes", int64(o.BlockBytes))
	check(o.SyncBytes >= 1, "SyncBytes", o.SyncBytes)
	check(o.UploadsMax >= 1, "UploadsMax", int64(o.UploadsMax))
	check(o.UploadBytesMax >= 1, "UploadBytesMax", o.UploadBytesMax)
	check(o.QuotaBytes >= 0, "QuotaBytes", o.QuotaBytes)
	return errors.Join(errs...)
}
