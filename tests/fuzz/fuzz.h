/*
 * What the fuzzers share: each is one program of libFuzzer's, built by clang
 * with the sanitizers (make fuzzers), and is given bytes that the outside may
 * send.  It must neither crash, nor hang, nor leak, and what it asserts holds
 * for all bytes.
 *
 * Threads: libFuzzer's one.  Ownership: as in the code under test.
 * Errors: FUZZ_CHECK ends the process, and libFuzzer keeps the input.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* clang-format off: libFuzzer's names */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);
/* clang-format on */

#define FUZZ_CHECK(what)                                               \
	do {                                                           \
		if (!(what)) {                                         \
			fprintf(stderr, "does not hold: %s\n", #what); \
			abort();                                       \
		}                                                      \
	} while (0)

/* The input as a string, cut at its first NUL; freed by the caller. */
static inline char *fuzz_text(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	FUZZ_CHECK(text != NULL);
	if (size > 0)
		memcpy(text, data, size);
	text[size] = '\0';
	return text;
}

#endif
