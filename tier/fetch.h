/*
 * Files that are being fetched, and their streams.  Private to fetch.c,
 * flight.c and stream.c; everything is under struct tier_fetches' mutex, except what a
 * flight's own thread touches while it is ASKED or STORING.
 */
#ifndef TIER_FETCH_H
#define TIER_FETCH_H

#include <sys/queue.h>
#include <uthash.h>

#include "tier/priv.h"

/* Ranges are cut to multiples of this: a page-sized random read brings a
 * neighbourhood, not a chunk. */
#define FETCH_UNIT (1 * TIER_MIB)
/* Missing ranges looked at in one step. */
#define FETCH_RANGES 64
/* A waiter for a long range asks for this much at a time. */
#define FETCH_WINDOW (64 * TIER_MIB)
/* Files remembered for their streams alone: 1,000 open files and some. */
#define FETCH_FILES_IDLE 2048

enum urgency {
	FETCH_NOW,   /* somebody waits */
	FETCH_LATER, /* prefetch, read-ahead: yields to those */
	FETCH_SPARE, /* siblings: and evicts nothing */
};

enum flight_state {
	FLIGHT_QUEUED,
	FLIGHT_ROOM,
	FLIGHT_ASKED,
};

struct flight {
	TAILQ_ENTRY(flight) link; /* of its file */
	TAILQ_ENTRY(flight) queue;
	struct fetch_file *file;
	enum flight_state state;
	uint64_t start, end, serial;
	enum urgency urgency;
	bool no_room; /* for a spare one; others may have some */
	uint64_t at;  /* next byte expected */
	int write_err;
	unsigned corrupt; /* answers that did not match their checksum */
	char *name;
	char etag[CACHE_ETAG_MAX];
	struct blob_req req;
	struct tier_call rechecked;
};
TAILQ_HEAD(flight_list, flight);

struct waiter {
	LIST_ENTRY(waiter) link;
	struct fetch_file *file;
	struct tier_call *call;
	uint64_t start, end;
	uint64_t pos; /* everything before it is local */
	enum urgency urgency;
};

/* One reader going forward. */
struct stream {
	uint64_t next;	 /* where it will read next; 0 and window 0: free */
	uint64_t window; /* bytes kept ahead of it */
	uint64_t ahead;	 /* asked for up to here */
	uint64_t used;	 /* for finding the oldest */
};

struct fetch_file {
	UT_hash_handle hh; /* by ino */
	uint64_t ino;
	struct tier *tier;
	uint64_t serial, content_gen, size_bytes;
	enum cache_data data;
	char *source; /* the blob that holds its bytes (F1) */
	char etag[CACHE_ETAG_MAX];
	int fd;
	bool opened; /* made or opened since data was NONE */
	struct flight_list flights;
	unsigned flights_nr;
	LIST_HEAD(, waiter) waiters;
	struct stream streams[TIER_STREAMS];
	uint64_t clock;
};

struct tier_fetches {
	struct tier *tier;
	struct base_mutex mutex;
	struct fetch_file *files;
	struct flight_list now, later;
	unsigned active;
	bool stopped;
};

/* flight.c: a flight has a place: a task. */
void tier_flight_room(void *flight);
/* fetch.c: it is over; who waited looks again.  Frees it. */
void tier_flight_ended(struct flight *flight, int err);
/* Asks for a range in the background; with the mutex. */
int tier_fetch_ahead(struct tier_fetches *f, struct cache_txn *txn,
	struct fetch_file *file, uint64_t start, uint64_t end);
/* A reader was at start..end: its stream moves, and reads ahead. */
void tier_stream_note(struct tier_fetches *f, struct cache_txn *txn,
	struct fetch_file *file, uint64_t start, uint64_t end);

#endif
