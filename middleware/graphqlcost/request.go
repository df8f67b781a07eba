package graphqlcost

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strings"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/respond"
)

// An Operation is one that a client asks for.
type Operation struct {
	Query     string // the document; or empty, with an ID
	ID        string // a persisted query's, for Options.Persisted
	Name      string // of the operation; may be empty if there is but one
	Variables string // a JSON object, or empty

	checked bool // Variables are known to be valid
	hashed  bool // ID is the query's SHA-256
	batched bool // it came in an array
}

// ofRequest asks what of the operations of a request: once for each key, if it
// has a body.
func ofRequest[T any](c *Calculator, r *http.Request, key any, ask func(context.Context, []Operation) (T, error)) (T, error) {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		ops, err := c.inURL(r.URL)
		if err != nil {
			var none T
			return none, err
		}
		return ask(r.Context(), ops)
	}
	return ratelimit.ReadBody(r, int64(c.options.Limits.Body), key, func(body []byte) (answer T, err error) {
		ops, err := c.inBody(r, string(body))
		if err != nil {
			return answer, err
		}
		return ask(r.Context(), ops)
	})
}

// inURL returns the operation in a URL: none, if there is no sign of one, as in a
// request for a page or for a WebSocket.
func (c *Calculator) inURL(u *url.URL) ([]Operation, error) {
	fields, err := c.urlFields(u)
	if err != nil {
		return nil, err
	}
	if fields == (envelope{}) {
		return nil, nil
	}
	op, err := fields.operation()
	return []Operation{op}, err
}

func (c *Calculator) urlFields(u *url.URL) (envelope, error) {
	var fields envelope
	if u.RawQuery == "" {
		return fields, nil
	}
	if len(u.RawQuery) > c.options.Limits.Body {
		return fields, tooComplex("A URL may have at most %d bytes.", int64(c.options.Limits.Body))
	}
	all, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return fields, invalid(err)
	}
	for name, values := range all {
		if len(values) > 1 && fields.text(name) != nil {
			return fields, invalidf("the URL has %q twice", name)
		}
		if text := fields.text(name); text != nil {
			*text = values[0]
		}
	}
	for _, inJSON := range []string{fields.variables, fields.extensions} {
		if inJSON != "" {
			if err := checkJSON(inJSON); err != nil {
				return fields, invalid(err)
			}
		}
	}
	return fields, nil
}

func (c *Calculator) inBody(r *http.Request, body string) ([]Operation, error) {
	inURL, err := c.urlFields(r.URL)
	if err != nil {
		return nil, err
	}
	if isGraphQL(r.Header.Get("Content-Type")) {
		if inURL.query != "" || inURL.id != "" || inURL.documentID != "" || inURL.extensions != "" {
			return nil, invalid(errors.New("the query is both in the URL and in the body"))
		}
		inURL.query = body
		op, err := inURL.operation()
		return []Operation{op}, err
	}
	if err := checkJSON(body); err != nil {
		return nil, invalid(fmt.Errorf("the body: %w", err))
	}
	text := value(strings.Trim(body, " \t\r\n"))
	if text[0] != '[' {
		op, err := inObject(text, inURL)
		return []Operation{op}, err
	}
	ops := make([]Operation, 0, 1)
	documents := 0
	for item := range text.items {
		if len(ops) == c.options.Limits.Batch {
			return nil, &ratelimit.CostError{
				Reason: respond.BatchTooLarge,
				Detail: fmt.Sprintf("A batch has at most %d operations.", c.options.Limits.Batch),
			}
		}
		op, err := inObject(item, inURL)
		if err != nil {
			return nil, err
		}
		if documents += len(op.Query); documents > c.options.Limits.Document {
			return nil, tooComplex("The documents of a request may have at most %d bytes.", int64(c.options.Limits.Document))
		}
		op.batched = true
		ops = append(ops, op)
	}
	if len(ops) == 0 {
		return nil, invalid(errors.New("the batch is empty"))
	}
	return ops, nil
}

// isGraphQL tells whether a body of a type is a document itself.
func isGraphQL(contentType string) bool {
	const graphQL = "application/graphql"
	contentType = strings.TrimSpace(contentType)
	if len(contentType) < len(graphQL) || !strings.EqualFold(contentType[:len(graphQL)], graphQL) {
		return false // as most are, and reading parameters takes its time
	}
	kind, _, _ := mime.ParseMediaType(contentType)
	return kind == graphQL
}

// An envelope is the fields of a request.
type envelope struct {
	query, operationName, variables, extensions, id, documentID string
}

// text returns where the field of a name goes.
func (f *envelope) text(name string) *string {
	switch name {
	case "query":
		return &f.query
	case "operationName":
		return &f.operationName
	case "variables":
		return &f.variables
	case "extensions":
		return &f.extensions
	case "id":
		return &f.id
	case "documentId":
		return &f.documentID
	}
	return nil
}

