package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// A session is one visit to a shop. The demo has 1,000, an hour apart.
type session struct {
	ID        string    `json:"id"`
	StartedAt time.Time `json:"started_at"`
	Nudges    int       `json:"nudges"`
}

var sessions = func() []session {
	start := time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)
	all := make([]session, 1000)
	for i := range all {
		all[i] = session{fmt.Sprintf("sess_%04d", i), start.Add(time.Duration(i) * time.Hour), i % 5}
	}
	return all
}()

// A cursor says where a page begins. Clients get it in base64, and hand it back
// as it is.
type cursor struct {
	ID string `json:"id"` // of the last session before
}

type page struct {
	Data       []session `json:"data"`
	NextCursor *string   `json:"next_cursor"` // null on the last page
}

func listSessions(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	limit, err := number(query.Get("limit"), 50, 200)
	if err != nil {
		writeError(w, http.StatusBadRequest, "BadRequest", "limit must be a number from 1 to 200.")
		return
	}
	from, err := instant(query.Get("from"))
	if err != nil {
		writeError(w, http.StatusBadRequest, "BadRequest", "from must be a date or a time, as in 2026-01-31T10:00:00Z.")
		return
	}
	to, err := instant(query.Get("to"))
	if err != nil {
		writeError(w, http.StatusBadRequest, "BadRequest", "to must be a date or a time, as in 2026-01-31T10:00:00Z.")
		return
	}
	after, err := readCursor(query.Get("cursor"))
	if err != nil {
		writeError(w, http.StatusBadRequest, "BadRequest", "cursor must be the next_cursor of an earlier page.")
		return
	}

	p := page{Data: []session{}}
	for _, s := range sessions {
		if s.ID <= after || s.StartedAt.Before(from) || !to.IsZero() && !s.StartedAt.Before(to) {
			continue
		}
		if len(p.Data) == limit {
			next := p.Data[limit-1].cursor()
			p.NextCursor = &next
			break
		}
		p.Data = append(p.Data, s)
	}
	writeJSON(w, http.StatusOK, p)
}

func (s session) cursor() string {
	text, _ := json.Marshal(cursor{s.ID})
	return base64.RawURLEncoding.EncodeToString(text)
}

func readCursor(s string) (id string, err error) {
	if s == "" {
		return "", nil
	}
	text, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return "", err
	}
	var c cursor
	if err := json.Unmarshal(text, &c); err != nil {
		return "", err
	}
	if c.ID == "" {
		return "", fmt.Errorf("cursor without an id")
	}
	return c.ID, nil
}

func number(s string, fallback, most int) (int, error) {
	if s == "" {
		return fallback, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > most {
		return 0, fmt.Errorf("%q is no number from 1 to %d", s, most)
	}
	return n, nil
}

func instant(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.DateOnly, s); err == nil {
		return t, nil
	}
	return time.Parse(time.RFC3339, s)
}
