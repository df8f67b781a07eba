package middleware

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/stint-go/stint/respond"
)

// Number returns a Cost for [Rule.Cost] that is a number in the request's body:
// the value of a field of its JSON object, such as 5000 of {"rows":5000} for
// "rows". The body is read and kept as by a [Batch], up to 1 MiB.
//
// A body without the field, or whose number is not a whole one from 0 on, is
// refused with a [CostError]: invalid_cost, 400. So is a field that is there
// twice, or once more in upper or lower case, since handlers differ in which of
// them they read. A body that is coded, such as by gzip, is refused too.
func Number(field string) func(*http.Request) (int64, error) {
	if field == "" {
		panic(`ratelimit: Number(""): write the name of a field`)
	}
	return func(r *http.Request) (int64, error) {
		invalid := func(err error) error {
			return &CostError{
				Reason: respond.InvalidCost,
				Detail: fmt.Sprintf("The body must be a JSON object with one whole number %q.", field),
				Err:    err,
			}
		}
		if encoded(r.Header) {
			return 0, invalid(errors.New("the body is coded"))
		}
		if r.ContentLength > defaultMaxBytes {
			return 0, bodyTooLarge(defaultMaxBytes, fmt.Errorf("a Content-Length of %d", r.ContentLength))
		}
		body := keep(r)
		if body == nil {
			return 0, invalid(errNoBody)
		}
		text, err := body.whole(r.Context(), defaultMaxBytes)
		if tooLong, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return 0, bodyTooLarge(tooLong.Limit, err)
		}
		if err != nil {
			return 0, fmt.Errorf("the body could not be read: %w", err)
		}
		n, err := numberIn(text, field)
		if err != nil {
			return 0, invalid(err)
		}
		return n, nil
	}
}

// numberIn returns the number that encoding/json would find, if it could find no
// other.
func numberIn(text []byte, field string) (int64, error) {
	if !json.Valid(text) {
		return 0, errNotJSON
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return 0, errNotJSON
	}
	var number string
	found := false
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return 0, errNotJSON
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return 0, errNotJSON
		}
		switch name, _ := name.(string); {
		case name == field && found:
			return 0, errTwice
		case name == field:
			number, found = string(value), true
		case strings.EqualFold(name, field):
			return 0, errCase
		}
	}
	if !found {
		return 0, errNoField
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("it is %.40q", number)
	}
	return n, nil
}
