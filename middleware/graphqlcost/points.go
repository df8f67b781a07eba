package graphqlcost

import (
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
)

// Costs are counted in thousandths of a point. What does not fit saturates.
const (
	point   = 1000
	maximum = math.MaxInt64
)

// add adds what is not negative.
func add(a, b int64) int64 {
	if sum := a + b; sum >= 0 {
		return sum
	}
	return maximum
}

// multiply multiplies what is not negative.
func multiply(a, b int64) int64 {
	high, low := bits.Mul64(uint64(a), uint64(b))
	if high != 0 || low > maximum {
		return maximum
	}
	return int64(low)
}

// points returns thousandths as whole points, rounded up.
func points(thousandths int64) int64 {
	whole := thousandths / point
	if thousandths%point > 0 {
		whole++
	}
	return whole
}

// maxWeight bounds what one field, argument or type weighs, in points.
const maxWeight = 1_000_000_000

// parseWeight reads a weight such as "5", "-2" or "0.25", in thousandths.
func parseWeight(s string) (int64, error) {
	whole, fraction, _ := strings.Cut(strings.TrimPrefix(s, "-"), ".")
	for len(fraction) < 3 {
		fraction += "0"
	}
	n, err := strconv.ParseUint(whole+fraction, 10, 63)
	if err != nil || len(fraction) > 3 || whole == "" || n > maxWeight*point {
		return 0, fmt.Errorf("weight %q: write a number of at most three decimals, up to 10^9", s)
	}
	if s[0] == '-' {
		return -int64(n), nil
	}
	return int64(n), nil
}
