package respond

import (
	"net/http"
	"strconv"
	"time"
)

// A ResetFormat is how the instant of a reset is written. All round up to the
// whole second.
type ResetFormat uint8

// The formats.
const (
	EpochSeconds ResetFormat = iota // 1768213860
	DeltaSeconds                    // 12, from now on
	ISO8601                         // 2026-01-12T10:31:00Z
	HTTPDate                        // Mon, 12 Jan 2026 10:31:00 GMT
)

// number returns the number that tells the instant that is after from now, and the
// format in which append writes it.
func (f ResetFormat) number(now time.Time, after time.Duration) (int64, ResetFormat) {
	if f == DeltaSeconds {
		return ceilSeconds(after), EpochSeconds
	}
	return ceilUnix(now.Add(after)), f
}

// append appends a number of seconds since 1970.
func (f ResetFormat) append(b []byte, at int64) []byte {
	switch f {
	case ISO8601:
		return time.Unix(at, 0).UTC().AppendFormat(b, "2006-01-02T15:04:05Z")
	case HTTPDate:
		return time.Unix(at, 0).UTC().AppendFormat(b, http.TimeFormat)
	}
	return strconv.AppendInt(b, at, 10)
}
