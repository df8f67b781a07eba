package middleware_test

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	ratelimit "github.com/stint-go/stint/middleware"
)

// FuzzSecret holds the keys of secrets to what they promise: equal ones are one
// key, wherever they are read, and different ones are different keys, in which
// nothing of the secret is to be seen, nor in an error.
func FuzzSecret(f *testing.F) {
	for _, secret := range []string{
		"", " ", "a", "sk_live_0123456789", " sk_live_0123456789\t", "a\na", "a\nb", "\n", "naïve", "\x00\xff", "Bearer a", "a b", "a  b", strings.Repeat("x", 200),
	} {
		f.Add(secret, secret, "Bearer ")
		f.Add(secret, secret+" ", "bearer  ")
		f.Add(secret, "x"+secret, "Basic ")
	}
	f.Fuzz(func(t *testing.T, one, other, scheme string) {
		header, bearer := ratelimit.Header("x-api-key"), ratelimit.Bearer()
		hidden, twice := ratelimit.HMAC([]byte("0123456789abcdef"), header), ratelimit.HMAC([]byte("0123456789abcdee"), header)
		var keys, secrets [2]string
		for i, text := range []string{one, other} {
			lines := strings.Split(text, "\n")
			r := &http.Request{Header: http.Header{"X-Api-Key": lines}}
			for _, line := range lines {
				r.Header.Add("Authorization", scheme+line)
			}
			key, err := header(r)
			secret, known := naiveSecret(lines)
			requireSecretKey(t, secret, known, lines, key, err)
			keys[i], secrets[i] = key, secret

			told, err := bearer(r)
			naive, known := naiveSecret(r.Header["Authorization"])
			if space := strings.IndexByte(naive, ' '); space < 0 || !strings.EqualFold(naive[:space], "bearer") {
				naive = ""
			} else {
				naive = strings.Trim(naive[space:], " \t\r\n")
			}
			requireSecretKey(t, naive, known && naive != "", lines, told, err)

			first, _ := hidden(r)
			second, _ := twice(r)
			if key != "" {
				require.Len(t, first, 22)
				require.NotEqual(t, first, second, "by another secret")
				require.NotContains(t, []string{first, second}, key)
			} else {
				require.Empty(t, first+second)
			}
		}
		require.Equal(t, secrets[0] == secrets[1], keys[0] == keys[1])

		none := &http.Request{Header: http.Header{"X-Other": {one}}}
		for _, key := range []ratelimit.KeyFunc{header, bearer, hidden} {
			k, err := key(none)
			require.ErrorIs(t, err, ratelimit.ErrNoKey)
			require.Empty(t, k)
		}
	})
}

// naiveSecret is what the lines of a field say together, and whether they say
// anything.
func naiveSecret(lines []string) (secret string, known bool) {
	for _, line := range lines {
		if line != lines[0] {
			return "", false
		}
	}
	secret = strings.Trim(lines[0], " \t\r\n")
	return secret, secret != ""
}

func requireSecretKey(t *testing.T, secret string, known bool, lines []string, key string, err error) {
	t.Helper()
	if !known {
		require.Error(t, err)
		require.Empty(t, key)
		require.Contains(t, []string{"ratelimit: the request has no key", "ratelimit: the header field has several different values"}, err.Error())
		return
	}
	require.NoError(t, err)
	sum := sha256.Sum256([]byte(secret))
	require.Equal(t, base64.RawURLEncoding.EncodeToString(sum[:16]), key)
	for _, line := range lines {
		if len(line) >= 8 {
			require.NotContains(t, key, line)
		}
	}
}
