/*
 * Reads what blobd seeded through a mount and compares every byte with the
 * formula (tests/blobd/README.md).
 *
 *	content seq FILE BLOB [O_DIRECT: direct]
 *	content random FILE BLOB THREADS	everything, at random places
 *	content mmap FILE BLOB
 *	content tree DIR PREFIX THREADS SIZE	every file below DIR
 *	content many DIR PREFIX NR THREADS	NR files of DIR, all kept open
 *	content stopped FILE BLOB SECONDS PID...  direct, buffered and mapped,
 *						while these processes are stopped
 *
 * BLOB is the name of the blob, which seeds the formula.  Prints what was read
 * and how fast; exit status 1 at the first wrong byte or error, 3 if nothing
 * came while the processes were stopped.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PIECE (1u << 20)
#define RANDOM_PIECE (256u << 10)
#define EXIT_STUCK 3

__attribute__((format(printf, 1, 2), noreturn)) static void die(
	const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void say_rate(const char *what, uint64_t bytes, double seconds)
{
	printf("%s: %.0f MiB in %.2f s, %.0f MiB/s\n", what,
		(double)bytes / (1 << 20), seconds,
		(double)bytes / (1 << 20) / seconds);
	fflush(stdout);
}

/* ---- the formula ---- */

static uint64_t seed_of(const char *blob)
{
	uint64_t h = 0xcbf29ce484222325;

	for (; *blob != '\0'; blob++)
		h = (h ^ (unsigned char)*blob) * 0x100000001b3;
	return h;
}

static uint64_t word_at(uint64_t seed, uint64_t i)
{
	uint64_t z = seed + (i + 1) * 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

static void check(const char *name, uint64_t seed, uint64_t at,
	const unsigned char *data, size_t len)
{
	size_t i = 0;

	for (; i < len && (at + i) % 8 != 0; i++)
		if (data[i] !=
			(unsigned char)(word_at(seed, (at + i) / 8) >>
				(at + i) % 8 * 8))
			die("%s: wrong byte at %" PRIu64, name, at + i);
	for (; len - i >= 8; i += 8) {
		uint64_t word;

		memcpy(&word, data + i, 8);
		if (word != word_at(seed, (at + i) / 8))
			die("%s: wrong bytes at %" PRIu64, name, at + i);
	}
	if (i < len) {
		uint64_t word = word_at(seed, (at + i) / 8);

		if (memcmp(data + i, &word, len - i) != 0)
			die("%s: wrong bytes at %" PRIu64, name, at + i);
	}
}

/* ---- one file ---- */

static int open_file(const char *path, int flags, uint64_t *ret_size)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC | flags);

	if (fd < 0 || fstat(fd, &st) < 0)
		die("%s: %s", path, strerror(errno));
	*ret_size = (uint64_t)st.st_size;
	return fd;
}

static void read_piece(const char *path, int fd, uint64_t seed, uint64_t at,
	unsigned char *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		/* Direct reads want whole blocks, also at the end. */
		size_t ask = (len - done + 4095) & ~(size_t)4095;
		ssize_t n = pread(fd, buf + done, ask, (off_t)(at + done));

		if (n <= 0)
			die("%s: read of %zu at %" PRIu64 ": %s", path, ask,
				at + done,
				n < 0 ? strerror(errno) : "end of file");
		done += (size_t)n < len - done ? (size_t)n : len - done;
	}
	check(path, seed, at, buf, len);
}

static uint64_t read_fd(const char *path, int fd, uint64_t seed, uint64_t size)
{
	unsigned char *buf = aligned_alloc(4096, PIECE);

	for (uint64_t at = 0; at < size; at += PIECE)
		read_piece(path, fd, seed, at, buf,
			size - at < PIECE ? size - at : PIECE);
	/* Nothing behind its end. */
	if (pread(fd, buf, 4096, (off_t)((size + 4095) & ~4095ull)) != 0)
		die("%s: longer than %llu", path, (unsigned long long)size);
	free(buf);
	return size;
}

static void map_fd(const char *path, int fd, uint64_t seed, uint64_t size)
{
	unsigned char *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);

	if (map == MAP_FAILED)
		die("%s: mmap: %s", path, strerror(errno));
	/* From the back, a piece at a time: not what read-ahead expects. */
	for (uint64_t end = size; end > 0;) {
		uint64_t at = (end - 1) / PIECE * PIECE;

		check(path, seed, at, map + at, end - at);
		end = at;
	}
	munmap(map, size);
}

