package main

import (
	"net/http"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/redisstore"
	"github.com/stint-go/stint/redisstore/redistest"
)

// onRedis is the API as a process of its own has it.
func onRedis(t *testing.T, addr string) http.Handler {
	client := redis.NewClient(&redis.Options{Addr: addr})
	store := redisstore.New(client)
	t.Cleanup(func() {
		_ = store.Close()
		_ = client.Close()
	})
	return routes(store)
}

// A factor that is set in one process binds in all, and so do their counts.
func TestRedis(t *testing.T) {
	srv := redistest.Start(t)
	one, two := onRedis(t, srv.Addr()), onRedis(t, srv.Addr())
	a := send(t, one, "GET", "/recommendations?type=normal&limit=20&segments=2", "std_a", "")
	require.Equal(t, 200, a.Code, a.Body.String())
	require.Equal(t, "session=10,normal=50,products=7,segments=4", a.details())
	require.EqualValues(t, 71, a.Cost)
	require.EqualValues(t, 10_000, a.Max)
	require.GreaterOrEqual(t, a.Available, int64(9929))

	require.Equal(t, 200, operate(one, "PUT", `{"factor":0.01}`, nil).Code)
	a = send(t, one, "POST", "/search", "std_b", `{"query":"x"}`)
	require.Equal(t, 200, a.Code, "alone, it may take more than there is")
	require.EqualValues(t, 100, a.Max)
	require.EqualValues(t, 100, a.Rate)
	require.Eventually(t, func() bool {
		return send(t, two, "GET", "/nothing", "std_c", "").Max == 100
	}, 10*time.Second, 10*time.Millisecond)
	require.JSONEq(t, operate(one, "GET", "", nil).Body.String(), operate(two, "GET", "", nil).Body.String())
	// 600 were taken at 100 a second, so that 6 seconds have to pass; and then as
	// many as the search itself costs.
	a = send(t, two, "POST", "/search", "std_b", `{"query":"x"}`)
	require.Equal(t, 429, a.Code)
	require.Equal(t, "temporary_reduced_capacity", a.code(t))
	require.Contains(t, []string{"5", "6"}, a.Header().Get("Retry-After"))
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
