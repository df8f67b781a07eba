package redistest

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// Flush empties the server, as an operator's FLUSHALL does.
func (s *Server) Flush() {
	s.tb.Helper()
	s.do("FLUSHALL")
}

// FlushScripts lets the server forget its scripts, as SCRIPT FLUSH or an empty restart
// does.
func (s *Server) FlushScripts() {
	s.tb.Helper()
	s.do("SCRIPT", "FLUSH")
}

// FillUp leaves the server without memory for writes (noeviction): they are refused
// with OOM, and it keeps what it has, until MakeRoom.
func (s *Server) FillUp() {
	s.tb.Helper()
	s.do("CONFIG", "SET", "maxmemory-policy", "noeviction")
	s.do("CONFIG", "SET", "maxmemory", "1")
}

// MakeRoom ends FillUp.
func (s *Server) MakeRoom() {
	s.tb.Helper()
	s.do("CONFIG", "SET", "maxmemory", "0")
}

// DenyWrites lets the server refuse writes with NOREPLICAS: it asks for more replicas
// than there are. Reads are answered, and it keeps what it has, until AllowWrites.
func (s *Server) DenyWrites() {
	s.tb.Helper()
	s.do("CONFIG", "SET", "min-replicas-to-write", "100")
}

// AllowWrites ends DenyWrites.
func (s *Server) AllowWrites() {
	s.tb.Helper()
	s.do("CONFIG", "SET", "min-replicas-to-write", "0")
}

// Demote makes the server a replica of nobody who is there: writes are refused with
// READONLY, and it keeps what it has, until Promote.
func (s *Server) Demote() {
	s.tb.Helper()
	const discard = "9"
	s.do("REPLICAOF", loopback, discard)
}

// Promote makes a replica a master.
func (s *Server) Promote() {
	s.tb.Helper()
	s.do("REPLICAOF", "NO", "ONE")
}

// SetPassword changes the password of the default user, "" being none, and ends
// all other connections, which would otherwise go on with the old one. The server's own
// methods know it; Client does not.
func (s *Server) SetPassword(password string) {
	s.tb.Helper()
	s.do("CONFIG", "SET", "requirepass", password)
	s.password = password
	s.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
}

// do sends the server a command, and fails the test if that fails.
func (s *Server) do(args ...any) any {
	s.tb.Helper()
	const patience = 5 * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client := redis.NewClient(&redis.Options{Addr: s.Addr(), Password: s.password, MaxRetries: -1})
	defer client.Close()
	v, err := client.Do(ctx, args...).Result()
	if err != nil {
		s.tb.Fatalf("redistest: %v: %v", args, err)
	}
	return v
}
