/* CRC-64 as the service computes it (AZURE.md section 2).  Any thread. */
#ifndef BLOBD_SUM_H
#define BLOBD_SUM_H

#include <stddef.h>
#include <stdint.h>

/* Goes on from crc; begin with 0. */
uint64_t blobd_crc64(uint64_t crc, const void *buf, size_t len);

#endif
