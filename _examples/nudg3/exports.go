package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
)

var rowDelay = flag.Duration("row-delay", 0, "pause after each row of an export, for trying out the queue")

// exportRules are the stricter limits of exports, beside the general ones: ten in
// any hour, exactly, and one at a time, for which others wait their turn. Without
// Redis there are none.
var exportRules = []ratelimit.Rule{{
	Name: "exports", Key: ratelimit.Bearer(), Skip: unauthenticated, Fail: ratelimit.FailClosed,
	Limits: []policy.Limit{
		policy.SlidingLog(10, time.Hour),
		policy.Concurrency(1).WithQueue(16, 30*time.Second).WithLease(10 * time.Second),
	},
}}

const (
	allRows  = 150_000     // that the demo has
	partRows = 1_000_000   // most of one part of an export
	maxRows  = 100_000_000 // most of an export
	rowBytes = 316         // about
)

// An export is what is asked for. Without rows it is all there are.
type export struct {
	Rows *int64 `json:"rows"`
	From string `json:"from"`
	To   string `json:"to"`
}

// exportResponses streams the rows of an export, a line each. One of more rows
// than a part has is split: every line says of which part it is.
func exportResponses(w http.ResponseWriter, r *http.Request) {
	var e export
	body := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
	if err := body.Decode(&e); err != nil && !errors.Is(err, io.EOF) {
		badRequest(w, `Send {"rows": n}, with "from" and "to" if you like.`)
		return
	}
	from, to, err := span(e.From, e.To)
	if err != nil {
		badRequest(w, err.Error())
		return
	}
	rows := rowsWithin(from, to)
	if e.Rows != nil {
		rows = *e.Rows
	}
	if rows < 0 || rows > maxRows {
		badRequest(w, fmt.Sprintf("Ask for 0 to %d rows.", maxRows))
		return
	}

	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("X-Export-Parts", strconv.FormatInt(max(1, (rows+partRows-1)/partRows), 10))
	flusher := http.NewResponseController(w)
	if flusher.Flush() != nil {
		return
	}
	out := bufio.NewWriterSize(w, 32<<10)
	line := make([]byte, 0, 128)
	for i := range rows {
		at := from.Add(time.Duration(float64(to.Sub(from)) * float64(i) / float64(rows)))
		line = append(line[:0], `{"row":`...)
		line = strconv.AppendInt(line, i+1, 10)
		line = append(line, `,"part":`...)
		line = strconv.AppendInt(line, i/partRows+1, 10)
		line = append(line, `,"at":"`...)
		line = at.AppendFormat(line, time.RFC3339)
		line = append(line, "\"}\n"...)
		if _, err := out.Write(line); err != nil {
			return
		}
		if *rowDelay > 0 && (out.Flush() != nil || flusher.Flush() != nil || !pause(r, *rowDelay)) {
			return
		}
		if i%1000 == 0 && r.Context().Err() != nil {
			return
		}
	}
	_ = out.Flush()
}

// pause is false if the client has gone meanwhile.
func pause(r *http.Request, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

// showStatistics tells how large an export would be. It is no export.
func showStatistics(w http.ResponseWriter, r *http.Request) {
	from, to, err := span(r.URL.Query().Get("from"), r.URL.Query().Get("to"))
	if err != nil {
		badRequest(w, err.Error())
		return
	}
	rows := rowsWithin(from, to)
	writeJSON(w, http.StatusOK, success{Success: true, Data: statistics{
		TotalRows:       rows,
		EstimatedSizeMB: float64(rows*rowBytes*10/(1<<20)) / 10,
	}})
}

type statistics struct {
	TotalRows       int64   `json:"total_rows"`
	EstimatedSizeMB float64 `json:"estimated_size_mb"`
}

// The demo's rows came evenly over a year.
var (
	firstDay = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	lastDay  = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
)

// span returns the time between two dates, or all there is.
func span(first, last string) (from, to time.Time, err error) {
	if from, err = date(first, firstDay); err != nil {
		return from, to, fmt.Errorf("from: %w", err)
	}
	if to, err = date(last, lastDay); err != nil {
		return from, to, fmt.Errorf("to: %w", err)
	}
	if to.Before(from) {
		return from, to, errors.New("to: write a date that is not before from")
	}
	return from, to, nil
}

func date(s string, unset time.Time) (time.Time, error) {
	if s == "" {
		return unset, nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		// In UTC it may be of a year that RFC 3339 does not know.
		if t, err := time.Parse(layout, s); err == nil && t.UTC().Year() >= 0 && t.UTC().Year() <= 9999 {
			return t.UTC(), nil
		}
	}
	return time.Time{}, errors.New("write a date such as 2025-03-31 or 2025-03-31T12:00:00Z")
}

func rowsWithin(from, to time.Time) int64 {
	if from.Before(firstDay) {
		from = firstDay
	}
	if to.After(lastDay) {
		to = lastDay
	}
	return max(0, int64(float64(allRows)*float64(to.Sub(from))/float64(lastDay.Sub(firstDay))))
}

func badRequest(w http.ResponseWriter, message string) {
	writeJSON(w, http.StatusBadRequest, failure{Error: problem{Code: "invalid_request", Message: message}})
}
