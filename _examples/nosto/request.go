package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/url"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

// maxBody is how long a JSON body may be.
const maxBody = 64 << 10

// A request is what the body of a search or of recommendations says.
type request interface{ check() error }

// read returns what a request's JSON body asks for. It is read once: the handler
// answers what was charged. A wrong one is refused by the limiter.
func read[T request](r *http.Request, preset T) (T, error) {
	return ratelimit.ReadBody(r, maxBody, bodyKey[T]{}, func(body []byte) (T, error) {
		asked := preset
		err := json.Unmarshal(body, &asked)
		switch wrong, _ := errors.AsType[*json.UnmarshalTypeError](err); {
		case wrong != nil && wrong.Field != "":
			return asked, invalid("invalid_"+wrong.Field, "The field %s is of another type, or out of range.", wrong.Field)
		case err != nil, !bytes.ContainsRune(body, '{'): // null is no object
			return asked, invalid("invalid_json", "Send a JSON object.")
		}
		return asked, asked.check()
	})
}

// bodyKey is the key under which a body keeps what it asks for.
type bodyKey[T request] struct{}

// invalid refuses a wrong request: the rule charges it the minimum.
func invalid(code, format string, args ...any) error {
	return &ratelimit.CostError{Reason: respond.Reason(code), Status: http.StatusBadRequest, Detail: fmt.Sprintf(format, args...)}
}

// checkNumber refuses numbers that are less than nothing, or more than any budget.
func checkNumber(name string, n int64) error {
	if n < 0 || n > policy.MaxUnits {
		return invalid("invalid_"+name, "Write %s as a whole number from 0 to %d.", name, int64(policy.MaxUnits))
	}
	return nil
}

// urlValues returns the parameters in a URL, none of them twice: who reads it next
// might take the other one.
func urlValues(r *http.Request) (url.Values, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, invalid("invalid_url", "The URL's parameters are not escaped properly.")
	}
	for _, all := range values {
		if len(all) > 1 {
			return nil, invalid("invalid_url", "A parameter is there twice.")
		}
	}
	return values, nil
}

// settle says what a request has cost in the end.
func settle(r *http.Request, budget string, costs ratelimit.Costs) {
	if costs == nil {
		costs = ratelimit.Costs{} // the minimum
	}
	if err := ratelimit.SetCosts(r.Context(), budget, costs); err != nil {
		log.Printf("settle: %v", err)
	}
}
