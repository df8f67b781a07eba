package middleware

// ForgetWarnings lets the process warn again of what it warns of once.
func ForgetWarnings() { warnedOfForwarding.Store(false) }
