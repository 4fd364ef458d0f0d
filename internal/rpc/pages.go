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
	var all []SegmentInfo
	req := SegmentsRequest{Journal: id, Limit: SegmentsPageMax}
	for {
		p, err := page(ctx, req)
		if err != nil {
			return nil, err
		}
		for _, s := range p.Segments {
			if s.First <= req.After {
				return nil, fmt.Errorf("qjm: list of segments goes back (got %d, want more than %d)", s.First, req.After)
			}
			req.After = s.First
		}
		all = append(all, p.Segments...)
		switch {
		case len(all) > SegmentsMax:
			return nil, fmt.Errorf("%w: journal %s has more than %d segments", ErrTooLarge, id, SegmentsMax)
		case !p.More:
			return all, nil
		case len(p.Segments) == 0:
			return nil, fmt.Errorf("qjm: list of segments has an empty page after %d, and more behind it", req.After)
		}
	}
}
