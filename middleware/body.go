package middleware

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
)

// ReadBody returns what read makes of the request's body, for a Cost of your own
// that depends on it. However many rules and Limiters ask, the body is read once,
// and read is called once for each key: a value of a type of your own, such as a
// pointer to what asks. The key must be of a kind that can be compared.
//
// The body is bounded and kept as by a [Batch]: one of more than limit bytes is
// refused with a [CostError], body_too_large; and whoever reads it afterwards
// finds it whole. read must neither change nor keep the bytes. Without a body
// they are none.
func ReadBody[T any](r *http.Request, limit int64, key any, read func([]byte) (T, error)) (T, error) {
	var none T
	if r.ContentLength > limit {
		return none, bodyTooLarge(limit, fmt.Errorf("a Content-Length of %d", r.ContentLength))
	}
	body := keep(r)
	if body == nil {
		return read(nil)
	}
	text, err := body.whole(r.Context(), limit)
	if tooLong, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return none, bodyTooLarge(tooLong.Limit, err)
	}
	if err != nil {
		return none, fmt.Errorf("the body could not be read: %w", err)
	}
	made, err := body.extracts.once(key, func() (any, error) { return read(text) })
	value, _ := made.(T)
	return value, err
}

// extracts are what was made of a body, each under a key. Its lock is held while
// one is made, so that each is made once.
type extracts struct {
	mu  sync.Mutex
	all []extract
}

type extract struct {
	key  any
	made any
	err  error
}

func (rs *extracts) once(key any, read func() (any, error)) (any, error) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, done := range rs.all {
		if done.key == key {
			return done.made, done.err
		}
	}
	made, err := read()
	rs.all = append(rs.all, extract{key, made, err})
	return made, err
}
