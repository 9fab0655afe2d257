/*
 * The constants of tier/, each with its reason.  Options are in DESIGN
 * section 13; what stands here nobody has asked to change.
 */
#ifndef TIER_LIMITS_H
#define TIER_LIMITS_H

#define TIER_MS 1000000LL
#define TIER_S 1000000000LL
#define TIER_MIB (1024ULL * 1024)

/* ---- order (WRITEBACK sections 4 and 5) ---- */

/* A change this long after the last one begins an epoch: what a program does
 * 200 ms apart may mean something by its order. */
#define TIER_EPOCH_GAP_NS (200 * TIER_MS)
/* A new name is sent this long after its last close or rename: it may be a
 * temporary name about to be renamed. */
#define TIER_STAGE_DELAY_NS (200 * TIER_MS)
/* A line whose head is older than this joins its oldest epochs, so that small
 * changes do not cost one round trip each. */
#define TIER_LAG_MAX_NS (30 * TIER_S)
/* ... but no more rows than this at a time, not for fewer epochs, and looks no
 * more often. */
#define TIER_LAG_JOIN_ROWS 1024
#define TIER_LAG_EPOCHS 8
#define TIER_LAG_EVERY_NS (1 * TIER_S)
/* What one blob refuses for good blocks everything after it this long, then
 * it is set aside. */
#define TIER_REFUSE_WAIT_NS (600 * TIER_S)
/* A closed file whose last writer is not gone after this leaves its place in
 * the line: it was not closed after all (a descriptor handed on by fork). */
#define TIER_WRITTEN_WAIT_NS (2 * TIER_S)
/* An older state is copied to be kept up to this size; beyond it the epochs
 * are joined. */
#define TIER_KEEP_COPY_BYTES (64 * TIER_MIB)

/* Directories whose new mtime waits to be told: some MiB.  Of the oldest
 * beyond it the time stays on this host. */
#define TIER_DIRS_MAX 65536

/* ---- sending ---- */

/* Rows under way at once: 1000 / RTT_ms x this is the ceiling of new small
 * files a second; 64 gives 3,200 at 20 ms. */
#define TIER_SEND_PARALLEL 64
/* From a change to the look at it: what comes meanwhile shares that look. */
#define TIER_KICK_DELAY_NS (5 * TIER_MS)
/* After a look, this many times its length without one: looks take a fifth of
 * a processor at most; but never longer than this. */
#define TIER_LOOK_REST 4
#define TIER_LOOK_REST_MAX_NS (5 * TIER_MS)
/* Large files staged at once, the head of the line included. */
#define TIER_STAGE_FILES 4
/* Large files beyond the head that are looked at, for some to stage. */
#define TIER_STAGE_SCAN 64
/* Large files of a group that wait for each other, staged: each has a place
 * among TIER_SEND_PARALLEL until it goes, and others need some. */
#define TIER_GROUP_STAGED 48
/* Blocks of one file under way at once. */
#define TIER_STAGE_BLOCKS 8
/* ... copied on the server: they cost no memory and no wire. */
#define TIER_COPY_BLOCKS 16
/* One Put Blob takes no more. */
#define TIER_PUT_BYTES_MAX (5000 * TIER_MIB)
/* Bytes of all uploads in memory: 16 blocks. */
#define TIER_UPLOAD_BYTES (128 * TIER_MIB)
/* Block size is a function of the offset alone (WRITEBACK section 4). */
#define TIER_BLOCK_RUN 10000
#define TIER_BLOCK_BYTES_1 (8 * TIER_MIB)
#define TIER_BLOCK_BYTES_2 (64 * TIER_MIB)
#define TIER_BLOCK_BYTES_3 (512 * TIER_MIB)
#define TIER_BLOCK_BYTES_4 (4000 * TIER_MIB)
/* Blocks staged again after the store lost them. */
#define TIER_RESTAGE_MAX 3
/* Reads of a file that did not look the same before and after, or not as its
 * row says, 30 ms apart, before that is reported and the pauses grow. */