// inObject returns the operation that an object of the body asks for. Servers
// differ in which they read of a field that is there twice, or once more in
// capitals, or in the URL too: then it is refused.
func inObject(v value, inURL envelope) (Operation, error) {
	if v[0] != '{' {
		return Operation{}, invalid(errors.New("a request is an object, or an array of them"))
	}
	var f, seen envelope
	var err error
	for name, member := range v.members {
		text := f.text(name)
		if text == nil {
			for _, own := range [...]string{"query", "operationName", "variables", "extensions", "id", "documentId"} {
				if len(name) >= len(own) && strings.EqualFold(name, own) {
					err = invalidf("a field is named %q, which is almost %q", name, own)
				}
			}
			continue
		}
		if *seen.text(name) != "" {
			err = invalidf("the field %q is there twice", name)
		}
		*seen.text(name) = "seen"
		isText := text != &f.variables && text != &f.extensions
		switch {
		case member == null:
		case isText && member[0] == '"':
			*text = unquoted(string(member))
		case isText && text == &f.id: // a number, perhaps, that is none of GraphQL's
		case isText || member[0] != '{':
			err = invalidf("the field %q is of another type", name)
		default:
			*text = string(member)
		}
		if err != nil {
			break
		}
	}
	if err == nil && (inURL.query != "" || inURL.variables != "" || inURL.extensions != "" || inURL.id != "" || inURL.documentID != "" ||
		inURL.operationName != "" && inURL.operationName != f.operationName) {
		err = invalid(errors.New("the request is both in the URL and in the body"))
	}
	if err != nil {
		return Operation{}, err
	}
	return f.operation()
}

// operation returns the operation that fields ask for.
func (f *envelope) operation() (Operation, error) {
	op := Operation{Query: f.query, Name: f.operationName, Variables: f.variables, checked: true}
	hash, err := persistedHash(value(strings.TrimLeft(f.extensions, " \t\r\n")))
	if err != nil {
		return op, err
	}
	ids := 0
	for _, id := range []string{hash, f.documentID, f.id} {
		if id != "" {
			op.ID = id
			ids++
		}
	}
	op.hashed = hash != ""
	switch {
	case ids > 1, ids == 1 && op.Query != "" && hash == "" && f.documentID != "":
		return op, invalid(errors.New("the request names more than one query"))
	case op.Query != "" && hash == "":
		op.ID = "" // an id beside a query is the request's own
	}
	return op, nil
}

// persistedHash returns the hash of Apollo's persisted queries, or none.
func persistedHash(extensions value) (hash string, err error) {
	for name, extension := range extensions.members {
		if name != "persistedQuery" {
			continue
		}
		for name, member := range extension.members {
			if name != "sha256Hash" {
				continue
			}
			if hash != "" || member[0] != '"' {
				return "", invalid(errors.New("the extension persistedQuery is no one hash"))
			}
			hash = unquoted(string(member))
		}
	}
	return hash, nil
}

// checkVariables leaves the variables an object that is known to be valid, or
// empty.
func (op *Operation) checkVariables() error {
	if !op.checked && op.Variables != "" {
		if err := checkJSON(op.Variables); err != nil {
			return invalid(fmt.Errorf("the variables: %w", err))
		}
	}
	op.Variables = strings.Trim(op.Variables, " \t\r\n")
	switch {
	case op.Variables == "", op.Variables == string(null):
		op.Variables = ""
	case op.Variables[0] != '{':
		return invalid(errors.New("the variables are no object"))
	}
	return nil
}

// plan returns the plan of an operation, from the cache if it is there.
func (c *Calculator) plan(ctx context.Context, op *Operation) (*plan, error) {
	if err := op.checkVariables(); err != nil {
		return nil, err
	}
	text := op.Query
	if text == "" {
		if p, err, ok := c.persisted(op); ok {
			return p, err
		}
		var err error
		if text, err = c.lookUp(ctx, op.ID); err != nil {
			return nil, err
		}
	}
	if len(text) > c.options.Limits.Document {
		return nil, tooComplex("A document may have at most %d bytes.", int64(c.options.Limits.Document))
	}
	known := c.plans.get(text, op.Name)
	if op.hashed && op.Query != "" && !isDigest(op.ID, text, known) {
		return nil, invalid(errors.New("the query has another hash than the request says"))
	}
	if known != nil {
		return known.plan, known.err
	}
	if c.plans.most == 0 {
		return c.compile(text, op.Name)
	}
	text = strings.Clone(text) // it may be a part of the request
	p, err := c.compile(text, op.Name)
	c.plans.put(text, op.Name, p, err)
	return p, err
}

// isDigest tells whether an id is the SHA-256 of a text, which may be a known one.
func isDigest(id, text string, known *planEntry) bool {
	sum, ok := digestIn(id)
	switch {
	case !ok:
		return false
	case known != nil:
		return sum == known.digest
	}
	return sum == digestOf(text)
}

// persisted returns the plan of a query that came before with its text, or by the
// same hash.
func (c *Calculator) persisted(op *Operation) (*plan, error, bool) {
	sum, ok := digestIn(op.ID)
	if !ok {
		return nil, nil, false
	}
	known := c.plans.getByDigest(&sum, op.Name)
	if known == nil {
		return nil, nil, false
	}
	return known.plan, known.err, true
}

func (c *Calculator) lookUp(ctx context.Context, id string) (string, error) {
	if id == "" {
		return "", invalid(errors.New("there is no query"))
	}
	text := ""
	if c.options.Persisted != nil {
		var err error
		if text, err = c.options.Persisted(ctx, id); err != nil {
			return "", &ratelimit.CostError{Reason: respond.StoreUnavailable, Err: fmt.Errorf("graphqlcost: persisted query %.80q: %w", id, err)}
		}
	}
	if text == "" {
		return "", &ratelimit.CostError{Reason: respond.UnknownQuery, Err: fmt.Errorf("graphqlcost: persisted query %.80q", id)}
	}
	return text, nil
}
