/*
 * differential MOUNT PLAIN: random calls on both; see diff.h.
 *
 *   --seed N --seeds N    the first one, and how many
 *   --calls N             of each seed
 *   --hook PROGRAM        kills, evicts, remounts (shake.c)
 *   --shakes PERCENT      of the usual number of such events
 *   --trace               prints each call
 *   --shrink SECONDS      for making a failing sequence short (60)
 *
 * Exit status 1: they differ; what is printed then is the sequence.
 */
#include "tests/differential/diff.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static struct {
	unsigned seed, seeds, calls, shrink_s, tries;
	bool trace;
} opt = { .seed = 1, .seeds = 1, .calls = 1000, .shrink_s = 60 };

static uint64_t made; /* calls */
/* What a difference is called: of a call, and in what; "" means the trees. */
static char class[100];

/* The numbers of a sequence; what was left out is 0. */
struct sequence {
	uint64_t *number;
	unsigned nr;
};

/* Runs it in a directory of its own; nr: nothing differs, else the place of
 * the call that does. */
static unsigned run(
	struct world *w, const struct sequence *q, char *why, FILE *trace)
{
	char dir[32], text[600];
	struct step step;
	unsigned i;
	bool good = true;

	snprintf(dir, sizeof(dir), "t%u-%u", opt.seed, opt.tries++);
	world_begin(w, dir);
	for (i = 0; i < q->nr && good; i++) {
		if (q->number[i] == 0)
			continue;
		call_choose(w, q->number[i], &step);
		if (trace != NULL) {
			call_print(&step, text, sizeof(text));
			fprintf(trace, "%6u %s\n", i, text);
			fflush(trace);
		}
		good = call_make(w, &step, why);
		made++;
	}
	if (!good) {
		snprintf(class, sizeof(class), "%s %.*s", step.kind->name,
			(int)strcspn(why, "\n"), why);
	} else if (!tree_compare(w, why)) {
		good = false;
		class[0] = '\0';
	}
	shake_calls("the end of a sequence");
	world_end(w);
	return good ? q->nr : i - 1;
}

static int64_t now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

/* Leaves out as much as possible of what comes before the failing call. */
static void shrink(struct world *w, struct sequence *q, char *why)
{
	int64_t until = now_s() + opt.shrink_s;
	struct sequence less = { .number = calloc(q->nr, sizeof(uint64_t)) };
	unsigned piece, from, i, n, at;
	bool any;
	char other[TEXT_BYTES], same[sizeof(class)];

	memcpy(same, class, sizeof(same));
	for (piece = q->nr / 2; piece > 0; piece = any ? piece : piece / 2) {
		any = false;
		for (from = 0; from + 1 < q->nr; from += piece) {
			if (now_s() > until)
				goto out;
			n = 0;
			for (i = 0; i < q->nr; i++)
				if (i < from || i >= from + piece ||
					i == q->nr - 1)
					less.number[n++] = q->number[i];
			less.nr = n;
			if (n == q->nr)
				continue;
			at = run(w, &less, other, NULL);
			if (at == less.nr || strcmp(same, class) != 0)
				continue;
			memcpy(why, other, sizeof(other));
			q->nr = at + 1;
			memcpy(q->number, less.number,
				q->nr * sizeof(*q->number));
			any = true;
			from = from >= piece ? from - piece : 0;
		}
		if (piece > q->nr / 2 && q->nr > 2)
			piece = q->nr / 2;
	}
out:
	free(less.number);
}

static void report(struct world *w, struct sequence *q, char *why)
{
	char first[TEXT_BYTES];
	unsigned was = q->nr, at;

	snprintf(first, sizeof(first), "%s", why);
	printf("seed %u: call %u differs: %s\n", opt.seed, q->nr - 1, why);
	fflush(stdout);
	if (opt.shrink_s > 0)
		shrink(w, q, why);
	printf("%u of %u calls are enough:\n", q->nr, was);
	at = run(w, q, why, stdout);
	if (at == q->nr)
		printf("(not this time: it depends on the moment)\n%s\n",
			first);
	else
		printf("%s\n", why);
	fflush(stdout);
}

static bool run_seed(struct world *w)
{
	struct sequence q = { .nr = opt.calls };
	struct dice d = { opt.seed * 7919ULL + 17 };
	char why[TEXT_BYTES] = "";
	unsigned i, at;

	q.number = calloc(q.nr, sizeof(*q.number));
	for (i = 0; i < q.nr; i++)
		q.number[i] = dice_next(&d) | 1;
	at = run(w, &q, why, opt.trace ? stdout : NULL);
	if (at < q.nr) {
		q.nr = at + 1;
		report(w, &q, why);
	}
	free(q.number);
	return at == opt.calls;
}

static void usage(void)
{
	fprintf(stderr,
		"usage: differential MOUNT PLAIN --hook PROGRAM "
		"[--seed N] [--seeds N] [--calls N] "
		"[--shakes PERCENT] [--trace] [--shrink SECONDS]\n");
	exit(2);
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "seed", required_argument,
							 NULL, 's' },
		{ "seeds", required_argument, NULL, 'S' },
		{ "calls", required_argument, NULL, 'c' },
		{ "hook", required_argument, NULL, 'h' },
		{ "shakes", required_argument, NULL, 'k' },
		{ "trace", no_argument, NULL, 't' },
		{ "shrink", required_argument, NULL, 'm' }, { 0 } };
	struct world w = { .shakes = 100 };
	bool good = true;
	unsigned last;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (c) {
		case 's':
			opt.seed = atoi(optarg);
			break;
		case 'S':
			opt.seeds = atoi(optarg);
			break;
		case 'c':
			opt.calls = atoi(optarg);
			break;
		case 'h':
			w.hook = optarg;
			break;
		case 'k':
			w.shakes = atoi(optarg);
			break;
		case 't':
			opt.trace = true;
			break;
		case 'm':
			opt.shrink_s = atoi(optarg);
			break;
		default:
			usage();
		}
	if (argc - optind != 2 || w.hook == NULL)
		usage();
	w.side[MOUNT].name = "mount";
	w.side[MOUNT].top = argv[optind];
	w.side[PLAIN].name = "plain";
	w.side[PLAIN].top = argv[optind + 1];
	umask(0);
	maps_init();
	shake_begin(&w);
	for (last = opt.seed + opt.seeds; good && opt.seed < last; opt.seed++)
		good = run_seed(&w);
	shake_end();
	printf("%llu calls, %llu events, %u seeds\n", (unsigned long long)made,
		(unsigned long long)shake_nr(), opt.seeds);
	return good ? 0 : 1;
}