#define TIER_REREAD_TRIES 16
/* Reads of a file's bytes that failed here, before it is set aside. */
#define TIER_UNREADABLE_TRIES 3
/* A synchronous Copy Blob takes up to this; beyond, block by block. */
#define TIER_COPY_SYNC_BYTES (256 * TIER_MIB)
/* A local file at most this long is sent again rather than copied: it costs
 * the same one request, without the source's fate. */
#define TIER_COPY_MIN_BYTES (1 * TIER_MIB)
/* An unsettled request is forgotten after this: the service refuses dates
 * more than 15 minutes old. */
#define TIER_SENT_EXPIRY_NS (1200 * TIER_S)
/* Stamps are coarse before Linux 6.13: what changed less than this ago may
 * change again within the same stamp. */
#define TIER_STAMP_NS (20 * TIER_MS)
/* Pause before a row that could not be sent is tried again: doubling. */
#define TIER_RETRY_MIN_NS (200 * TIER_MS)
#define TIER_RETRY_MAX_NS (30 * TIER_S)
/* Conflict copies of one name that the store is given: two hosts that fight
 * over a name must not fill it.  More are kept here. */
#define TIER_CONFLICTS_PER_NAME 16
/* Names tried for a copy, -N at the end. */
#define TIER_CONFLICT_TRIES 1000

/* ---- fetching ---- */

/* Unit of fetching: one flight each.  Large enough for the service's fast
 * path, small enough that a random reader does not wait for much. */
#define TIER_CHUNK_BYTES (4 * TIER_MIB)
/* Ranges under way at once, read-ahead included. */
#define TIER_FETCH_PARALLEL 48
/* ... of which read-ahead and prefetch take at most this many: whoever waits
 * always finds a place. */
#define TIER_FETCH_BACKGROUND 32
/* Answers that do not match their checksum before a reader gets EIO: a bit
 * that falls over on the way does not do so three times. */
#define TIER_CORRUPT_TRIES 3
/* Sequential streams followed per inode: data loaders share a file between
 * processes (PEERS.md: JuiceFS keeps two and loses them). */
#define TIER_STREAMS 16
/* A read this far behind or ahead of a stream still belongs to it. */
#define TIER_STREAM_BACK (1 * TIER_MIB)
#define TIER_STREAM_AHEAD (16 * TIER_MIB)

/* ---- siblings (ahead.c) ---- */

/* Files of a directory that somebody had to wait for until others are fetched
 * ahead: two may be chance. */
#define TIER_AHEAD_MISSES 3
/* Files fetched and not yet used, for each open: a reader in no order finds
 * one soon, and who stops early has cost eight times what it read at most. */
#define TIER_AHEAD_PER_OPEN 8
/* ... and in order: a second of one reader's at 20 ms is a few hundred. */
#define TIER_AHEAD_WINDOW 512
#define TIER_AHEAD_WINDOW_BYTES (128 * TIER_MIB)
/* Files under way ahead: as many as the background has places. */
#define TIER_AHEAD_PARALLEL TIER_FETCH_BACKGROUND
/* Cookies between two opens of readers that share a directory and its
 * order. */
#define TIER_AHEAD_NEAR 256
/* Files for nothing until it is given up. */
#define TIER_AHEAD_TRY 64
/* Directories watched; and how long after the last open in it. */
#define TIER_AHEAD_DIRS 64
#define TIER_AHEAD_IDLE_NS (60 * TIER_S)

/* ---- listing ---- */

/* Deleted names remembered against listings that are older: some 10 MiB, and
 * more than are deleted while one page is under way. */
#define TIER_GONE_MAX 65536
/* Names merged in one transaction: a few milliseconds of the writer. */
#define TIER_MERGE_BATCH 256
/* A directory with at most this many names is revalidated by listing it. */
#define TIER_LIST_SMALL 5000
/* Single look-ups of expired names in a very large directory before it is
 * listed in the background. */
#define TIER_LIST_ASKS 8
/* Pages without a name, one after the other: of a prefix from which millions
 * of blobs were deleted some may come. */
#define TIER_LIST_EMPTY_MAX 1000
/* Listings under way at once. */
#define TIER_LIST_PARALLEL 8

#endif
