package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/redisstore"
	"github.com/stint-go/stint/redisstore/redistest"
)

// onRedis is the API as a process of its own has it, once it has met Redis.
func onRedis(t *testing.T, addr string) http.Handler {
	client := redis.NewClient(&redis.Options{Addr: addr})
	store := redisstore.New(client)
	instances, leave := store.Attend("nosto") // as the limiter does
	t.Cleanup(func() {
		leave()
		_ = store.Close()
		_ = client.Close()
	})
	require.Eventually(t, func() bool { return instances() > 0 }, 10*time.Second, time.Millisecond)
	return routes(store)
}

// A factor that is set in one process binds in all, and so do their counts. Where a
// machine is so busy that a call of Redis takes too long, it is tried again.
func TestRedis(t *testing.T) {
	srv := redistest.Start(t)
	one, two := onRedis(t, srv.Addr()), onRedis(t, srv.Addr())
	again := func(what string, try func(i int) bool) {
		t.Helper()
		for i := range 20 {
			if try(i) {
				return
			}
		}
		t.Fatal(what)
	}
	again("a recommendation", func(i int) bool {
		a := send(t, one, "GET", "/recommendations?type=normal&limit=20&segments=2", fmt.Sprint("std_a", i), "")
		require.Equal(t, 200, a.Code, a.Body.String())
		require.Equal(t, "session=10,normal=50,products=7,segments=4", a.details())
		require.EqualValues(t, 71, a.Cost)
		return a.Max == 10_000 && a.Available >= 9929
	})

	require.Equal(t, 200, operate(one, "PUT", `{"factor":0.01}`, nil).Code)
	factor := func(h http.Handler) string {
		body, _, _ := strings.Cut(operate(h, "GET", "", nil).Body.String(), ",") // clocks differ on its end
		return body
	}
	require.Equal(t, `{"factor":0.01`, factor(one))
	require.Eventually(t, func() bool { return factor(two) == factor(one) }, 10*time.Second, 10*time.Millisecond)

	again("searches of one key, in both", func(i int) bool {
		key := fmt.Sprint("std_b", i)
		first := send(t, one, "POST", "/search", key, `{"query":"x"}`)
		second := send(t, two, "POST", "/search", key, `{"query":"x"}`)
		if first.Max != 100 || second.Max != 100 {
			return false
		}
		require.EqualValues(t, 100, first.Rate)
		require.Equal(t, 200, first.Code, "alone, it may take more than there is")
		require.Equal(t, 429, second.Code, "for six seconds, at 100 points a second")
		require.Equal(t, "temporary_reduced_capacity", second.code(t))
		require.Contains(t, []string{"4", "5", "6"}, second.Header().Get("Retry-After"))
		return true
	})
}

// Whatever a request is for, it is one round trip: and one more, which nobody waits
// for, if it is settled.
func TestOneRoundTrip(t *testing.T) {
	srv := redistest.Start(t)
	proxy := redistest.StartProxy(t, srv.Addr())
	h := onRedis(t, proxy.Addr())
	ask := func() {
		require.Equal(t, 200, send(t, h, "POST", "/graphql", "adv_a", graphQLBody("{ __typename }")).Code)
	}
	ask() // dials, and loads the script
	const n = 300
	before, began := proxy.Traffic(), time.Now()
	for range n {
		ask()
	}
	looks := 10 * (1 + time.Since(began).Seconds()) // at the scale
	trips := proxy.Traffic().Since(before).RoundTrips
	require.LessOrEqual(t, float64(trips), 1.05*n+looks)
}

// While Redis is away each process counts its share, and every response tells of
// it. The factor that was known holds.
func TestWithoutRedis(t *testing.T) {
	srv := redistest.Start(t)
	h := onRedis(t, srv.Addr())
	require.Equal(t, 200, operate(h, "PUT", `{"factor":0.5}`, nil).Code)
	require.EqualValues(t, 5000, send(t, h, "GET", "/recommendations", "std_a", "").Max)
	srv.Kill()
	for _, path := range []string{"/recommendations", "/recommendations?limit=-1", "/nothing", "/search"} {
		a := send(t, h, "GET", path, "std_a", "")
		require.EqualValues(t, 5000, a.Max, path)
	}
	a := send(t, h, "GET", "/recommendations", "std_a", "")
	require.Equal(t, 200, a.Code, a.Body.String())
	require.EqualValues(t, 67, a.Cost)
	w := operate(h, "PUT", `{"factor":0.25}`, nil)
	require.Equal(t, 503, w.Code)
	require.Contains(t, w.Body.String(), "store_unavailable")
}
