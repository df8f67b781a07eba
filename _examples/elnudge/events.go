package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	ratelimit "github.com/stint-go/stint/middleware"
)

const (
	maxBody   = 8 << 20 // bytes of a batch
	maxEvents = 10_000  // of a site key in a minute, so also of a batch
)

type eventsKey struct{}

// eventsOf returns how many events the request brings.
func eventsOf(r *http.Request) int64 {
	n, _ := r.Context().Value(eventsKey{}).(int64)
	return n
}

// countEvents reads the batch before the limiter does, which charges by it. A
// body that is no batch is answered here and counts nothing; Peek is for the
// header fields, which every response has.
func countEvents(relay *ratelimit.Limiter) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n, err := readEvents(http.MaxBytesReader(w, r.Body, maxBody))
			var tooLarge *http.MaxBytesError
			switch {
			case errors.As(err, &tooLarge):
				showUsage(w, r, relay)
				writeError(w, http.StatusRequestEntityTooLarge, "BatchTooLarge", "The body is larger than 8 MiB.")
			case err != nil:
				showUsage(w, r, relay)
				writeError(w, http.StatusBadRequest, "BadRequest", `The body must be JSON of the form {"events":[…]}.`)
			default:
				next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), eventsKey{}, n)))
			}
		})
	}
}

func showUsage(w http.ResponseWriter, r *http.Request, relay *ratelimit.Limiter) {
	if report, err := relay.Peek(r); err == nil {
		style.WriteFields(w.Header(), report)
	}
}

var errNoBatch = errors.New("not a batch of events")

// readEvents counts the events of a body, and keeps none. The body is one object
// with one "events", written just so, and nothing after it. Reading stops as
// soon as there are more events than any limit allows: the limiter says so.
func readEvents(body io.Reader) (int64, error) {
	decoder := json.NewDecoder(body)
	if err := expect(decoder, json.Delim('{')); err != nil {
		return 0, err
	}
	var n int64
	var value json.RawMessage // reused for each
	found := false
	for decoder.More() {
		key, err := decoder.Token()
		switch {
		case err != nil:
			return 0, err
		case key != "events":
			err = decoder.Decode(&value)
		case found:
			err = errNoBatch
		default:
			found = true
			n, err = countArray(decoder, &value)
		}
		if err != nil || n > maxEvents {
			return n, err
		}
	}
	if err := expect(decoder, json.Delim('}')); err != nil {
		return 0, err
	}
	if !found {
		return 0, errNoBatch
	}
	switch _, err := decoder.Token(); err {
	case io.EOF:
		return n, nil
	case nil:
		return 0, errNoBatch
	default:
		return 0, err
	}
}

// countArray counts the elements of an array, up to one more than maxEvents.
func countArray(decoder *json.Decoder, value *json.RawMessage) (n int64, err error) {
	if err := expect(decoder, json.Delim('[')); err != nil {
		return 0, err
	}
	for decoder.More() {
		if err := decoder.Decode(value); err != nil {
			return 0, err
		}
		if n++; n > maxEvents {
			return n, nil
		}
	}
	return n, expect(decoder, json.Delim(']'))
}

func expect(decoder *json.Decoder, want json.Delim) error {
	token, err := decoder.Token()
	if err == nil && token != want {
		err = errNoBatch
	}
	return err
}

func acceptEvents(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, http.StatusOK, map[string]int64{"accepted": eventsOf(r)})
}
