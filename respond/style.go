package respond

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// A Style is how decisions become header fields and refusals.
//
// The zero Style writes [XRateLimit] and refuses with 429 and a [Problem]. A
// Style must not be changed once it is in use; it is then safe for concurrent
// use. Its methods work without Validate, and on a nil Style as on a zero one.
type Style struct {
	// Fields tell of the limits, on allowed and on refused responses. Nil means
	// XRateLimit, empty means none.
	Fields []FieldWriter

	// Refusal is the body of a refused response. Nil means Problem.
	Refusal Refusal

	// Status is sent instead of 429: zero or 429 for that, 409 for clients that
	// were promised it. Most clients do not retry a 409 by themselves.
	Status int

	// ReasonPhrase is said in the status line in place of "Conflict" or "Too Many
	// Requests", with that status alone and over HTTP/1.1 alone, if the server's
	// handler is one of [ReasonPhrases]; that tells what it does. At most 200
	// printable ASCII characters. Empty means the standard phrase.
	ReasonPhrase string

	// ReducedStatus is sent instead where a client is refused only because limits
	// are reduced for a while ([Denial].Reduced): zero for Status, or 503, as the
	// IETF's draft has it. A 503 may take the server out of a load balancer's
	// rotation.
	ReducedStatus int

	// ExposeFields lets scripts of web pages read the fields, and Retry-After,
	// across origins: their names are added to Access-Control-Expose-Headers. A
	// CORS middleware has to stand outside the limiter.
	ExposeFields bool

	// DetailsOn names a header field, and a query parameter, by which a client
	// asks for details, such as the parts of its request's cost: it is there,
	// whatever it says. Empty means that nobody gets them. See [Points].
	DetailsOn string

	// Header has further fields of refused responses. It may say a Cache-Control
	// of its own; without that, refusals say no-store.
	Header http.Header

	// RetryJitter spreads clients: each refusal says up to this much more than
	// the exact wait, in Retry-After and in the fields and the body alike.
	RetryJitter time.Duration
}

// Validate returns an error that names what is wrong with the style, and what to
// write instead. It also brings the names of [Fields] and Header into canonical
// form, so that no request has to: call it once, before the style is used.
func (s *Style) Validate() error {
	if s == nil {
		return nil
	}
	switch {
	case s.Status != 0 && s.Status != http.StatusTooManyRequests && s.Status != http.StatusConflict:
		return fmt.Errorf("respond: Status %d: write 429, or 409 for clients that were promised it", s.Status)
	case s.ReducedStatus != 0 && s.ReducedStatus != http.StatusServiceUnavailable:
		return fmt.Errorf("respond: ReducedStatus %d: write zero, or 503", s.ReducedStatus)
	case s.RetryJitter < 0:
		return fmt.Errorf("respond: RetryJitter %v: write zero or more: a client is never called back too early", s.RetryJitter)
	}
	for i := range len(s.DetailsOn) {
		if !isTokenChar(s.DetailsOn[i]) {
			return fmt.Errorf("respond: DetailsOn %.80q: write letters, digits and hyphens", s.DetailsOn)
		}
	}
	if err := checkPhrase(s.ReasonPhrase); err != nil {
		return err
	}
	if err := validate(s.Refusal); err != nil {
		return err
	}
	fields := slices.Clone(s.Fields)
	for i, f := range fields {
		if f == nil {
			return fmt.Errorf("respond: Fields[%d] is nil: write a FieldWriter, such as XRateLimit", i)
		}
		if err := validate(f); err != nil {
			return err
		}
		if f, ok := f.(Fields); ok {
			fields[i] = &canonicalFields{f.canonical()}
		}
	}
	header, err := canonicalHeader(s.Header)
	if err != nil {
		return err
	}
	s.Fields, s.Header = fields, header
	return nil
}

// WriteFields sets the fields of any response, allowed or refused. An inner
// limiter calls it again with a report that holds more, and so replaces what
// the outer one said. A report without standings writes nothing.
func (s *Style) WriteFields(h http.Header, r *Report) {
	if h == nil || r == nil || len(r.Standings) == 0 {
		return
	}
	fields := defaultFields
	if s != nil && s.Fields != nil {
		fields = s.Fields
	}
	if s == nil || !s.ExposeFields {
		writeFields(fields, h, r)
		return
	}
	written := make(http.Header, 8)
	writeFields(fields, written, r)
	maps.Copy(h, written)
	expose(h, slices.Sorted(maps.Keys(written))...)
}

