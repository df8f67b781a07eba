package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/policy/memstore"
)

// What must apply, written out from the page by hand: for methods that modify
// (POST, PUT, DELETE), and for all others.
const (
	modify  = "modify_minute 60 per minute + modify_day 5000 per day"
	minutes = "minute 120 per minute + hour 5000 per hour + day 200000 per day"
	general = "pace 1 per 100ms, burst 1 + " + minutes
)

var table = []struct {
	path             string
	modifying, other string
}{
	// Rows 1 to 6: everything.
	{"/api/spaces/coworkers", modify + " + " + general, general},
	{"/api/spaces", modify + " + " + general, general},
	// Row 7: a limit for modifying methods of its own, without the daily 5000.
	{"/api/spaces/checkin",
		"modify_minute 60 per minute + " + general + " + checkin 60 per minute",
		general},
	// Rows 8 and 9, 11 to 13: no general limits, but those of modifying methods.
	{"/api/public", modify, ""},
	{"/api/auth", modify, ""},
	{"/api/sys/users/validate", modify, ""},
	{"/api/sys/users/validatetoken", modify, ""},
	{"/api/sys/users/token", modify, ""},
	// Row 10: only the 100 ms are left out.
	{"/api/spaces/users", modify + " + " + minutes, minutes},
	// Row 14: no limit at all.
	{"/api/business", "", ""},
	// Rows 15 to 23, and 26 to 28: a further limit for all methods.
	{"/api/Spaces/CoworkerPricePlanHistories",
		modify + " + " + general + " + price_plan_histories 1 per 10 seconds, burst 1",
		general + " + price_plan_histories 1 per 10 seconds, burst 1"},
	{"/api/Sys/AuditTrailEntries",
		modify + " + " + general + " + audit_trail 1 per 10 seconds, burst 1 + audit_trail 1 per minute, burst 1",
		general + " + audit_trail 1 per 10 seconds, burst 1 + audit_trail 1 per minute, burst 1"},
	{"/api/sys/users/requestPasswordReset",
		modify + " + " + general + " + request_password_reset 10 per minute",
		general + " + request_password_reset 10 per minute"},
	{"/api/sys/users/resetPassword",
		modify + " + " + general + " + reset_password 10 per minute + reset_password_separate 12 per minute",
		general + " + reset_password 10 per minute + reset_password_separate 12 per minute"},
	{"/api/sys/users/resetpassword",
		modify + " + " + general + " + reset_password 10 per minute + reset_password_separate 12 per minute",
		general + " + reset_password 10 per minute + reset_password_separate 12 per minute"},
	{"/api/spaces/bookings",
		modify + " + " + general + " + bookings 10 per minute",
		general + " + bookings 10 per minute"},
	{"/api/billing/proposals/runcommand",
		modify + " + " + general + " + proposals 10 per minute",
		general + " + proposals 10 per minute"},
	{"/api/billing/coworkercontracts/runcommand",
		modify + " + " + general + " + contracts 10 per minute",
		general + " + contracts 10 per minute"},
	{"/api/billing/coworkerinvoices/runcommand",
		modify + " + " + general + " + invoices 10 per minute",
		general + " + invoices 10 per minute"},
	{"/api/nexpos/validatepin",
		modify + " + " + general + " + validate_pin 60 per minute",
		general + " + validate_pin 60 per minute"},
	{"/api/integrations/openai",
		modify + " + " + general + " + openai 12 per minute",
		general + " + openai 12 per minute"},
	{"/api/sys/users/sendmagiclink",
		modify + " + " + general + " + magic_link 12 per minute",
		general + " + magic_link 12 per minute"},
	// Row 24 lies beneath row 8.
	{"/api/public/checkin", modify + " + public_checkin 60 per minute", "public_checkin 60 per minute"},
	// Row 25: wherever it lies.
	{"/api/bigquery/pushall",
		modify + " + " + general + " + push_all 1 per 12 minutes, burst 1",
		general + " + push_all 1 per 12 minutes, burst 1"},
	{"/api/spaces/reports/bigquery/pushall",
		modify + " + " + general + " + push_all 1 per 12 minutes, burst 1",
		general + " + push_all 1 per 12 minutes, burst 1"},
	{"/api/public/bigquery/pushall",
		modify + " + push_all 1 per 12 minutes, burst 1",
		"push_all 1 per 12 minutes, burst 1"},
	{"/api/business/bigquery/pushall", "push_all 1 per 12 minutes, burst 1", "push_all 1 per 12 minutes, burst 1"},
	// Neighbours of a row are not beneath it.
	{"/api/publications", modify + " + " + general, general},
	{"/api/sys/users/validation", modify + " + " + general, general},
	{"/api/sys/users", modify + " + " + general, general},
	{"/api/spaces/checkins", modify + " + " + general, general},
	{"/api/billing/proposals", modify + " + " + general, general},
	{"/api/xbigquery/pushall", modify + " + " + general, general},
	{"/v2/api/public", modify + " + " + general, general},
}

func TestEveryRow(t *testing.T) {
	asked := &recorder{Store: memstore.New(memstore.Options{})}
	defer asked.Close()
	h, err := routes(asked, http.StatusConflict)
	require.NoError(t, err)
	for _, row := range table {
		for _, path := range []string{row.path, strings.ToUpper(row.path), strings.ToLower(row.path), row.path + "/", row.path + "/beneath", row.path + "/a/b/"} {
			for _, method := range []string{"GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "DELETE"} {
				want := row.other
				if slices.Contains([]string{"POST", "PUT", "DELETE"}, method) {
					want = row.modifying
				}
				asked.calls, asked.charges = 0, nil
				r := httptest.NewRequest(method, path, nil)
				r.SetBasicAuth(method+path, "") // a client of its own
				h.ServeHTTP(httptest.NewRecorder(), r)
				require.Equal(t, want, strings.Join(asked.charges, " + "), "%s %s", method, path)
				require.Equal(t, min(len(asked.charges), 1), asked.calls, "one round trip")
			}
		}
	}
}

// A recorder notes what is asked of a store.
type recorder struct {
	policy.Store
	calls   int
	charges []string
}

func (r *recorder) Take(ctx context.Context, t policy.Ticket, charges []policy.Charge, d *policy.Decision) error {
	r.calls++
	for _, c := range charges {
		r.charges = append(r.charges, strings.TrimPrefix(c.Scope.String(), "nexudus/")+" "+c.Limit.String())
	}
	return r.Store.Take(ctx, t, charges, d)
}
