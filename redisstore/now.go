package redisstore

import (
	"time"

	"github.com/stint-go/stint/policy"
)

var _ policy.Clock = (*Store)(nil)

// Now implements [policy.Clock]: what the server's clock says, by its last reply.
func (s *Store) Now() time.Time {
	if s.now != nil {
		return s.now()
	}
	return time.UnixMicro(s.serverNow())
}
