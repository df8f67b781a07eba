package respond_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/respond"
)

func BenchmarkWriteFields(b *testing.B) {
	styles := []struct {
		name  string
		style respond.Style
	}{
		{"XRateLimit", respond.Style{}},
		{"XRateLimitPerWindow", respond.Style{Fields: []respond.FieldWriter{respond.XRateLimitPerWindow}}},
		{"RateLimit", respond.Style{Fields: []respond.FieldWriter{respond.RateLimit}}},
	}
	r := report(taken(policy.PerMinute(60), 12), taken(policy.PerHour(600), 200))
	for _, s := range styles {
		b.Run(s.name, func(b *testing.B) {
			h := make(http.Header)
			b.ReportAllocs()
			for b.Loop() {
				s.style.WriteFields(h, r)
			}
		})
	}
}

func BenchmarkRefuse(b *testing.B) {
	var style respond.Style
	r := report(refused(policy.PerMinute(60), 1))
	r.Denial = respond.Deny("", r)
	req := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	b.ReportAllocs()
	for b.Loop() {
		style.Refuse(discard{}, req, r)
	}
}

func TestAllowedPathAllocates(t *testing.T) {
	// Not parallel: allocations of other tests would be counted.
	r := report(taken(policy.PerMinute(60), 12), taken(policy.PerHour(600), 200))
	tests := []struct {
		name   string
		fields []respond.FieldWriter
		most   float64
	}{
		{"the zero style", nil, 2},
		{"other names, canonical after Validate", []respond.FieldWriter{respond.Fields{Limit: "X-RateLimit-Limit", Reset: "x-reset"}}, 2},
		{"per window", []respond.FieldWriter{respond.XRateLimitPerWindow}, 3},
		{"structured fields", []respond.FieldWriter{respond.RateLimit}, 6},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			style := &respond.Style{Fields: tt.fields}
			if err := style.Validate(); err != nil {
				t.Fatal(err)
			}
			h := make(http.Header)
			if got := testing.AllocsPerRun(100, func() { style.WriteFields(h, r) }); got > tt.most {
				t.Errorf("%v allocations, want at most %v", got, tt.most)
			}
		})
	}
}

type discard struct{}

func (discard) Header() http.Header         { return make(http.Header, 8) }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}
