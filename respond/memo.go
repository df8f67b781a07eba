package respond

// A memo holds the numbers that the header fields of a report last told, and their
// texts, in the order of the fields: mostly the limit is the same for the next
// request, and so is the second in which its window ends.
type memo [9]remembered

type remembered struct {
	number int64
	form   ResetFormat // EpochSeconds is that of all plain numbers
	text   string      // "" if there is none yet
}

// of returns the i-th of them, or nil if there is no memo, or not so many.
func (m *memo) of(i int) *remembered {
	if m == nil || i >= len(m) {
		return nil
	}
	return &m[i]
}
