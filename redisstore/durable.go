package redisstore

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// confirm returns the command that waits until replicas have what its connection wrote
// before, or nil if nobody asked for that. It waits for less than the client does, so
// that it is answered, and the connection can be kept.
func (s *Store) confirm(ctx context.Context, calls []*call) *command {
	if s.replicas <= 0 {
		return nil
	}
	for _, c := range calls {
		if c.kind != kindPeek && c.kind != kindUsage {
			left := s.timeout
			if deadline, ok := ctx.Deadline(); ok {
				left = time.Until(deadline)
			}
			// An idle server looks at its clock every 100 ms. 0 would be for ever.
			patience := max(left*3/4-100*time.Millisecond, left/4, time.Millisecond)
			return &command{Cmd: redis.NewCmd(ctx, "wait", s.replicas, patience.Milliseconds())}
		}
	}
	return nil
}

// confirmed returns an error unless enough replicas have what was written.
func (s *Store) confirmed(cmd *command) error {
	if cmd == nil {
		return nil
	}
	n, err := cmd.Int()
	switch {
	case err != nil:
		return fmt.Errorf("redisstore: whether replicas have it is not known: %w", err)
	case n < s.replicas:
		return fmt.Errorf("redisstore: %d of %d replicas have it: it may be lost", n, s.replicas)
	}
	return nil
}

// transmit sends script calls on one connection, in one round trip, and what confirms
// them behind. ASKING goes first if the slot is on its way.
func transmit(ctx context.Context, client doer, cmds []*command, asking bool, confirm *command) {
	if len(cmds) == 1 && !asking && confirm == nil {
		_ = client.Process(ctx, cmds[0])
		return
	}
	pipe := client.Pipeline()
	if asking {
		_ = pipe.Process(ctx, &command{Cmd: redis.NewCmd(ctx, "asking")})
	}
	for _, cmd := range cmds {
		_ = pipe.Process(ctx, cmd)
	}
	if confirm != nil {
		_ = pipe.Process(ctx, confirm)
	}
	_, _ = pipe.Exec(ctx)
}

// writes reports whether the answer is of something that a failover could lose, and
// that its caller relies on.
func (c *call) writes() bool {
	switch c.kind {
	case kindPeek, kindUsage:
		return false
	case kindTake:
		return c.took()
	}
	return true
}

// doubt ends a call that went through on a master, but that replicas do not have:
// whether it lasts is unknown. What it took is given back, and what may be sent
// again is.
func (l *lane) doubt(c *call, err error) {
	switch {
	case c.kind == kindSettle, c.kind == kindRenew && !c.abandoned():
		l.store.again(c, err)
		return
	case c.kind == kindTake:
		l.store.giveBack(c)
	}
	l.drop(c, err)
}
