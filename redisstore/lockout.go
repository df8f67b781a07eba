package redisstore

import "github.com/stint-go/stint/policy"

// blocks are how long a lock-out blocks, in microseconds.
type blocks []int64

// blocksOf returns the blocks of a lock-out: the same for the same one.
func (s *Store) blocksOf(l *policy.Limit) *blocks {
	if known, ok := s.lockouts.Load(*l); ok {
		return known.(*blocks)
	}
	lengths := l.Blocks()
	b := make(blocks, len(lengths))
	for i, length := range lengths {
		b[i] = length.Microseconds()
	}
	known, _ := s.lockouts.LoadOrStore(*l, &b)
	return known.(*blocks)
}
