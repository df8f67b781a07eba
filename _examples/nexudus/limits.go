package main

import (
	"slices"
	"time"

	ratelimit "github.com/stint-go/stint/middleware"
	"github.com/stint-go/stint/policy"
)

// rules are the rows of the page's table, in its order. A row covers its path
// and everything beneath, in any case, and is one count for each client, shared
// by all paths and methods that it covers.
//
// A row of so many requests a minute, an hour or a day is a sliding window. One
// of a single request is a bucket of one, so that a client that keeps the pace
// is never refused.
var rules = []ratelimit.Rule{
	row("modify_minute", modifying, business, policy.PerMinute(60)),
	row("modify_day", modifying, slices.Concat(business, checkin), policy.PerDay(5000)),
	row("pace", all, slices.Concat(excluded, business, users), policy.TokenBucket(1, 100*time.Millisecond)),
	row("minute", all, slices.Concat(excluded, business), policy.PerMinute(120)),
	row("hour", all, slices.Concat(excluded, business), policy.PerHour(5000)),
	row("day", all, slices.Concat(excluded, business), policy.PerDay(200_000)),

	row("checkin", paths("POST,PUT,DELETE /api/spaces/checkin/"), nil, policy.PerMinute(60)),
	row("price_plan_histories", paths("/api/Spaces/CoworkerPricePlanHistories/"), nil, policy.TokenBucket(1, 10*time.Second)),
	row("audit_trail", paths("/api/Sys/AuditTrailEntries/"), nil, policy.TokenBucket(1, 10*time.Second), policy.TokenBucket(1, time.Minute)),
	row("request_password_reset", paths("/api/sys/users/requestPasswordReset/"), nil, policy.PerMinute(10)),
	row("reset_password", paths("/api/sys/users/resetPassword/"), nil, policy.PerMinute(10)),
	row("bookings", paths("/api/spaces/bookings/"), nil, policy.PerMinute(10)),
	row("proposals", paths("/api/billing/proposals/runcommand/"), nil, policy.PerMinute(10)),
	row("contracts", paths("/api/billing/coworkercontracts/runcommand/"), nil, policy.PerMinute(10)),
	row("invoices", paths("/api/billing/coworkerinvoices/runcommand/"), nil, policy.PerMinute(10)),
	row("validate_pin", paths("/api/nexpos/validatepin/"), nil, policy.PerMinute(60)),
	row("public_checkin", paths("/api/public/checkin/"), nil, policy.PerMinute(60)),
	row("push_all", paths("/{any...}/bigquery/pushall/"), nil, policy.TokenBucket(1, 12*time.Minute)),
	row("openai", paths("/api/integrations/openai/"), nil, policy.PerMinute(12)),
	row("magic_link", paths("/api/sys/users/sendmagiclink/"), nil, policy.PerMinute(12)),
	// The page has this path twice, in two spellings, and says that the limits are
	// separate: as case does not matter, both apply to either spelling.
	row("reset_password_separate", paths("/api/sys/users/resetpassword/"), nil, policy.PerMinute(12)),
}

var (
	all       []string // every request
	modifying = paths("POST,PUT,DELETE /")
	checkin   = paths("/api/spaces/checkin/")
	users     = paths("/api/spaces/users/")
	business  = paths("/api/business/") // "excluded from 100ms and other thresholds"

	// excluded are the rows that the general limits leave out.
	excluded = paths(
		"/api/public/",
		"/api/auth/",
		"/api/sys/users/validate/",
		"/api/sys/users/validatetoken/",
		"/api/sys/users/token/",
	)
)

func paths(patterns ...string) []string { return patterns }

func row(name string, on, except []string, limits ...policy.Limit) ratelimit.Rule {
	return ratelimit.Rule{Name: name, On: on, Except: except, Key: client, Limits: limits}
}
