package main

import (
	"encoding/xml"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOverload(t *testing.T) {
	with, err := simulate(true)
	require.NoError(t, err)
	without, err := simulate(false)
	require.NoError(t, err)
	again, err := simulate(true)
	require.NoError(t, err)
	require.Equal(t, phases(with, without), phases(again, without), "it comes out the same each time")

	// Without an Adaptive the latency only grows. With one it is stable within a
	// minute, and limits are whole within a minute after the overload.
	require.Greater(t, without[ends-1].latency(), 100.0)
	for i := begins + 60; i < ends; i++ {
		s := &with[i]
		require.Less(t, s.latency(), 0.5, "second %d", i)
		require.Less(t, s.factor, 1.0, "second %d", i)
		require.Zero(t, s.unpaid, "second %d: browsing makes room for payments", i)
		require.Less(t, s.served, s.arrived)
	}
	for i := ends + 60; i < total; i++ {
		require.InDelta(t, 1, with[i].factor, 0, "second %d", i)
		require.Less(t, with[i].latency(), 0.1, "second %d", i)
		require.Zero(t, with[i].refused, "second %d", i)
	}

	d := xml.NewDecoder(strings.NewReader(plot(with, without)))
	lines := 0
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "polyline" {
			lines++
		}
	}
	require.Equal(t, 6, lines)
}
