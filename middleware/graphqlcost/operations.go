package graphqlcost

import (
	"context"
	"net/http"
)

// Operations returns the operations of a request as they were costed, for a server
// to execute just those; and whether they came as a batch, which is answered by an
// array however many they are. There are none in a GET without a query. An
// operation without a Query is that of a persisted one's ID.
//
// The errors are those of Cost for what cannot be read as a request. The documents
// themselves are not looked at. The slice must not be changed.
func (c *Calculator) Operations(r *http.Request) (ops []Operation, batch bool, err error) {
	ops, err = ofRequest(c, r, operationsKey{c}, func(_ context.Context, ops []Operation) ([]Operation, error) {
		return ops, nil
	})
	if err != nil {
		return nil, false, err
	}
	return ops, len(ops) > 0 && ops[0].batched, nil
}

// operationsKey is the key under which a body keeps its operations.
type operationsKey struct{ *Calculator }
