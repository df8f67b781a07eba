package policy

import (
	"strings"
	"time"
	"unique"
)

// A zone is what a [Period] knows of its time zone: its name, and its offsets
// from UTC. It is a value, so that two of one name and the same rules are equal,
// wherever they were loaded.
type zone struct {
	name  string
	rules string // packed changes of the offset, the earliest first
}

// A zoneHandle is a zone that is compared and copied as a pointer is. The zero
// one is UTC.
type zoneHandle = unique.Handle[zone]

const (
	// zoneBegin and zoneEnd are between which a zone's changes are known: 1970
	// and 2200. Before and after, the offset is that of the nearer end.
	zoneBegin = 0
	zoneEnd   = 7_258_118_400

	// maxOffset bounds offsets from UTC, as RFC 8536 does.
	maxOffset = 26 * 60 * 60

	// ruleSize is the bytes of a packed change, in which the offset has the lower
	// bits.
	ruleSize    = 8
	offsetBits  = 18
	offsetShift = 1 << (offsetBits - 1)
)

// newZone reads the rules of a location. It reports false if they are not those
// of a place on Earth.
func newZone(loc *time.Location) (zoneHandle, bool) {
	var rules strings.Builder
	last := maxOffset + 1
	for at := int64(zoneBegin); at < zoneEnd; {
		t := time.Unix(at, 0).In(loc)
		_, offset := t.Zone()
		if offset < -maxOffset || offset > maxOffset {
			return zoneHandle{}, false
		}
		if offset != last {
			packed := uint64(at)<<offsetBits | uint64(offset+offsetShift)
			for i := range ruleSize {
				rules.WriteByte(byte(packed >> (8 * i)))
			}
			last = offset
		}
		_, end := t.ZoneBounds()
		if end.IsZero() {
			break
		}
		// On a leap year's last day package time says that the offset has ended
		// already: it counts 365.
		const hour = 3600
		if next := end.Unix(); next > at {
			at = next
		} else {
			at += hour
		}
	}
	return unique.Make(zone{name: loc.String(), rules: rules.String()}), true
}

func (z *zone) size() int { return len(z.rules) / ruleSize }

func (z *zone) packed(i int) int64 {
	b := z.rules[i*ruleSize : i*ruleSize+ruleSize]
	return int64(uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
		uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56)
}

// begin returns the second from which on the i-th offset holds.
func (z *zone) begin(i int) int64 { return z.packed(i) >> offsetBits }

func (z *zone) offset(i int) int64 { return z.packed(i)&(1<<offsetBits-1) - offsetShift }

// find returns which offset holds at a second.
func (z *zone) find(at int64) int {
	low, high := 0, z.size() // the one before high has begun, or is the first
	for low+1 < high {
		if mid := int(uint(low+high) / 2); z.begin(mid) <= at {
			low = mid
		} else {
			high = mid
		}
	}
	return low
}

// reaches returns the first second at which clocks show the beginning of a day
// or more: its midnight, the first of two, or, where clocks skip it, the instant
// at which they do. It looks from the i-th offset, which is not far off.
func (z *zone) reaches(day int64, i int) int64 {
	local := day * secondsPerDay
	// Before this second clocks show less, wherever they are.
	early := local - maxOffset
	for i > 0 && z.begin(i) > early {
		i--
	}
	for ; ; i++ {
		at := local - z.offset(i)
		last := i+1 == z.size()
		if !last && at >= z.begin(i+1) {
			continue
		}
		if i == 0 || z.begin(i) <= at {
			return at
		}
		return z.begin(i)
	}
}

const secondsPerDay = 24 * 60 * 60
