//go:build race

package graphqlcost_test

// slack is how much slower the race detector may make things.
const slack = 20
