/*
 * Small operations, counted in CPU time, which a busy machine does not change
 * as it changes rates:
 *
 *	ops KIND DIR COUNT PROCESSES [DAEMON_PID]
 *
 * KIND: create, create-fsync, create-spread (a directory for each process),
 * unlink (what create made), rename, stat, read (open, fstat, read, close), or
 * read-all (every file of DIR, in the order of its names or, as `shuffle`, in
 * another).  Prints one line of JSON: operations a second, and for each
 * operation microseconds of CPU time of the daemon and of its callers, and the
 * daemon's context switches.
 */
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FILE_BYTES 4096
#define READ_BYTES (1 << 20)
#define NAME_BYTES 4096

static const char *dir;
static long count;
static int processes;
static char **names;
static char buffer[READ_BYTES];

/* The n-th of a process; the names do not depend on how many there are. */
static void path_of(char *path, const char *prefix, int process, long n)
{
	snprintf(path, NAME_BYTES, "%s/%s%ld", dir, prefix,
		n * processes + process);
}

static void create_one(const char *path, int sync)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);

	if (fd < 0 || write(fd, buffer, FILE_BYTES) != FILE_BYTES)
		err(1, "%s", path);
	if (sync && fsync(fd) < 0)
		err(1, "%s", path);
	if (close(fd) < 0)
		err(1, "%s", path);
}

static void read_one(const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY);
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0)
		err(1, "%s", path);
	while ((n = read(fd, buffer, sizeof(buffer))) > 0 &&
		n == sizeof(buffer))
		;
	if (n < 0)
		err(1, "%s", path);
	close(fd);
}

static void one(const char *kind, int process, long n)
{
	char path[NAME_BYTES], to[NAME_BYTES];
	struct stat st;

	path_of(path, "f", process, n);
	if (strcmp(kind, "create") == 0) {
		create_one(path, 0);
	} else if (strcmp(kind, "create-fsync") == 0) {
		create_one(path, 1);
	} else if (strcmp(kind, "create-spread") == 0) {
		snprintf(path, sizeof(path), "%s/%d/f%ld", dir, process, n);
		create_one(path, 0);
	} else if (strcmp(kind, "unlink") == 0) {
		if (unlink(path) < 0)
			err(1, "%s", path);
	} else if (strcmp(kind, "rename") == 0) {
		path_of(to, "r", process, n);
		if (rename(path, to) < 0)
			err(1, "%s", path);
	} else if (strcmp(kind, "stat") == 0) {
		if (stat(path, &st) < 0)
			err(1, "%s", path);
	} else if (strcmp(kind, "read") == 0) {
		read_one(path);
	} else if (names != NULL) {
		snprintf(path, sizeof(path), "%s/%s", dir,
			names[n * processes + process]);
		read_one(path);
	} else {
		errx(2, "no such kind: %s", kind);
	}
}

static int is_file(const struct dirent *d)
{
	return d->d_name[0] != '.';
}

/* The names of DIR; listed before the clock starts. */
static void list(int shuffle)
{
	struct dirent **found;
	int nr = scandir(dir, &found, is_file, alphasort);

	if (nr < 0)
		err(1, "%s", dir);
	names = calloc((size_t)nr, sizeof(*names));
	for (int i = 0; i < nr; i++)
		names[i] = found[i]->d_name;
	srandom(1);
	for (int i = nr - 1; shuffle && i > 0; i--) {
		int j = (int)(random() % (i + 1));
		char *name = names[i];

		names[i] = names[j];
		names[j] = name;
	}
	if (count > nr)
		count = nr;
}

/* ---- what it cost ---- */

struct cost {
	double cpu_us, switches;
};

static double switches_of(const char *path)
{
	char line[256];
	double sum = 0;
	long n;
	FILE *f = fopen(path, "re");

	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
		if (sscanf(line, "voluntary_ctxt_switches: %ld", &n) == 1 ||
			sscanf(line, "nonvoluntary_ctxt_switches: %ld", &n) ==
				1)
			sum += (double)n;
	if (f != NULL)
		fclose(f);
	return sum;
}

/* Of all threads that there are; in nanoseconds, from the scheduler. */
static struct cost cost_of(const char *pid)
{
	struct cost cost = { 0, 0 };
	char path[NAME_BYTES];
	struct dirent *d;
	DIR *tasks;

	if (pid == NULL)
		return cost;
	snprintf(path, sizeof(path), "/proc/%s/task", pid);
	tasks = opendir(path);
	if (tasks == NULL)
		err(1, "%s", path);
	while ((d = readdir(tasks)) != NULL) {
		unsigned long long ns = 0;
		FILE *f;

		if (d->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%s/task/%s/schedstat", pid,
			d->d_name);
		f = fopen(path, "re");
		if (f != NULL && fscanf(f, "%llu", &ns) == 1)
			cost.cpu_us += (double)ns / 1000;
		if (f != NULL)
			fclose(f);
		snprintf(path, sizeof(path), "/proc/%s/task/%s/status", pid,
			d->d_name);
		cost.switches += switches_of(path);
	}
	closedir(tasks);
	return cost;
}

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static double callers_us(void)
{
	struct rusage r;

	getrusage(RUSAGE_CHILDREN, &r);
	return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1e6 +
		(double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec);
}

static void run(const char *kind)
{
	int status, failed = 0;

	for (int p = 0; p < processes; p++) {
		pid_t pid = fork();

		if (pid < 0)
			err(1, "fork");
		if (pid > 0)
			continue;
		for (long n = 0; n < count / processes; n++)
			one(kind, p, n);
		_exit(0);
	}
	while (wait(&status) > 0)
		failed |= status;
	if (failed != 0)
		exit(1);
}

int main(int argc, char **argv)
{
	struct cost before, after;
	const char *kind, *pid;
	char path[NAME_BYTES];
	double start, seconds;

	if (argc < 5)
		errx(2, "usage: ops KIND DIR COUNT PROCESSES [DAEMON_PID]");
	kind = argv[1];
	dir = argv[2];
	count = atol(argv[3]);
	processes = atoi(argv[4]);
	pid = argc > 5 ? argv[5] : NULL;
	if (count <= 0 || processes <= 0)
		errx(2, "COUNT and PROCESSES are numbers above 0");
	if (strcmp(kind, "read-all") == 0 || strcmp(kind, "shuffle") == 0)
		list(kind[0] == 's');
	for (int p = 0; p < processes && strcmp(kind, "create-spread") == 0;
		p++) {
		snprintf(path, sizeof(path), "%s/%d", dir, p);
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			err(1, "%s", path);
	}
	before = cost_of(pid);
	start = now_s();
	run(kind);
	seconds = now_s() - start;
	after = cost_of(pid);
	count = count / processes * processes;
	printf("{\"kind\": \"%s\", \"operations\": %ld, \"per_s\": %.0f, "
	       "\"daemon_us\": %.1f, \"callers_us\": %.1f, "
	       "\"switches\": %.2f}\n",
		kind, count, (double)count / seconds,
		(after.cpu_us - before.cpu_us) / (double)count,
		callers_us() / (double)count,
		(after.switches - before.switches) / (double)count);
	return 0;
}
