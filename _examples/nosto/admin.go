package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
)

// admin is what operators on this machine do: they see and set the factor of all
// limits.
func admin(scale *ratelimit.Scale) http.Handler {
	r := chi.NewRouter()
	r.Use(loopbackOnly)
	r.Get("/scale", func(w http.ResponseWriter, _ *http.Request) { showScale(w, scale) })
	r.Put("/scale", func(w http.ResponseWriter, r *http.Request) { setScale(w, r, scale) })
	r.NotFound(func(w http.ResponseWriter, r *http.Request) {
		writeError(w, r, http.StatusNotFound, "not_found", "There is nothing here.")
	})
	return r
}

// loopbackOnly answers 403 to requests from elsewhere. Who asks is the connection's
// peer: no header field can say otherwise. A proxy on this machine is such a peer,
// too, so that a request that shows a sign of one is refused, and so is one for a
// host of another name, which a web page may have had resolved to this machine.
//
// A proxy that leaves no sign cannot be told from an operator: keep it from passing
// on /_admin, or let operators have a listener of their own.
func loopbackOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isLoopback(r.RemoteAddr) || !isLoopback(r.Host) || isForwarded(r.Header) {
			writeError(w, r, http.StatusForbidden, "forbidden", "Ask on the machine itself, and not through a proxy.")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isLoopback tells whether an address, with a port or without, is of this machine.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(address, "["), "]")
	}
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.Unmap().IsLoopback()
}

// isForwarded tells whether there is a field as proxies add.
func isForwarded(h http.Header) bool {
	for name := range h {
		switch {
		case strings.HasPrefix(name, "X-Forwarded"), strings.HasSuffix(name, "-Ip"), name == "Forwarded", name == "Via", name == "Cf-Ray":
			return true
		}
	}
	return false
}

func setScale(w http.ResponseWriter, r *http.Request, scale *ratelimit.Scale) {
	var set struct {
		Factor  float64 `json:"factor"`
		Seconds float64 `json:"seconds"` // for how long; 0 means until it is set again
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<10))
	if err != nil || json.Unmarshal(body, &set) != nil {
		writeError(w, r, http.StatusBadRequest, "invalid_json", `Send {"factor":0.5}, and "seconds" if it is to end by itself.`)
		return
	}
	if !(set.Factor > 0 && set.Factor <= 1) {
		writeError(w, r, http.StatusBadRequest, "invalid_factor", "Write a factor above 0, and up to 1.")
		return
	}
	var until time.Time
	switch most := policy.MaxScale.Seconds(); {
	case set.Seconds == 0:
	case set.Seconds >= 1 && set.Seconds <= most:
		until = time.Now().Add(time.Duration(set.Seconds * float64(time.Second)))
	default:
		writeError(w, r, http.StatusBadRequest, "invalid_seconds", fmt.Sprintf("Write seconds from 1 to %.0f.", most))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), time.Second)
	defer cancel()
	if scale.Set(ctx, set.Factor, until) != nil {
		writeError(w, r, http.StatusServiceUnavailable, "store_unavailable", "It is not known whether the factor was set: ask again.")
		return
	}
	showScale(w, scale)
}

// showScale shows the factor that holds, and until when.
func showScale(w http.ResponseWriter, scale *ratelimit.Scale) {
	factor, until := scale.Get()
	shown := map[string]any{"factor": factor}
	if !until.IsZero() {
		shown["until"] = until.UTC().Format(time.RFC3339)
	}
	writeJSON(w, http.StatusOK, shown)
}
