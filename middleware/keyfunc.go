package middleware

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
)

// A KeyFunc says under whose key a request is counted. Keys are opaque bytes
// of any length. It has the type of httprate.KeyFunc, so that the key functions
// of go-chi/httprate can be used here, and these there.
//
// A request without a key is never unlimited and never shares a count: an
// empty key is [ErrNoKey], and every error refuses the request with 400 and
// the reason no_key. The error's text goes to the [Event] and never to the
// client.
//
// A KeyFunc is called by many goroutines at once.
type KeyFunc = func(r *http.Request) (string, error)

// ErrNoKey is the error of a KeyFunc that finds no key in a request. [FirstOf]
// goes on to its next function then, and only then.
var ErrNoKey = errors.New("ratelimit: the request has no key")

// FromContext returns a KeyFunc for a value in the request's context, such as
// an account that authentication put there: a string or a fmt.Stringer. A value
// that is missing or empty is ErrNoKey, one of another type another error.
func FromContext(key any) KeyFunc {
	if key == nil {
		panic("ratelimit: FromContext(nil): write the context key of the value")
	}
	return func(r *http.Request) (string, error) {
		switch v := r.Context().Value(key).(type) {
		case nil:
			return "", ErrNoKey
		case string:
			return nonEmpty(v)
		case fmt.Stringer:
			return nonEmpty(v.String())
		default:
			return "", fmt.Errorf("ratelimit: FromContext: the value is a %T: put a string or a fmt.Stringer", v)
		}
	}
}

// Join returns a KeyFunc for a key of several parts, such as a client and an
// endpoint: each combination is counted apart. Every part must be there. Parts
// are prefixed with their length, so that no two combinations have one key:
// "5:alice3:GET".
func Join(keys ...KeyFunc) KeyFunc {
	keys = wired("Join", keys)
	return func(r *http.Request) (string, error) {
		var buf [4]string
		parts, size := buf[:0], 0
		for _, key := range keys {
			part, err := ask(key, r)
			if err != nil {
				return "", err
			}
			parts = append(parts, part)
			size += len(part) + 8
		}
		var short [128]byte
		b := short[:0]
		if size > len(short) {
			b = make([]byte, 0, size)
		}
		for _, part := range parts {
			b = strconv.AppendInt(b, int64(len(part)), 10)
			b = append(append(b, ':'), part...)
		}
		return string(b), nil
	}
}

// FirstOf returns a KeyFunc for the first key that is there, such as an API key
// or else the client's IP. Functions that answer ErrNoKey, or an empty key, are
// passed over; any other error is final.
//
// The keys of all its functions lie in one space: a key that a client may
// choose freely, such as a header that nobody checked, can name another's.
func FirstOf(keys ...KeyFunc) KeyFunc {
	keys = wired("FirstOf", keys)
	return func(r *http.Request) (string, error) {
		for _, key := range keys {
			k, err := ask(key, r)
			if err == nil || !errors.Is(err, ErrNoKey) {
				return k, err
			}
		}
		return "", ErrNoKey
	}
}

// ask calls a key function; an empty key is ErrNoKey.
func ask(key KeyFunc, r *http.Request) (string, error) {
	k, err := key(r)
	if err != nil {
		return "", err
	}
	return nonEmpty(k)
}

func nonEmpty(key string) (string, error) {
	if key == "" {
		return "", ErrNoKey
	}
	return key, nil
}

func wired(caller string, keys []KeyFunc) []KeyFunc {
	if len(keys) == 0 {
		panic("ratelimit: " + caller + "(): write at least one key function")
	}
	for i, key := range keys {
		if key == nil {
			panic(fmt.Sprintf("ratelimit: %s: key function %d is nil", caller, i+1))
		}
	}
	return append([]KeyFunc(nil), keys...)
}
