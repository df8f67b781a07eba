package redisstore_test

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
	chimiddleware "github.com/go-chi/chi/v5/middleware"
	"github.com/go-chi/httprate"
	"github.com/redis/go-redis/v9"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/redisstore"
)

// A store by itself, without the middleware. It is compiled and not run, for
// lack of a server.
func ExampleNew() {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379"})
	defer client.Close()
	store := redisstore.New(client)
	defer store.Close()

	charges := []policy.Charge{
		{Limit: policy.PerMinute(60), Key: "key1", Partition: "acme", Units: 1},
		{Limit: policy.PerHour(5000), Key: "acme", Units: 1},
	}
	var d policy.Decision
	if err := store.Take(context.Background(), policy.NewTicket(), charges, &d); err != nil {
		fmt.Println("unknown:", err) // serve, or refuse with 503
		return
	}
	fmt.Println(d.Verdict, d.RetryAfter())
}

// Two environments on one Redis count apart.
func ExampleOptions_New() {
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:7000"}})
	defer client.Close()
	store := redisstore.Options{Namespace: "staging"}.New(client)
	defer store.Close()
}

// A program on httprate that counts in Redis.
func ExampleCounter() {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379"})
	defer client.Close()
	store := redisstore.New(client)
	defer store.Close()
	items := func(http.ResponseWriter, *http.Request) {}

	clientIP := func(r *http.Request) (string, error) {
		return httprate.CanonicalizeIP(chimiddleware.GetClientIP(r.Context())), nil
	}
	r := chi.NewRouter()
	r.Use(chimiddleware.ClientIPFromRemoteAddr)
	r.Use(httprate.LimitBy(100, time.Minute, clientIP,
		httprate.WithLimitCounter(&redisstore.Counter{Store: store, Name: "api"}), // new
	))
	r.Get("/items", items)

	fmt.Println(len(r.Routes()), "route behind", len(r.Middlewares()), "middlewares")
	// Output:
	// 1 route behind 2 middlewares
}

// Takes that count only once a replica has them, beside others that can afford to
// lose some in a failover, on one client. It is compiled and not run, for lack of
// servers.
func ExampleOptions_waitReplicas() {
	client := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "limits", SentinelAddrs: []string{"127.0.0.1:26379"}})
	defer client.Close()
	rates := redisstore.New(client)
	defer rates.Close()
	quotas := redisstore.Options{WaitReplicas: 1}.New(client)
	defer quotas.Close()

	charges := []policy.Charge{{Limit: policy.Quota(25_000, policy.Monthly), Key: "acme", Units: 50}}
	var d policy.Decision
	if err := quotas.Take(context.Background(), policy.NewTicket(), charges, &d); err != nil {
		fmt.Println("not known to a replica, and given back:", err)
		return
	}
	fmt.Println(d.Verdict)
}
