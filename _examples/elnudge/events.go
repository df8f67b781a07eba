package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	ratelimit "github.com/stint-go/stint/middleware"
)

// maxBody bounds a batch of events in bytes.
const maxBody = 8 << 20

type eventsKey struct{}

func eventsOf(r *http.Request) []json.RawMessage {
	events, _ := r.Context().Value(eventsKey{}).([]json.RawMessage)
	return events
}

// parseEvents reads the batch before the limiter does, which charges by it. A
// body that is no batch is answered here and counts nothing; Peek is for the
// header fields, which every response has.
func parseEvents(relay *ratelimit.Limiter) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var batch struct {
				Events []json.RawMessage `json:"events"`
			}
			body := http.MaxBytesReader(w, r.Body, maxBody)
			decoder := json.NewDecoder(body)
			err := decoder.Decode(&batch)
			if err == nil && decoder.More() {
				err = errors.New("more than one JSON value")
			}
			var tooLarge *http.MaxBytesError
			switch {
			case errors.As(err, &tooLarge):
				showUsage(w, r, relay)
				writeError(w, http.StatusRequestEntityTooLarge, "BatchTooLarge", "The body is larger than 8 MiB.")
			case err != nil || batch.Events == nil:
				showUsage(w, r, relay)
				writeError(w, http.StatusBadRequest, "BadRequest", `The body must be JSON of the form {"events":[…]}.`)
			default:
				next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), eventsKey{}, batch.Events)))
			}
		})
	}
}

func showUsage(w http.ResponseWriter, r *http.Request, relay *ratelimit.Limiter) {
	if report, err := relay.Peek(r); err == nil {
		style.WriteFields(w.Header(), report)
	}
}

func acceptEvents(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, http.StatusOK, map[string]int{"accepted": len(eventsOf(r))})
}
