package respond_test

import (
	"encoding/json"
	"math"
	"math/big"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

var points = respond.Points{Status: "X-Status", Details: "X-Details"}

// costing gives a standing a cost in parts.
func costing(st respond.Standing, parts ...respond.Part) respond.Standing {
	st.Parts = append(respond.Costs{}, parts...)
	st.Cost = st.Parts.Sum()
	return st
}

// costs gives it one that knows no parts.
func costs(st respond.Standing, cost int64) respond.Standing {
	st.Cost = cost
	return st
}

func TestPointsStatus(t *testing.T) {
	t.Parallel()
	bucket := policy.TokenBucket(60, time.Minute).WithBurst(120)
	slots := respond.Standing{Rule: "slots", Limit: policy.Concurrency(2), Result: policy.Result{Verdict: policy.Refused, Capacity: 2}}
	for _, tt := range []struct {
		name      string
		points    respond.Points
		standings []respond.Standing
		want      string
	}{
		{"a bucket", points, []respond.Standing{costs(taken(bucket, 90), 90)},
			`{"requestCost":90,"maximumAvailable":120,"currentlyAvailable":30,"restoreRate":1}`},
		{"a refusal: what was asked", points, []respond.Standing{costs(askedAfter(bucket, 100, 25), 25)},
			`{"requestCost":25,"maximumAvailable":120,"currentlyAvailable":20,"restoreRate":1}`},
		{"more than it ever admits", points, []respond.Standing{costs(askedAfter(bucket, 0, 121), 121)},
			`{"requestCost":121,"maximumAvailable":120,"currentlyAvailable":120,"restoreRate":1}`},
		{"a window: its mean", points, []respond.Standing{costs(taken(policy.PerHour(1000), 1), 1)},
			`{"requestCost":1,"maximumAvailable":1000,"currentlyAvailable":999,"restoreRate":0.277777}`},
		{"a quota", points, []respond.Standing{costs(taken(policy.Quota(10, policy.Monthly), 1), 1)},
			`{"requestCost":1,"maximumAvailable":10,"currentlyAvailable":9,"restoreRate":0}`},
		{"the one that binds", points, []respond.Standing{costs(taken(policy.PerHour(100), 10), 10), costs(taken(policy.PerMinute(20), 10), 10), slots},
			`{"requestCost":10,"maximumAvailable":20,"currentlyAvailable":10,"restoreRate":0.333333}`},
		{"the one with parts", points, []respond.Standing{costs(taken(policy.PerMinute(2), 1), 1), costing(taken(bucket, 7), respond.Part{Name: "a", Points: 7}), slots},
			`{"requestCost":7,"maximumAvailable":120,"currentlyAvailable":113,"restoreRate":1}`},
		{"with parts, but none", points, []respond.Standing{costing(taken(bucket, 0)), costs(taken(policy.PerMinute(2), 1), 1)},
			`{"requestCost":0,"maximumAvailable":120,"currentlyAvailable":120,"restoreRate":1}`},
		{"the rule named", respond.Points{Status: "X-Status", Rule: "rate"},
			[]respond.Standing{costing(taken(bucket, 7), respond.Part{Name: "a", Points: 7}), named(costs(taken(policy.PerMinute(2), 1), 1), "api", "rate")},
			`{"requestCost":1,"maximumAvailable":2,"currentlyAvailable":1,"restoreRate":0.033333}`},
		{"other names", respond.Points{Status: "x-status", Cost: "cost", Maximum: "max", Available: "left", Rate: "per_second"}, []respond.Standing{costs(taken(bucket, 90), 90)},
			`{"cost":90,"max":120,"left":30,"per_second":1}`},
		{"only slots", points, []respond.Standing{slots}, ""},
		{"an unlimited quota", points, []respond.Standing{taken(policy.Quota(policy.Unlimited, policy.Monthly), 5)}, ""},
		{"nothing", points, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, tt.points.Validate())
			h := http.Header{}
			tt.points.WriteFields(h, report(tt.standings...))
			assert.Equal(t, tt.want, h.Get("X-Status"))
			if tt.want != "" {
				assert.True(t, json.Valid([]byte(tt.want)))
			} else {
				assert.Empty(t, h)
			}
			assert.NotContains(t, h, "X-Details", "nobody asked")
		})
	}
	assert.NotPanics(t, func() {
		points.WriteFields(nil, report())
		points.WriteFields(http.Header{}, nil)
	})
}

func TestPointsDetails(t *testing.T) {
	t.Parallel()
	bucket := policy.TokenBucket(10_000, time.Second)
	for name, tt := range map[string]struct {
		standing respond.Standing
		want     string
	}{
		"parts":       {costing(taken(bucket, 71), respond.Part{"session", 10}, respond.Part{"normal", 50}, respond.Part{"products", 7}, respond.Part{"segments", 4}), "session=10,normal=50,products=7,segments=4"},
		"none":        {costing(taken(bucket, 0)), ""},
		"no parts":    {costs(taken(bucket, 600), 600), "per_key=600"},
		"no cost":     {taken(bucket, 0), ""},
		"odd names":   {costing(taken(bucket, 6), respond.Part{"a,b=1\r\nX: y", 1}, respond.Part{"", 2}, respond.Part{"=cmd()", 3}, respond.Part{"größe", 0}, respond.Part{"-1", 0}), "a_b_1__X:_y=1,_=2,_cmd__=3,gr__e=0,_1=0"},
		"a long name": {costing(taken(bucket, 1), respond.Part{strings.Repeat("n", 5000), 1}), strings.Repeat("n", 64) + "=1"},
		"no UTF-8":    {costing(taken(bucket, 1), respond.Part{"a\xff\x00", 1}), "a__=1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := http.Header{"X-Details": {"of an outer limiter"}}
			r := report(tt.standing)
			r.Details = true
			points.WriteFields(h, r)
			assert.Equal(t, tt.want, h.Get("X-Details"))
			assert.Equal(t, tt.want == "", h["X-Details"] == nil)
		})
	}
}

