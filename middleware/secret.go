package middleware

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"net/textproto"
	"strings"
	"sync"
)

// Header returns a KeyFunc for a header field that names the client, such as
// X-API-Key. The value is taken for a secret: the key is 128 bits of its
// SHA-256, in base64url, and the value itself goes nowhere. It is one key
// wherever it is read, so that Header and [Bearer] of one secret agree.
//
// It panics on a name that a server's requests never have among their header fields:
// Host, Transfer-Encoding, Trailer.
//
// A field that is missing or empty is [ErrNoKey]. Several lines with different
// values are another error, since nobody can tell which of them the rest of
// the server believes.
//
// The value is not checked. Where clients can make values up, each one is a
// fresh key: authenticate first and use [FromContext], or add a [PerIP] limit.
func Header(name string) KeyFunc {
	name = textproto.CanonicalMIMEHeaderKey(name)
	if name == "" {
		panic(`ratelimit: Header(""): write the name of a header field`)
	}
	switch name {
	case "Host", "Transfer-Encoding", "Trailer":
		panic(fmt.Sprintf("ratelimit: Header(%q): net/http keeps this field out of Request.Header: write a KeyFunc of your own", name))
	}
	return func(r *http.Request) (string, error) {
		value, err := oneValue(r.Header[name])
		if err != nil {
			return "", err
		}
		return digest(value), nil
	}
}

// Bearer returns a KeyFunc for the token of the Authorization header field's
// Bearer scheme. The key is a digest, and the value is not checked, as with
// [Header]. Another scheme is [ErrNoKey].
func Bearer() KeyFunc {
	return func(r *http.Request) (string, error) {
		value, err := oneValue(r.Header["Authorization"])
		if err != nil {
			return "", err
		}
		scheme, token, _ := strings.Cut(value, " ")
		if token = textproto.TrimString(token); token == "" || !strings.EqualFold(scheme, "Bearer") {
			return "", ErrNoKey
		}
		return digest(token), nil
	}
}

// HMAC returns a KeyFunc that hides the keys of another: the first 128 bits of
// their HMAC-SHA-256 under the secret, in base64url. Use it for keys that can be
// guessed, such as e-mail addresses or IPs, in a store that others can read.
// All processes that share a store need the same secret; another secret starts
// all counts afresh.
func HMAC(secret []byte, key KeyFunc) KeyFunc {
	if len(secret) == 0 {
		panic("ratelimit: HMAC: no secret: write at least 16 random bytes")
	}
	key = wired("HMAC", []KeyFunc{key})[0]
	secret = append([]byte(nil), secret...)
	pool := sync.Pool{New: func() any { return hmac.New(sha256.New, secret) }}
	return func(r *http.Request) (string, error) {
		k, err := ask(key, r)
		if err != nil {
			return "", err
		}
		mac := pool.Get().(hash.Hash)
		defer pool.Put(mac)
		mac.Reset()
		mac.Write([]byte(k))
		return encode(mac.Sum(nil)), nil
	}
}

var errAmbiguous = errors.New("ratelimit: the header field has several different values")

// oneValue returns the value of a field that may have several equal lines.
func oneValue(lines []string) (string, error) {
	if len(lines) == 0 {
		return "", ErrNoKey
	}
	for _, line := range lines[1:] {
		if line != lines[0] {
			return "", errAmbiguous
		}
	}
	return nonEmpty(textproto.TrimString(lines[0]))
}

func digest(secret string) string {
	var buf [128]byte
	sum := sha256.Sum256(append(buf[:0], secret...))
	return encode(sum[:])
}

// encode keeps 128 bits, in base64url.
func encode(sum []byte) string {
	var text [22]byte
	base64.RawURLEncoding.Encode(text[:], sum[:16])
	return string(text[:])
}
