package main

import (
	"flag"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/stint-go/stint/_examples/serve"
	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
)

// blocks are the first, the second and so on, and the last again, of an IP that
// goes on guessing.
var blocks = durations{time.Hour, 4 * time.Hour, 24 * time.Hour}

func init() {
	flag.Var(&blocks, "blocks", "how long an IP is blocked after 10 failed authentications: the first time, the second and so on")
}

// guard blocks IPs that guess keys, for all that they ask then: with a good key too.
// Legitimate clients send much at once and fail hardly ever, so that nothing is taken
// at the door: failures are counted as they are answered.
func guard() []ratelimit.Rule {
	return ratelimit.Guard{
		Name: "authentication", PerIP: policy.Lockout(10, time.Hour, blocks...),
		AfterResponse: true, Fail: ratelimit.FailOpen,
	}.Rules()
}

// unauthenticated tells of requests without a key of the right form, which are
// answered 401. A real service checks here that the key exists.
func unauthenticated(r *http.Request) bool {
	token, ok := serve.BearerToken(r)
	rest, live := strings.CutPrefix(token, "nudg3_live_ak_")
	return !ok || !live || rest == ""
}

// durations are a flag's, with commas between.
type durations []time.Duration

func (d *durations) String() string {
	var s []string
	for _, v := range *d {
		s = append(s, v.String())
	}
	return strings.Join(s, ",")
}

func (d *durations) Set(s string) error {
	var all durations
	for _, part := range strings.Split(s, ",") {
		v, err := time.ParseDuration(part)
		if err != nil {
			return fmt.Errorf("%q: write durations such as 1h,4h,24h", part)
		}
		all = append(all, v)
	}
	if err := policy.Lockout(10, time.Hour, all...).Validate(); err != nil {
		return err
	}
	*d = all
	return nil
}
