/*
 * The disk under a mount: which of it is durable.  Private to the local side.
 */
#ifndef TESTS_MODEL_DISK_H
#define TESTS_MODEL_DISK_H

#include "tests/model/model.h"

/* A cache directory's files, at the start of a history. */
void disk_empty(const char *dir);
void disk_copy(const char *from, const char *to, const char *name);
/* Another life begins in `dir`; with `cuts` it is noted what gets durable. */
void disk_begin(struct model *m, const char *dir);
/* How much of the index's log is written now, and is durable. */
uint64_t disk_written(void);
uint64_t disk_durable(void);
/* Moves index and data of the process that died to `new`. */
void disk_crash(const char *old, const char *new);
/* The same, after the power went: only what was synced is surely there.
 * Returns how much of the log is left. */
uint64_t disk_cut(struct model *m, const char *old, const char *new);

#endif
