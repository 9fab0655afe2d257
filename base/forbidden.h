/*
 * Calls that do not compile.
 *
 * The Makefile includes this file before every source but the tests'.  It
 * first includes the system headers that declare these names, so that only our
 * own use of them is an error.  What to use instead stands beside each.
 *
 * Threads, ownership, errors: nothing here runs.
 */
#ifndef BASE_FORBIDDEN_H
#define BASE_FORBIDDEN_H

/* clang-format off: one group a line */
#include <alloca.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Macros in some system's headers. */
#undef alloca
#undef sprintf
#undef vsprintf

/* Unbounded or silently cut: base_str, snprintf, memcpy, base_strdup. */
#pragma GCC poison strcpy strcat strncpy strncat stpcpy sprintf vsprintf gets
/* Hidden state: strsep, strtok_r. */
#pragma GCC poison strtok
/* No errors: strtol, strtoull and their ends. */
#pragma GCC poison atoi atol atoll atof
/* A shell: posix_spawn, or fork and exec. */
#pragma GCC poison system popen
/* Races: mkstemp, O_TMPFILE. */
#pragma GCC poison tmpnam tempnam mktemp
/* No limit: base_malloc. */
#pragma GCC poison alloca
/* Differs between systems: sigaction. */
#pragma GCC poison signal
/* Nothing sleeps to wait for what it could ask: base_after, conditions. */
#pragma GCC poison usleep
/* clang-format on */

/* Names that libraries' headers use for arguments: only calls are errors. */
#define FORBIDDEN(why) __attribute__((unavailable(why)))
unsigned int sleep(unsigned int seconds) FORBIDDEN("use base_after()");
int rand(void) FORBIDDEN("use base_random()");
void srand(unsigned int seed) FORBIDDEN("use base_random()");
long random(void) FORBIDDEN("use base_random()");
void srandom(unsigned int seed) FORBIDDEN("use base_random()");
#undef FORBIDDEN

#endif
