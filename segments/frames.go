package segments

// ParseFrames splits a concatenation of whole frames. The frames share b's bytes. Errors are those of
// ParseFrame; a rest that is no whole frame is one.
func ParseFrames(b []byte) ([]Frame, error) {
	var frames []Frame
	for len(b) > 0 {
		f, err := ParseFrame(b)
		if err != nil {
			return nil, err
		}
		frames, b = append(frames, f), b[f.Size():]
	}
	return frames, nil
}
