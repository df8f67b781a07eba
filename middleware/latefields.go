package middleware

import (
	"net/http"
	"reflect"

	"github.com/stint-go/stint/respond"
)

// writeFields writes the response's header fields anew, as its limiters wrote
// them, if costs were set since. It is called where the response is written: the
// header is a map without a lock. What was sent does not change by it.
//
// The fields are those of one response, nil for that of the first limiter: one that
// was met on the way to another response, such as a part of a batch, has told its own.
func (led *ledger) writeFields(header http.Header) {
	led.mu.Lock()
	defer led.mu.Unlock()
	if !led.stale {
		return
	}
	led.stale = false
	var report respond.Report
	for p := led.first; p != nil; p = p.next {
		p.tellOwn(&report)
		if p.header == nil {
			continue
		}
		if header == nil {
			header = p.header
		}
		if reflect.ValueOf(header).UnsafePointer() == reflect.ValueOf(p.header).UnsafePointer() {
			report.Details = p.report.Details
			p.style.WriteFields(header, &report)
		}
	}
}

// asksDetails tells whether a client asks for details, in the way that the style
// names.
func asksDetails(style *respond.Style, r *http.Request) bool {
	name := style.DetailsOn
	if name == "" {
		return false
	}
	return len(r.Header.Values(name)) > 0 || r.URL != nil && r.URL.RawQuery != "" && r.URL.Query().Has(name)
}
