package rpc

import (
	"context"
	"fmt"

	"github.com/quorumjournal/qjm/segments"
)

// AllSegments asks for page after page until the list is whole. It is bounded whatever the node answers:
// each page must go on behind the one before it, and there are at most SegmentsMax segments, else the
// error is ErrTooLarge.
func AllSegments(
	ctx context.Context, id segments.JournalID, page func(context.Context, SegmentsRequest) (SegmentsPage, error),
) ([]SegmentInfo, error) {
	all, err := WholeList(ctx, id, page)
	return all.Segments, err
}

// WholeList is AllSegments with the purge point that came with the last page: it only rises, so all of the
// list was there under it or a lower one.
func WholeList(
	ctx context.Context, id segments.JournalID, page func(context.Context, SegmentsRequest) (SegmentsPage, error),
) (SegmentsPage, error) {
	var all SegmentsPage
	req := SegmentsRequest{Journal: id, Limit: SegmentsPageMax}
	for {
		p, err := page(ctx, req)
		if err != nil {
			return SegmentsPage{}, err
		}
		for _, s := range p.Segments {
			if s.First <= req.After {
				return SegmentsPage{}, fmt.Errorf("qjm: list of segments goes back (got %d, want more than %d)", s.First, req.After)
			}
			req.After = s.First
		}
		all.Segments, all.Purged = append(all.Segments, p.Segments...), p.Purged
		switch {
		case len(all.Segments) > SegmentsMax:
			return SegmentsPage{}, fmt.Errorf("%w: journal %s has more than %d segments", ErrTooLarge, id, SegmentsMax)
		case !p.More:
			return all, nil
		case len(p.Segments) == 0:
			return SegmentsPage{}, fmt.Errorf("qjm: list of segments has an empty page after %d, and more behind it", req.After)
		}
	}
}
