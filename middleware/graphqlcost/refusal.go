package graphqlcost

import (
	"errors"
	"fmt"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/respond"
)

// invalid refuses a request that no server would execute. What is wrong may quote
// the client, and so goes to the Event.
func invalid(err error) error {
	return &ratelimit.CostError{Reason: respond.InvalidQuery, Err: fmt.Errorf("graphqlcost: %w", err)}
}

func invalidf(format string, args ...any) error { return invalid(fmt.Errorf(format, args...)) }

// tooComplex refuses a request that asks for too much, and tells the client the
// limit.
func tooComplex(format string, limit int64) error {
	detail := fmt.Sprintf(format, limit)
	return &ratelimit.CostError{Reason: respond.QueryTooComplex, Detail: detail, Err: errors.New("graphqlcost: " + detail)}
}
