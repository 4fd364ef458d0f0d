package main

import (
	"fmt"
	"math/rand/v2"
	"sync"
)

// keyring hands out keys: few at a time, so that clients meet, and each for so many operations, so that the search for
// an order of one key's operations stays short.
type keyring struct {
	mu    sync.Mutex
	each  int
	slots []slot // guarded by mu
}

type slot struct{ generation, used int }

func newKeyring(keys, each int) *keyring { return &keyring{each: each, slots: make([]slot, keys)} }

func (k *keyring) pick(rnd *rand.Rand) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	i := rnd.IntN(len(k.slots))
	s := &k.slots[i]
	if s.used++; s.used > k.each {
		s.generation, s.used = s.generation+1, 1
	}
	return fmt.Sprintf("k%d.%d", i, s.generation)
}
