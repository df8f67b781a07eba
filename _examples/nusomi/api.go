package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path"
	"time"

	"github.com/go-chi/chi/v5"

	ratelimit "github.com/stint-go/stint/middleware"
)

// The API behind the limits: any session id is valid, nothing is kept.

func createSession(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusCreated, map[string]any{"id": newID("ses"), "object": "session"})
}

func readSession(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{"id": chi.URLParam(r, "id"), "object": "session"})
}

func readList(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{"object": "list", "of": path.Base(r.URL.Path), "data": []any{}})
}

// batches are the endpoints that take batches: one event may come by itself. A
// batch is one request; the handler still refuses what is none.
var batches = map[string]ratelimit.Batch{
	"events": {Field: "events", Max: 100, Single: true},
	"frames": {Field: "frames", Max: 50},
}

func acceptBatch(w http.ResponseWriter, r *http.Request) {
	n, err := batches[path.Base(r.URL.Path)].Cost(r)
	if refused, ok := errors.AsType[*ratelimit.CostError](err); ok {
		writeError(w, refused.Reason.Status(), string(refused.Reason), refused.Detail)
		return
	}
	if err != nil {
		writeError(w, http.StatusBadRequest, "invalid_body", "The body could not be read.")
		return
	}
	writeJSON(w, http.StatusAccepted, map[string]any{"accepted": n})
}

func createExport(w http.ResponseWriter, r *http.Request) {
	var export struct {
		Rows int64 `json:"rows"`
	}
	if json.NewDecoder(r.Body).Decode(&export) != nil { // the limiter has read it before
		writeError(w, http.StatusBadRequest, "invalid_body", `Send {"rows": n}.`)
		return
	}
	writeJSON(w, http.StatusAccepted, map[string]any{"id": newID("exp"), "object": "export", "rows": export.Rows})
}

func createReplay(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusCreated, map[string]any{"id": newID("rep"), "object": "replay"})
}

// streamEvents streams a session's events until the client leaves. It holds its
// slot as long, and says at once that it is open.
func streamEvents(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	flusher := http.NewResponseController(w)
	if r.Method == http.MethodHead {
		return
	}
	_, _ = fmt.Fprintf(w, ": events of %q\n\n", chi.URLParam(r, "id"))
	if flusher.Flush() != nil {
		return
	}
	beat := time.NewTicker(15 * time.Second)
	defer beat.Stop()
	for {
		select {
		case <-r.Context().Done():
			return
		case <-beat.C:
			if _, err := fmt.Fprint(w, ": still here\n\n"); err != nil || flusher.Flush() != nil {
				return
			}
		}
	}
}

func notFound(w http.ResponseWriter, _ *http.Request) {
	writeError(w, http.StatusNotFound, "not_found", "There is nothing here.")
}

func methodNotAllowed(w http.ResponseWriter, _ *http.Request) {
	writeError(w, http.StatusMethodNotAllowed, "method_not_allowed", "This path has other methods.")
}

type failure struct {
	Error problem `json:"error"`
}

type problem struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Scope   string `json:"scope,omitempty"`
}

func writeError(w http.ResponseWriter, status int, code, message string) {
	writeJSON(w, status, failure{problem{Code: code, Message: message}})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func newID(prefix string) string { return fmt.Sprintf("%s_%016x", prefix, rand.Uint64()) }
