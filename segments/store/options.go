package store

import (
	"errors"
	"fmt"
)

// Options of a segment directory. The zero value is good.
type Options struct {
	// PreallocateBytes is the size a new segment's file starts with. Default 256 KiB.
	PreallocateBytes int64
	// PreallocateBytesMax bounds the steps a file grows in; they double from PreallocateBytes.
	// Default 16 MiB.
	PreallocateBytesMax int64
	// BufferBytes bounds what a writer collects before it writes, without a sync, ahead of Commit.
	// Default 4 MiB.
	BufferBytes int
	// CachedBytes is how much of what was appended last may stay in the system's page cache: for those who follow,
	// and for a restart. Default 16 MiB.
	CachedBytes int64
	// FootersCached bounds how many indexes of finalized segments are kept in memory. Default 64.
	FootersCached int
}

func (o Options) withDefaults() Options {
	if o.PreallocateBytes == 0 {
		o.PreallocateBytes = 256 << 10
	}
	if o.PreallocateBytesMax == 0 {
		o.PreallocateBytesMax = max(16<<20, o.PreallocateBytes)
	}
	if o.BufferBytes == 0 {
		o.BufferBytes = 4 << 20
	}
	if o.CachedBytes == 0 {
		o.CachedBytes = 16 << 20
	}
	if o.FootersCached == 0 {
		o.FootersCached = 64
	}
	return o
}

func (o Options) validate() error {
	var errs []error
	check := func(ok bool, what string, got int64) {
		if !ok {
			errs = append(errs, fmt.Errorf("store: option %s is out of range (got %d)", what, got))
		}
	}
	check(o.PreallocateBytes >= 8<<10, "PreallocateBytes", o.PreallocateBytes)
	check(o.PreallocateBytesMax >= o.PreallocateBytes, "PreallocateBytesMax", o.PreallocateBytesMax)
	check(o.BufferBytes >= 1<<10, "BufferBytes", int64(o.BufferBytes))
	check(o.CachedBytes >= 0, "CachedBytes", o.CachedBytes)
	check(o.FootersCached >= 1, "FootersCached", int64(o.FootersCached))
	return errors.Join(errs...)
}
