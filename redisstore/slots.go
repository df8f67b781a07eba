package redisstore

import (
	"context"
	"errors"

	"github.com/stint-go/stint/policy"
)

// Wait implements [policy.Store].
func (s *Store) Wait(context.Context, policy.Ticket, policy.Charge) (policy.Result, error) {
	return policy.Result{}, errors.ErrUnsupported
}

// Renew implements [policy.Store].
func (s *Store) Renew(context.Context, []policy.Renewal) error { return errors.ErrUnsupported }
