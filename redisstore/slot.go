package redisstore

// slot returns the slot of a hash tag in a Redis Cluster: CRC16 (XMODEM) modulo
// 16384, as the Redis Cluster specification has it.
func slot(tag string) int {
	var crc uint16
	for i := range len(tag) {
		crc = crc<<8 ^ crc16[byte(crc>>8)^tag[i]]
	}
	return int(crc & (slots - 1))
}

const slots = 16384

var crc16 = func() (table [256]uint16) {
	for i := range table {
		crc := uint16(i) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
		table[i] = crc
	}
	return table
}()