// Refuse writes the response to a refused request: the fields, Retry-After, the
// status and the body, which a HEAD request does not get. What others may have
// set for the response that is not sent, its validators, length and encoding,
// is removed. A report without a Denial is given that of its binding standing.
//
// The report is not changed.
func (s *Style) Refuse(w http.ResponseWriter, req *http.Request, r *Report) {
	if s == nil {
		s = &zeroStyle
	}
	r = s.told(r)
	h := w.Header()
	if len(h) > 0 {
		for _, name := range obsolete {
			delete(h, name)
		}
	}
	values := make([]string, 0, 4) // of four fields, in one piece of memory
	set := func(name, value string) {
		values = append(values, value)
		h[name] = values[len(values)-1 : len(values) : len(values)]
	}
	set("Cache-Control", "no-store")
	for name, values := range s.Header {
		h[http.CanonicalHeaderKey(name)] = slices.Clip(values)
	}
	s.WriteFields(h, r)

	delete(h, "Retry-After")
	if seconds := r.Denial.Seconds(); seconds > 0 {
		set("Retry-After", strconv.FormatInt(seconds, 10))
		if s.ExposeFields {
			expose(h, "Retry-After")
		}
	}

	refusal := s.Refusal
	if refusal == nil {
		refusal = Problem
	}
	contentType, body := refusal.Body(r)
	switch {
	case contentType == "":
		body = nil
	case len(h["Content-Type"]) == 0: // the style's Header may name one
		set("Content-Type", contentType)
	}
	set("Content-Length", strconv.Itoa(len(body)))
	if s.ReasonPhrase != "" && r.Denial.Status == cmp.Or(s.Status, http.StatusTooManyRequests) {
		announcePhrase(w, r.Denial.Status, s.ReasonPhrase)
	}
	w.WriteHeader(r.Denial.Status)
	if len(body) > 0 && (req == nil || req.Method != http.MethodHead) {
		// An error means that the client has gone.
		_, _ = w.Write(body)
	}
}

// told returns the report as the client is told it.
func (s *Style) told(r *Report) *Report {
	if r == nil {
		r = &Report{}
	}
	d := r.Denial
	if d == nil {
		d = Deny("", r)
	}
	told := &struct {
		report Report
		denial Denial
	}{*r, d.told(s.Status, s.ReducedStatus, s.RetryJitter)}
	told.report.Denial = &told.denial
	return &told.report
}

var (
	zeroStyle     Style
	defaultFields = []FieldWriter{&canonicalFields{XRateLimit.canonical()}}

	// obsolete are the fields that spoke of the response that is not sent.
	obsolete = []string{"Content-Type", "Content-Length", "Content-Encoding", "Etag", "Last-Modified", "Expires"}
)

func writeFields(fields []FieldWriter, h http.Header, r *Report) {
	for _, f := range fields {
		if f != nil {
			f.WriteFields(h, r)
		}
	}
}

func validate(v any) error {
	if v, ok := v.(interface{ Validate() error }); ok {
		return v.Validate()
	}
	return nil
}

// canonicalHeader returns a copy of h with canonical names.
func canonicalHeader(h http.Header) (http.Header, error) {
	if len(h) == 0 {
		return h, nil
	}
	canonical := make(http.Header, len(h))
	for _, name := range slices.Sorted(maps.Keys(h)) {
		if err := checkFieldName(name); err != nil {
			return nil, err
		}
		key := http.CanonicalHeaderKey(name)
		if _, ok := canonical[key]; ok {
			return nil, fmt.Errorf("respond: Header says %s twice: write it once", key)
		}
		for _, value := range h[name] {
			if err := checkFieldValue(key, value); err != nil {
				return nil, err
			}
		}
		if len(h[name]) == 0 {
			return nil, fmt.Errorf("respond: Header says %s without a value: write one, or leave it out", key)
		}
		canonical[key] = slices.Clone(h[name])
	}
	return canonical, nil
}
