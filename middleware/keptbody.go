package middleware

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"sync"
)

// A keptBody is a request's body that keeps what was read of it, so that its
// items can be counted before a handler reads it from its start.
type keptBody struct {
	reading sync.Mutex    // of the rest; taken before mu, which is not held meanwhile but to count
	rest    io.ReadCloser // what is not read yet

	mu   sync.Mutex
	kept []byte
	err  error // why no more can be read of the rest
	end  bool  // it is that there is no more

	at     int  // how many of the kept bytes the handler has read
	past   bool // it has read of the rest, which is not kept then
	closed bool

	tallies  []tally
	oneTally [1]tally

	extracts extracts
}

// A tally is what was counted for a field.
type tally struct {
	field string
	items int64
	err   error
}

var errReadBefore = errors.New("the handler has read of it already")

// keep returns the request's body as one that is kept, which it becomes if it is
// not. It returns nil if there is none.
func keep(r *http.Request) *keptBody {
	if body, ok := r.Body.(*keptBody); ok {
		return body
	}
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	body := &keptBody{rest: r.Body}
	if size := r.ContentLength; size > 0 {
		// A client that says how much it will send has not sent it: little is
		// taken for granted. One byte more is room to find the end in.
		body.kept = make([]byte, 0, min(size, 16<<10)+1)
	}
	r.Body = body
	return body
}

// items counts the items under a field, once. A body of more bytes than the
// limit is an http.MaxBytesError.
func (b *keptBody) items(ctx context.Context, limit int64, field string) (int64, error) {
	b.reading.Lock()
	defer b.reading.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.fill(ctx, limit); err != nil {
		return 0, err
	}
	for _, t := range b.tallies {
		if t.field == field {
			return t.items, t.err
		}
	}
	n, err := countItems(b.kept, field)
	if b.tallies == nil {
		b.tallies = b.oneTally[:0]
	}
	b.tallies = append(b.tallies, tally{field, n, err})
	return n, err
}

// whole returns the bytes of a body that has no more than the limit.
func (b *keptBody) whole(ctx context.Context, limit int64) ([]byte, error) {
	b.reading.Lock()
	defer b.reading.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	err := b.fill(ctx, limit)
	return b.kept, err
}

// ahead reads the rest, up to the limit or until the handler does. What has come
// is the handler's meanwhile.
func (b *keptBody) ahead(limit int64) {
	chunk := make([]byte, 4<<10)
	for b.aheadOnce(limit, chunk) {
	}
}

func (b *keptBody) aheadOnce(limit int64, chunk []byte) (more bool) {
	b.reading.Lock()
	defer b.reading.Unlock()
	b.mu.Lock()
	more = b.err == nil && !b.past && int64(len(b.kept)) < limit
	b.mu.Unlock()
	if !more {
		return false
	}
	n, err := b.rest.Read(chunk)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kept = append(b.kept, chunk[:n]...)
	b.err, b.end = err, err == io.EOF
	return true
}

// json tells whether what is kept is JSON.
func (b *keptBody) json() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return json.Valid(b.kept)
}

// fill reads the rest, up to one byte more than the limit.
func (b *keptBody) fill(ctx context.Context, limit int64) error {
	for b.err == nil && !b.past && int64(len(b.kept)) <= limit {
		if err := ctx.Err(); err != nil {
			return err
		}
		if len(b.kept) == cap(b.kept) {
			b.kept = slices.Grow(b.kept, max(512, cap(b.kept)))
		}
		room := b.kept[len(b.kept):cap(b.kept)]
		if most := limit - int64(len(b.kept)); most < int64(len(room)) {
			room = room[:most+1]
		}
		n, err := b.rest.Read(room)
		b.kept = b.kept[:len(b.kept)+n]
		b.err, b.end = err, err == io.EOF
	}
	switch {
	case int64(len(b.kept)) > limit:
		return &http.MaxBytesError{Limit: limit}
	case b.past:
		return errReadBefore
	case !b.end:
		return b.err
	}
	return nil
}

// Read reads what is kept, and then the rest.
func (b *keptBody) Read(p []byte) (int, error) {
	if n, ok, err := b.readKept(p, false); ok {
		return n, err
	}
	b.reading.Lock()
	defer b.reading.Unlock()
	// More may have been read ahead until it was this reader's turn.
	if n, ok, err := b.readKept(p, true); ok {
		return n, err
	}
	n, err := b.rest.Read(p)
	if err != nil {
		b.mu.Lock()
		b.err, b.end = err, err == io.EOF
		b.mu.Unlock()
	}
	return n, err
}

// readKept reads what is kept, or why there is no more. It is false if there may
// be: then the rest is the handler's to read, if it wants to go past what is kept.
func (b *keptBody) readKept(p []byte, past bool) (n int, ok bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return 0, true, http.ErrBodyReadAfterClose
	case b.at < len(b.kept):
		n = copy(p, b.kept[b.at:])
		b.at += n
		return n, true, nil
	case b.err != nil:
		return 0, true, b.err
	}
	b.past = b.past || past
	return 0, false, nil
}

// Close ends reading. It closes the body below only at its end. Before that, it
// is the server's to close, which knows how to go on with the connection: of a
// body that others wrapped and closed early it would take the rest for the next
// request.
func (b *keptBody) Close() error {
	b.mu.Lock()
	b.closed = true
	end := b.end
	b.mu.Unlock()
	if !end {
		return nil
	}
	return b.rest.Close()
}