// However many parts there are, and whatever their names, the field is short, has
// nothing in it that means something, and adds up.
func TestPointsDetailsAddUp(t *testing.T) {
	t.Parallel()
	shape := regexp.MustCompile(`^(\w[\w./:-]{0,63}=\d+(,|$))+$`)
	rapid.Check(t, func(t *rapid.T) {
		var parts respond.Costs
		want := new(big.Int)
		for range rapid.IntRange(1, 200).Draw(t, "parts") {
			p := respond.Part{
				Name:   rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-z.]{0,80}`)).Draw(t, "name"),
				Points: rapid.OneOf(rapid.Int64Range(0, 100), rapid.Int64Range(0, math.MaxInt64/200)).Draw(t, "points"),
			}
			parts = append(parts, p)
			want.Add(want, big.NewInt(p.Points))
		}
		h := http.Header{}
		r := report(costing(taken(policy.PerMinute(60), 1), parts...))
		r.Details = true
		points.WriteFields(h, r)
		text := h.Get("X-Details")
		if len(text) > 1024 || !shape.MatchString(text) {
			t.Fatalf("%d bytes: %q", len(text), text)
		}
		got := new(big.Int)
		members := strings.Split(text, ",")
		for _, member := range members {
			_, number, _ := strings.Cut(member, "=")
			n, err := strconv.ParseInt(number, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			got.Add(got, big.NewInt(n))
		}
		if got.Cmp(want) != 0 {
			t.Fatalf("it adds up to %v, not to %v: %q", got, want, text)
		}
		if len(members) > len(parts) || len(members) < min(len(parts), 9) {
			t.Fatalf("%d of %d parts", len(members), len(parts))
		}
	})
}

// The rate is that of the limit, rounded down to a millionth.
func TestPointsRestoreRate(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(1, policy.MaxUnits).Draw(t, "n")
		window := time.Duration(rapid.Int64Range(int64(policy.MinWindow/time.Microsecond), int64(policy.MaxWindow/time.Microsecond)).Draw(t, "window")) * time.Microsecond
		h := http.Header{}
		points.WriteFields(h, report(taken(policy.SlidingWindow(n, window), 1)))
		var status struct{ RestoreRate json.Number }
		if err := json.Unmarshal([]byte(h.Get("X-Status")), &status); err != nil {
			t.Fatal(err)
		}
		got, ok := new(big.Rat).SetString(status.RestoreRate.String())
		if !ok {
			t.Fatal(status.RestoreRate)
		}
		want := new(big.Rat).SetFrac(big.NewInt(n), big.NewInt(int64(window)))
		want.Mul(want, big.NewRat(int64(time.Second), 1))
		short := new(big.Rat).Sub(want, got)
		if short.Sign() < 0 || short.Cmp(big.NewRat(1, 1e6)) >= 0 {
			t.Fatalf("%d in %v: %s, not %s", n, window, status.RestoreRate, want.FloatString(9))
		}
	})
}

func TestPointsValidate(t *testing.T) {
	t.Parallel()
	for want, p := range map[string]respond.Points{
		"Points without a name":                            {},
		`field name "a b": write letters`:                  {Status: "a b"},
		`field name "Content-Length"`:                      {Status: "X-S", Details: "content-length"},
		`two fields named "x-s"`:                           {Status: "x-s", Details: "X-S"},
		`Points says "restoreRate" twice`:                  {Status: "X-S", Cost: "restoreRate"},
		`name "a\"b": write letters, digits, or any of :-`: {Status: "X-S", Cost: `a"b`},
	} {
		style := respond.Style{Fields: []respond.FieldWriter{p}}
		require.ErrorContains(t, style.Validate(), want)
	}
	style := respond.Style{DetailsOn: "cost debug"}
	require.ErrorContains(t, style.Validate(), `DetailsOn "cost debug": write letters`)
}

func TestCosts(t *testing.T) {
	t.Parallel()
	var c respond.Costs
	c.Add("none", 0)
	assert.Nil(t, c)
	c.Add("a", 3)
	c.Add("b", 4)
	c.Add("a", 5)
	assert.Equal(t, respond.Costs{{Name: "a", Points: 8}, {Name: "b", Points: 4}}, c)
	assert.EqualValues(t, 12, c.Sum())
	c.Add("a", math.MaxInt64)
	assert.EqualValues(t, math.MaxInt64, c[0].Points)
	assert.EqualValues(t, math.MaxInt64, c.Sum())
	c = nil
	c.Add("a", math.MinInt64)
	c.Add("a", -1)
	assert.EqualValues(t, math.MinInt64, c.Sum())
}
