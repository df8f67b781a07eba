// Package faults shows what a Limiter does when its Redis breaks: the middleware and
// the store together, on real servers. Its README has the figures and the commands.
package faults
