package memstore

import (
	"crypto/sha256"
	"hash/maphash"

	"github.com/stint-go/stint/policy"
)

// maxNamed is the longest key or partition that is kept as it is.
const maxNamed = 128

// A name says whose state it is.
type name struct {
	key  string
	part string // the partition; "" if it is the key itself
	long uint8  // which of the two are digests: nothing spells what another hashes to
}

const (
	longKey uint8 = 1 << iota
	longPart
)

func nameOf(c *policy.Charge) name {
	n := name{key: c.Key, part: c.Partition}
	if n.part == n.key {
		n.part = ""
	}
	if len(n.key) > maxNamed {
		n.key, n.long = digest(n.key), n.long|longKey
	}
	if len(n.part) > maxNamed {
		n.part, n.long = digest(n.part), n.long|longPart
	}
	return n
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return string(sum[:])
}

func (n *name) hash(seed maphash.Seed) uint64 {
	h := maphash.String(seed, n.key)
	if n.part != "" {
		h = h*0x9e3779b97f4a7c15 ^ maphash.String(seed, n.part)
	}
	return h
}