static void run_seq(const char *path, const char *blob, int flags)
{
	double begin = now_s();
	uint64_t size;
	int fd = open_file(path, flags, &size);

	read_fd(path, fd, seed_of(blob), size);
	close(fd);
	say_rate(flags ? "direct" : "sequential", size, now_s() - begin);
}

static void run_mmap(const char *path, const char *blob)
{
	double begin = now_s();
	uint64_t size;
	int fd = open_file(path, 0, &size);

	map_fd(path, fd, seed_of(blob), size);
	close(fd);
	say_rate("mapped", size, now_s() - begin);
}

/* ---- many readers of one file ---- */

struct random_job {
	const char *path;
	uint64_t seed, size;
	unsigned nr; /* of the reader: seeds its places */
	uint64_t read;
};

/* A shuffled eighth of the pieces, each a little longer than a piece, so that
 * neighbours overlap; 16 readers meet everywhere. */
static void *random_main(void *arg)
{
	struct random_job *job = arg;
	uint64_t pieces = (job->size + RANDOM_PIECE - 1) / RANDOM_PIECE;
	unsigned char *buf = malloc(RANDOM_PIECE + 65536);
	uint64_t size, state = 0x1234567 + job->nr;
	int fd = open_file(job->path, 0, &size);

	for (uint64_t i = 0; i < (pieces + 7) / 8; i++) {
		uint64_t at, len;

		state = word_at(state, i);
		at = state % pieces * RANDOM_PIECE + (state >> 40) % 5000;
		if (at >= size)
			continue;
		len = RANDOM_PIECE + (state >> 48);
		len = len < size - at ? len : size - at;
		read_piece(job->path, fd, job->seed, at, buf, len);
		job->read += len;
	}
	close(fd);
	free(buf);
	return NULL;
}

static void run_random(const char *path, const char *blob, unsigned threads)
{
	struct random_job *jobs = calloc(threads, sizeof(*jobs));
	pthread_t *ids = calloc(threads, sizeof(*ids));
	double begin = now_s();
	uint64_t size, sum = 0;
	int fd = open_file(path, 0, &size);

	for (unsigned i = 0; i < threads; i++) {
		jobs[i] =
			(struct random_job){ path, seed_of(blob), size, i, 0 };
		pthread_create(&ids[i], NULL, random_main, &jobs[i]);
	}
	for (unsigned i = 0; i < threads; i++) {
		pthread_join(ids[i], NULL);
		sum += jobs[i].read;
	}
	say_rate("random", sum, now_s() - begin);
	/* What nobody hit. */
	read_fd(path, fd, seed_of(blob), size);
	close(fd);
	say_rate("random, then the rest", sum + size, now_s() - begin);
	free(jobs);
	free(ids);
}

/* ---- many files ---- */

struct names {
	char **paths;
	size_t nr, cap;
};

static void walk(const char *dir, struct names *names)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	char path[4096];

	if (d == NULL)
		die("%s: %s", dir, strerror(errno));
	while (errno = 0, (e = readdir(d)) != NULL) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		if (e->d_type == DT_DIR) {
			walk(path, names);
			continue;
		}
		if (names->nr == names->cap) {
			names->cap = names->cap * 2 + 64;
			names->paths = realloc(
				names->paths, names->cap * sizeof(char *));
		}
		names->paths[names->nr++] = strdup(path);
	}
	if (errno != 0)
		die("%s: %s", dir, strerror(errno));
	closedir(d);
}

struct tree_job {
	struct names names;
	size_t dir_len; /* of DIR/ */
	const char *prefix;
	uint64_t size;
	atomic_size_t next;
	atomic_ullong bytes;
	int *fds; /* kept open, or NULL */
};

static void tree_one(struct tree_job *job, size_t i)
{
	const char *path = job->names.paths[i];
	char blob[4096];
	uint64_t size;
	int fd = open_file(path, 0, &size);

	snprintf(blob, sizeof(blob), "%s%s", job->prefix, path + job->dir_len);
	if (job->size != UINT64_MAX && size != job->size)
		die("%s: has %llu bytes", path, (unsigned long long)size);
	read_fd(path, fd, seed_of(blob), size);
	atomic_fetch_add(&job->bytes, size);
	if (job->fds != NULL)
		job->fds[i] = fd;
	else
		close(fd);
}

static void *tree_main(void *arg)
{
	struct tree_job *job = arg;
	size_t i;

	while ((i = atomic_fetch_add(&job->next, 1)) < job->names.nr)
		tree_one(job, i);
	return NULL;
}

