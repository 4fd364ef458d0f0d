package memfs

// Fill bounds the bytes that all files together hold at what they hold now: the disk is full. SetCapacity lifts it.
func (f *FS) Fill() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.capacity = f.used
}
