// Package serve is what the example programs have in common: flags, a store,
// and a server that says where it listens and stops when it is told to.
package serve

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/policy/memstore"
	"github.com/stint-go/stint/redisstore"
)

// Flags of every example. A program may define its own before it calls Main.
var (
	addr     = flag.String("addr", "127.0.0.1:8080", "address to listen on; port 0 picks one")
	redisURL = flag.String("redis", "", "URL of a Redis to count in, as in redis://127.0.0.1:6379/0; empty means memory")
)

// Main serves the handler that build makes over a store until the process is
// told to stop. Hints, such as a command line to try, are logged with the
// server's URL in place of %s.
func Main(build func(policy.Store) http.Handler, hints ...string) {
	flag.Parse()
	log.SetFlags(log.Ltime)
	if flag.NArg() > 0 {
		log.Fatalf("unexpected argument %q: see -help", flag.Arg(0))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, build, hints); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, build func(policy.Store) http.Handler, hints []string) error {
	store, closeStore, err := open(*redisURL)
	if err != nil {
		return err
	}
	defer closeStore()
	ln, err := net.Listen("tcp", *addr)
	if err != nil {
		return err
	}
	url := "http://" + ln.Addr().String()
	fmt.Println("listening on " + url)
	for _, hint := range hints {
		log.Printf(hint, url)
	}
	return serve(ctx, ln, build(store))
}

var errRedisURL = errors.New("-redis: write a URL such as redis://user:password@127.0.0.1:6379/0, with what is special in the password escaped")

// open returns the store that the URL names, and how to close it.
func open(url string) (policy.Store, func(), error) {
	if url == "" {
		store := memstore.New(memstore.Options{})
		return store, func() { _ = store.Close() }, nil
	}
	options, err := redis.ParseURL(url)
	if err != nil {
		return nil, nil, errRedisURL // err quotes the URL, or the part of a password that was taken for a port
	}
	client := redis.NewClient(options)
	store := redisstore.New(client)
	return store, func() {
		_ = store.Close()
		_ = client.Close()
	}, nil
}

// serve serves until the context ends. Requests under way may finish within
// grace; what is open then, such as a stream, is cut.
func serve(ctx context.Context, ln net.Listener, handler http.Handler) error {
	const grace = 3 * time.Second
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(ln) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	timeout, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if err := server.Shutdown(timeout); errors.Is(err, context.DeadlineExceeded) {
		return server.Close()
	} else if err != nil {
		return err
	}
	return nil
}
