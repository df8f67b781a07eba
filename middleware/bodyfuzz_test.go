package middleware_test

import (
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/respond"
)

// FuzzReadBody reads a body before its handler does: it is whole, or longer than
// the limit, and the handler finds it as it was sent, whatever was read before,
// in whatever pieces it comes, and how it ends.
func FuzzReadBody(f *testing.F) {
	f.Add([]byte(`{"rows":5000}`), int64(64), int64(13), uint8(0), uint8(3))
	f.Add([]byte(`{"rows":5000}`), int64(12), int64(-1), uint8(1), uint8(0))
	f.Add([]byte(`{"events":[1,2]}`), int64(16), int64(16), uint8(2), uint8(255))
	f.Add([]byte{}, int64(0), int64(-1), uint8(3), uint8(1))
	f.Add(make([]byte, 4096), int64(4095), int64(1<<40), uint8(4), uint8(7))
	f.Fuzz(func(t *testing.T, sent []byte, limit, length int64, pieces, before uint8) {
		if limit < 0 || length < 0 {
			length = -1
			limit = max(limit, 0)
		}
		lost := errors.New("lost")
		var body io.Reader = &pieced{sent, int(pieces%8) + 1}
		broken := pieces >= 128
		if broken {
			body = io.MultiReader(body, iotest.ErrReader(lost))
		}
		r := &http.Request{Method: "POST", Header: http.Header{}, Body: io.NopCloser(body), ContentLength: length}
		calls := 0
		read := func() (string, error) {
			return ratelimit.ReadBody(r, limit, "whole", func(text []byte) (string, error) {
				calls++
				return string(text), nil
			})
		}
		head := make([]byte, min(int(before%16), len(sent)))
		early := before >= 128
		if early { // a handler that has read of the body already
			_, _ = io.ReadFull(r.Body, head)
		}
		text, err := read()
		again, errAgain := read()
		require.Equal(t, text, again)
		require.Equal(t, err == nil, errAgain == nil)
		left := sent
		if early {
			left = sent[len(head):]
		}
		tooLong := length > limit || int64(len(left)) > limit
		switch {
		case tooLong:
			require.Equal(t, respond.BodyTooLarge, reasonOf(err))
			require.Zero(t, calls)
		case broken:
			require.ErrorIs(t, err, lost)
			require.Zero(t, calls)
		default:
			require.NoError(t, err)
			require.Equal(t, string(left), text)
			require.Equal(t, 1, calls)
		}
		if calls > 0 && int64(len(text)) > limit {
			t.Fatalf("%d bytes of at most %d", len(text), limit)
		}
		found, err := io.ReadAll(iotest.OneByteReader(r.Body))
		require.Equal(t, string(left), string(found))
		if broken {
			require.ErrorIs(t, err, lost)
		} else {
			require.NoError(t, err)
		}
	})
}

// A pieced reader gives a few bytes at a time.
type pieced struct {
	left []byte
	most int
}

func (p *pieced) Read(b []byte) (int, error) {
	if len(p.left) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(p.most, len(b))], p.left)
	p.left = p.left[n:]
	return n, nil
}
