package respond

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
)

// A Refusal is what the body of a refused response says. [Problem], [JSON],
// [Text] and [Empty] are such.
//
// Body returns the body and its Content-Type; an empty type means that there is
// no body. The report's Denial is never nil, and is complete. Body must be safe
// for concurrent use and keep nothing of the report. A refusal that has a
// method Validate() error is asked by [Style.Validate].
type Refusal interface {
	Body(r *Report) (contentType string, body []byte)
}

// Text says the denial's Detail and when to come back, in plain text:
//
//	Over the limit of 60 per minute. Retry in 12 seconds.
var Text Refusal = text{}

// Empty says nothing.
var Empty Refusal = empty{}

// JSON says what shape makes of the denial, as encoding/json writes it. The
// number of [Denial.Seconds] is that of the Retry-After field. A value that
// cannot be encoded becomes an empty body under the same status.
func JSON(shape func(Denial) any) Refusal { return jsonBody{shape} }

type text struct{}

func (text) Body(r *Report) (contentType string, body []byte) {
	b := []byte(r.Denial.Detail)
	if len(b) == 0 {
		b = append([]byte(http.StatusText(r.Denial.Status)), '.')
	}
	if s := r.Denial.Seconds(); s > 0 {
		b = strconv.AppendInt(append(b, " Retry in "...), s, 10)
		b = append(b, " second"...)
		if s != 1 {
			b = append(b, 's')
		}
		b = append(b, '.')
	}
	return "text/plain; charset=utf-8", append(b, '\n')
}

type empty struct{}

func (empty) Body(*Report) (contentType string, body []byte) { return "", nil }

type jsonBody struct{ shape func(Denial) any }

func (j jsonBody) Body(r *Report) (contentType string, body []byte) {
	if j.shape == nil {
		return "", nil
	}
	body, err := json.Marshal(j.shape(*r.Denial))
	if err != nil {
		return "", nil
	}
	return "application/json", body
}

func (j jsonBody) Validate() error {
	if j.shape == nil {
		return errors.New("respond: JSON(nil): write a func(Denial) any, or Empty")
	}
	return nil
}
