package redisstore

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"

	"github.com/stint-go/stint/policy"
)

// The keys of a store, for a namespace "stint":
//
//	stint{alice}                   the states of alice, in one value, and her
//	                               leases if they are few
//	stint{acme}|key=alice          the same, where alice's partition is acme
//	stint{alice}|log=8c1f3a90e2b47 the entries of one sliding log
//	stint{alice}|slots=d05e2b7a9c1 the leases of one concurrency limit if they are
//	                               many; and the channel of its grants
//	stint{alice}|ticket=0123…      a settled ticket, for a minute
//	stint{load}|scale              the factor that is shared as "load"
//
// What is in braces is the hash tag, so that all keys of a partition lie in one
// slot of a cluster. Partition and key are escaped, so that no two of them,
// however odd, make one Redis key.

func (s *Store) valueKey(tag string, c *policy.Charge) string {
	if c.Place() == c.Key {
		return s.namespace + "{" + tag + "}"
	}
	return s.namespace + "{" + tag + "}|key=" + escape(c.Key)
}

func (it *item) listKey() string {
	if it.log() {
		return logKey(it.value, uint64(it.limit.id))
	}
	return slotsKey(it.value, uint64(it.limit.id))
}

func logKey(valueKey string, id uint64) string {
	return hexKey(valueKey, "|log=", id)
}

func slotsKey(valueKey string, id uint64) string {
	return hexKey(valueKey, "|slots=", id)
}

func hexKey(valueKey, what string, id uint64) string {
	b := make([]byte, 0, 128) // mostly enough, and not on the heap
	return string(strconv.AppendUint(append(append(b, valueKey...), what...), id, 16))
}

func (s *Store) ticketKey(tag string, t policy.Ticket) string {
	return s.namespace + "{" + tag + "}|ticket=" + t.String()
}

// maxReadable is the longest part of a key that is kept as it is.
const maxReadable = 200

// escape writes a part of a key in printable ASCII without braces and bars, one
// to one: other bytes as %XX, nothing as "%-", and what is long by its hash.
func escape(s string) string {
	if len(s) == 0 {
		return "%-"
	}
	if len(s) > maxReadable {
		sum := sha256.Sum256([]byte(s))
		return "%sha256-" + hex.EncodeToString(sum[:])
	}
	odd := 0
	for i := range len(s) {
		if !plain(s[i]) {
			odd++
		}
	}
	if odd == 0 {
		return s
	}
	b := make([]byte, 0, len(s)+2*odd)
	for i := range len(s) {
		if plain(s[i]) {
			b = append(b, s[i])
			continue
		}
		const digits = "0123456789ABCDEF"
		b = append(b, '%', digits[s[i]>>4], digits[s[i]&15])
	}
	return string(b)
}

// plain reports whether a byte stands for itself in a key.
func plain(c byte) bool {
	return c > ' ' && c < 0x7f && c != '{' && c != '}' && c != '|' && c != '%'
}