static void run_tree(const char *dir, const char *prefix, unsigned threads,
	uint64_t size, size_t keep)
{
	struct tree_job job = {
		.dir_len = strlen(dir) + 1, .prefix = prefix, .size = size
	};
	pthread_t *ids = calloc(threads, sizeof(*ids));
	double begin = now_s();
	size_t all;

	walk(dir, &job.names);
	all = job.names.nr;
	if (keep > 0) {
		struct rlimit limit = { keep + 256, keep + 256 };

		if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
			die("RLIMIT_NOFILE: %s", strerror(errno));
		if (job.names.nr < keep)
			die("%s: only %zu files", dir, job.names.nr);
		job.names.nr = keep;
		job.fds = calloc(keep, sizeof(int));
	}
	for (unsigned i = 0; i < threads; i++)
		pthread_create(&ids[i], NULL, tree_main, &job);
	for (unsigned i = 0; i < threads; i++)
		pthread_join(ids[i], NULL);
	printf("files: %zu of %llu bytes in %.2f s, %.0f files/s\n",
		job.names.nr, (unsigned long long)job.bytes, now_s() - begin,
		(double)job.names.nr / (now_s() - begin));
	/* All open, at once: read again what each holds. */
	for (size_t i = 0; job.fds != NULL && i < keep; i++) {
		char blob[4096];
		struct stat st;

		snprintf(blob, sizeof(blob), "%s%s", prefix,
			job.names.paths[i] + job.dir_len);
		if (fstat(job.fds[i], &st) < 0)
			die("%s: %s", job.names.paths[i], strerror(errno));
		read_fd(job.names.paths[i], job.fds[i], seed_of(blob),
			(uint64_t)st.st_size);
	}
	for (size_t i = 0; i < all; i++)
		free(job.names.paths[i]);
	free(job.names.paths);
	free(job.fds);
	free(ids);
}

/* ---- with the daemon stopped ---- */

static void stopped_child(const char *path, uint64_t seed, uint64_t size,
	int direct, int buffered)
{
	double begin = now_s();

	read_fd(path, direct, seed, size);
	say_rate("daemon stopped, direct", size, now_s() - begin);
	begin = now_s();
	read_fd(path, buffered, seed, size);
	say_rate("daemon stopped, buffered", size, now_s() - begin);
	begin = now_s();
	map_fd(path, buffered, seed, size);
	say_rate("daemon stopped, mapped", size, now_s() - begin);
	exit(0);
}

static void signal_all(int nr, char **pids, int sig)
{
	for (int i = 0; i < nr; i++)
		if (kill((pid_t)atoi(pids[i]), sig) < 0 && sig == SIGSTOP)
			die("pid %s: %s", pids[i], strerror(errno));
}

/* Direct reads of a served file need the daemon; those of a passthrough file
 * are the kernel's. */
static int run_stopped(
	const char *path, const char *blob, int seconds, int nr, char **pids)
{
	uint64_t size;
	int direct = open_file(path, O_DIRECT, &size);
	int buffered = open_file(path, 0, &size);
	double end = now_s() + seconds;
	int status = 0;
	pid_t child, got = 0;

	signal_all(nr, pids, SIGSTOP);
	child = fork();
	if (child == 0)
		stopped_child(path, seed_of(blob), size, direct, buffered);
	while (got == 0 && now_s() < end) {
		usleep(10000);
		got = waitpid(child, &status, WNOHANG);
	}
	signal_all(nr, pids, SIGCONT);
	if (got == 0) {
		kill(child, SIGKILL);
		waitpid(child, &status, 0);
		printf("daemon stopped: no byte in %d s\n", seconds);
		return EXIT_STUCK;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int main(int argc, char **argv)
{
	const char *mode = argc > 3 ? argv[1] : "";

	if (strcmp(mode, "seq") == 0)
		run_seq(argv[2], argv[3], argc > 4 ? O_DIRECT : 0);
	else if (strcmp(mode, "random") == 0 && argc == 5)
		run_random(argv[2], argv[3], (unsigned)atoi(argv[4]));
	else if (strcmp(mode, "mmap") == 0)
		run_mmap(argv[2], argv[3]);
	else if (strcmp(mode, "tree") == 0 && argc == 6)
		run_tree(argv[2], argv[3], (unsigned)atoi(argv[4]),
			strtoull(argv[5], NULL, 10), 0);
	else if (strcmp(mode, "many") == 0 && argc == 6)
		run_tree(argv[2], argv[3], (unsigned)atoi(argv[5]), UINT64_MAX,
			strtoul(argv[4], NULL, 10));
	else if (strcmp(mode, "stopped") == 0 && argc > 5)
		return run_stopped(
			argv[2], argv[3], atoi(argv[4]), argc - 5, argv + 5);
	else
		die("usage: see the top of tests/mount/content.c");
	return 0;
}
