package memstore_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stint-go/stint/policy"
	"github.com/stint-go/stint/policy/memstore"
)

func TestScale(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New(memstore.Options{})
		var told, other []policy.Factor
		stop, err := s.WatchScale("load", func(f policy.Factor) { told = append(told, f) })
		require.NoError(t, err)
		_, err = s.WatchScale("other", func(f policy.Factor) { other = append(other, f) })
		require.NoError(t, err)
		half := policy.Factor{Millionths: policy.Whole / 2, Left: time.Minute}
		require.NoError(t, s.SetScale(t.Context(), "load", half))
		require.Equal(t, []policy.Factor{{Millionths: policy.Whole}, half}, told, "who watches is told at once")
		require.Len(t, other, 1)

		time.Sleep(20 * time.Second)
		late := func() (f policy.Factor) {
			leave, err := s.WatchScale("load", func(now policy.Factor) { f = now })
			require.NoError(t, err)
			leave()
			return f
		}
		require.Equal(t, policy.Factor{Millionths: policy.Whole / 2, Left: 40 * time.Second}, late())
		time.Sleep(40 * time.Second)
		require.Equal(t, policy.Factor{Millionths: policy.Whole}, late())
		require.NoError(t, s.SetScale(t.Context(), "load", half))
		require.NoError(t, s.SetScale(t.Context(), "load", policy.Factor{Millionths: policy.Whole}))
		require.Equal(t, policy.Factor{Millionths: policy.Whole}, late())
		require.Len(t, told, 4)
		stop()
		require.NoError(t, s.SetScale(t.Context(), "load", half))
		require.Len(t, told, 4)

		require.ErrorContains(t, s.SetScale(t.Context(), "load", policy.Factor{Millionths: 5}), "write 1ms")
		_, err = s.WatchScale("a b", func(policy.Factor) {})
		require.ErrorContains(t, err, "write letters")
		done, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, s.SetScale(done, "load", half), context.Canceled)
		require.NoError(t, s.Close())
		require.ErrorIs(t, s.SetScale(t.Context(), "load", half), policy.ErrClosed)
		_, err = s.WatchScale("load", func(policy.Factor) {})
		require.ErrorIs(t, err, policy.ErrClosed)
	})
}
