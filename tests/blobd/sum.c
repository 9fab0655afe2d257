/* CRC-64, reflected, polynomial 0x9a6c9329ac4bc9b5, eight bytes a step. */
#include "tests/blobd/sum.h"

#include <pthread.h>
#include <string.h>

#define POLYNOMIAL UINT64_C(0x9a6c9329ac4bc9b5)

static uint64_t table[8][256];

static void fill(void)
{
	uint64_t crc;
	int i, k;

	for (i = 0; i < 256; i++) {
		crc = (uint64_t)i;
		for (k = 0; k < 8; k++)
			crc = crc & 1 ? (crc >> 1) ^ POLYNOMIAL : crc >> 1;
		table[0][i] = crc;
	}
	for (i = 0; i < 256; i++)
		for (k = 1; k < 8; k++)
			table[k][i] = (table[k - 1][i] >> 8) ^
				table[0][table[k - 1][i] & 0xff];
}

uint64_t blobd_crc64(uint64_t crc, const void *buf, size_t len)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	const uint8_t *p = buf;
	uint64_t word;
	int k;

	pthread_once(&once, fill);
	crc = ~crc;
	for (; len >= 8; len -= 8, p += 8) {
		memcpy(&word, p, 8);
		word ^= crc;
		crc = 0;
		for (k = 0; k < 8; k++)
			crc ^= table[7 - k][(word >> (8 * k)) & 0xff];
	}
	for (; len > 0; len--, p++)
		crc = (crc >> 8) ^ table[0][(crc ^ *p) & 0xff];
	return ~crc;
}
