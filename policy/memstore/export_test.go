package memstore

// States counts the states that the store holds, and those that are shared.
func (s *Store) States() (own, shared int) {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		own += sh.states
		sh.mu.Unlock()
	}
	s.overflow.mu.Lock()
	defer s.overflow.mu.Unlock()
	return own, len(s.overflow.states)
}

// Tickets counts the tickets that the store remembers.
func (s *Store) Tickets() (n int) {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		n += len(sh.settled.recent) + len(sh.settled.older)
		sh.mu.Unlock()
	}
	return n
}

// Shards counts the shards.
func (s *Store) Shards() int { return len(s.shards) }

// Calls counts the Waits that are to be called.
func (s *Store) Calls() (n int) {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		n += sh.calls.count()
		sh.mu.Unlock()
	}
	s.overflow.mu.Lock()
	defer s.overflow.mu.Unlock()
	return n + s.overflow.calls.count()
}

func (c calls[K]) count() (n int) {
	for _, state := range c {
		for _, call := range state {
			n += call.waits
		}
	}
	return n
}
