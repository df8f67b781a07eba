//go:build !race

package graphqlcost_test

const slack = 1
