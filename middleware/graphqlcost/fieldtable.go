package graphqlcost

import "math/bits"

// A fieldTable finds the fields of a type by their names. Each field of a query is
// looked up, and here that takes half of the time that a map takes. Its hash is
// no secret: the names in it are the schema's, of which clients choose none.
type fieldTable struct {
	slots []fieldSlot // a power of two, at most half of them taken
}

type fieldSlot struct {
	name  string
	field *field
}

func newFieldTable(fields map[string]*field) fieldTable {
	t := fieldTable{make([]fieldSlot, 2<<bits.Len(uint(len(fields))))}
	for name, f := range fields {
		at := t.find(name)
		*at = fieldSlot{name, f}
	}
	return t
}

// get returns the field of a name, or nil.
func (t *fieldTable) get(name string) *field {
	if len(t.slots) == 0 {
		return nil
	}
	return t.find(name).field
}

// find returns the slot of a name, or the one where it would be.
func (t *fieldTable) find(name string) *fieldSlot {
	mask := uint64(len(t.slots) - 1)
	for at := hashOf(name); ; at++ {
		slot := &t.slots[at&mask]
		if slot.field == nil || slot.name == name {
			return slot
		}
	}
}

// hashOf mixes all bytes of a name, eight at a time. The last eight may overlap.
func hashOf(name string) uint64 {
	h := uint64(len(name)) * mixer
	n := len(name)
	if n < 8 {
		for i := range n {
			h = h<<8 ^ uint64(name[i]) ^ h>>56
		}
		return mixed(h)
	}
	for i := 0; i < n-8; i += 8 {
		h = mixed(h ^ eight(name, i))
	}
	return mixed(h ^ eight(name, n-8))
}

const mixer = 0x9E3779B97F4A7C15

func mixed(h uint64) uint64 {
	high, low := bits.Mul64(h, mixer)
	return high ^ low
}
