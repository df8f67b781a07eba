package main

import (
	"encoding/json"
	"net/http"

	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/validator"
	"github.com/vektah/gqlparser/v2/validator/rules"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/middleware/graphqlcost"
	"github.com/stint-go/stint/respond"
)

// A graphQL answers POST /graphql.
type graphQL struct {
	schema     *ast.Schema
	calculator *graphqlcost.Calculator
}

func newGraphQL() *graphQL {
	calculator, err := graphqlcost.New(graphqlcost.Options{
		Schema: schema, MinCost: minimum,
		NoIntrospection: true,                            // which would have to be answered
		Limits:          graphqlcost.Limits{Tokens: 500}, // the validator compares each field with each
	})
	if err != nil {
		panic(err)
	}
	return &graphQL{gqlparser.MustLoadSchema(&ast.Source{Input: schema}), calculator}
}

// costOfGraphQL is the most that the request's operations can select.
func costOfGraphQL(calculator *graphqlcost.Calculator) func(*http.Request) (ratelimit.Costs, error) {
	return func(r *http.Request) (ratelimit.Costs, error) {
		if r.Method != http.MethodPost {
			return nil, nil // the minimum
		}
		return calculator.Breakdown(r)
	}
}

// ServeHTTP executes what was costed. What turns out to be wrong costs the minimum.
func (g *graphQL) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	operations, batch, err := g.calculator.Operations(r)
	if err != nil { // the limiter has read it before
		writeError(w, r, http.StatusBadRequest, string(respond.InvalidQuery), "The request could not be read.")
		return
	}
	answers, valid := make([]any, len(operations)), false
	for i, op := range operations {
		answer, ok := g.answer(op)
		answers[i], valid = answer, valid || ok
	}
	status := http.StatusOK
	if !valid {
		payMinimum(r)
		status = http.StatusBadRequest
	}
	if batch {
		writeJSON(w, status, answers)
		return
	}
	writeJSON(w, status, answers[0])
}

// answer answers an operation, and tells whether it was executed.
func (g *graphQL) answer(op graphqlcost.Operation) (any, bool) {
	if op.Query == "" { // a hash that the calculator has met, and nobody keeps
		return graphQLFailure(string(respond.UnknownQuery), "The persisted query is not known."), false
	}
	doc, errs := gqlparser.LoadQueryWithRules(g.schema, op.Query, rules.NewDefaultRules())
	if len(errs) > 0 {
		return graphQLFailure(string(respond.InvalidQuery), errs[0].Message), false
	}
	operation := doc.Operations.ForName(op.Name)
	if operation == nil {
		return graphQLFailure(string(respond.InvalidQuery), "There is no such operation."), false
	}
	var variables map[string]any
	if op.Variables != "" {
		if err := json.Unmarshal([]byte(op.Variables), &variables); err != nil {
			return graphQLFailure(string(respond.InvalidQuery), "The variables are no JSON object."), false
		}
	}
	variables, err := validator.VariableValues(g.schema, operation, variables)
	if err != nil {
		return graphQLFailure(string(respond.InvalidQuery), "A variable has no value, or one of another type."), false
	}
	e := execution{schema: g.schema, variables: variables}
	e.object(query, operation.SelectionSet)
	return map[string]any{"data": json.RawMessage(e.out.Bytes())}, true
}

// graphQLRefusal is the body of a refused request.
func graphQLRefusal(d respond.Denial) any { return graphQLFailure(codeOf(d), d.Detail) }

// graphQLFailure is an error in the form that GraphQL's clients read.
func graphQLFailure(code, message string) any {
	return map[string]any{"errors": []any{map[string]any{
		"message": message, "extensions": map[string]any{"code": code},
	}}}
}
