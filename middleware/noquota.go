//go:build !quota

package middleware

import "github.com/stint-go/stint/policy"

func isQuota(*policy.Limit) bool { return false }
