/* Progress of long work: see progress.h. */
#include "cli/progress.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/str.h"
#include "cli/cli.h"

#define COLUMNS_DEFAULT 80
#define BAR_MIN 10
#define BAR_MAX 40
#define BAR_AROUND 12 /* its brackets and the percentage */
/* The mount tells five times a second; a pipe is not flooded. */
#define TTY_NS (150 * 1000000LL)
#define PIPE_NS (2 * 1000000000LL)
/* The rate forgets what was longer ago than about this. */
#define RATE_S 4.0
#define RATE_STEP_NS (200 * 1000000LL)

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

void cli_progress_init(struct cli_progress *p, FILE *out, bool quiet)
{
	struct winsize size;

	memset(p, 0, sizeof(*p));
	p->out = out;
	p->quiet = quiet;
	p->tty = isatty(fileno(out));
	p->columns = COLUMNS_DEFAULT;
	if (p->tty && ioctl(fileno(out), TIOCGWINSZ, &size) == 0 &&
		size.ws_col > 0)
		p->columns = size.ws_col;
	p->start_ns = p->rate_ns = p->shown_ns = now_ns();
	p->rate = -1;
}

/* ---- one line ---- */

static void add_left(struct base_str *s, double seconds)
{
	long left = (long)(seconds + 0.999);

	if (left >= 360000) /* a hundred hours: a guess, not a time */
		return;
	if (left >= 3600)
		base_str_printf(s, ", %ld:%02ld:%02ld left", left / 3600,
			left / 60 % 60, left % 60);
	else
		base_str_printf(s, ", %ld:%02ld left", left / 60, left % 60);
}

static void add_numbers(struct base_str *s,
	const struct cli_progress_state *state, double rate, bool files)
{
	char done[CLI_SIZE_CHARS], total[CLI_SIZE_CHARS], speed[CLI_SIZE_CHARS];

	if (files && state->files_total > 0)
		base_str_printf(s, "%llu of %llu files, ",
			(unsigned long long)state->files_done,
			(unsigned long long)state->files_total);
	base_str_printf(s, "%s of %s", cli_size(state->bytes_done, done),
		cli_size(state->bytes_total, total));
	if (rate < 0)
		return;
	base_str_printf(s, ", %s/s", cli_size((uint64_t)rate, speed));
	if (rate >= 1 && state->bytes_done < state->bytes_total)
		add_left(s,
			(double)(state->bytes_total - state->bytes_done) /
				rate);
}

/* By bytes; files that have none count by their number. */
static double share(const struct cli_progress_state *state)
{
	double part = 1;

	if (state->bytes_total > 0)
		part = (double)state->bytes_done / (double)state->bytes_total;
	else if (state->files_total > 0)
		part = (double)state->files_done / (double)state->files_total;
	return part > 1 ? 1 : part;
}

static void add_bar(struct base_str *s, double part, int width)
{
	int full = (int)(part * width);

	base_str_putc(s, '[');
	for (int i = 0; i < width; i++)
		base_str_putc(s, i < full ? '#' : '.');
	/* Not 100 before it is. */
	base_str_printf(s, "] %3d %%  ", (int)(part * 100));
}

void cli_progress_line(const struct cli_progress_state *state, double rate,
	bool bar, int columns, char *buf, size_t bytes)
{
	struct base_str numbers = BASE_STR_INIT, line = BASE_STR_INIT;
	int width;

	if (state->doing != NULL)
		base_str_puts(&numbers, state->doing);
	else
		add_numbers(&numbers, state, rate, true);
	width = columns - (int)numbers.len - BAR_AROUND;
	if (bar && state->doing == NULL && width < BAR_MIN &&
		state->bytes_total > 0) {
		base_str_clear(&numbers);
		add_numbers(&numbers, state, rate, false);
		width = columns - (int)numbers.len - BAR_AROUND;
	}
	if (bar && state->doing == NULL && width >= BAR_MIN)
		add_bar(&line, share(state), width < BAR_MAX ? width : BAR_MAX);
	base_str_puts(&line, numbers.data);
	if (bar && (int)line.len >= columns && columns > 0)
		line.data[columns - 1] = '\0';
	snprintf(buf, bytes, "%s", line.data);
	base_str_fini(&numbers);
	base_str_fini(&line);
}

/* ---- showing ---- */

static void note_rate(struct cli_progress *p, uint64_t bytes, int64_t now)
{
	double seconds = (double)(now - p->rate_ns) / 1e9;
	double speed, weight;

	if (now - p->rate_ns < RATE_STEP_NS || bytes < p->rate_bytes)
		return;
	speed = (double)(bytes - p->rate_bytes) / seconds;
	weight = seconds / (seconds + RATE_S);
	p->rate = p->rate < 0 ? speed : p->rate + weight * (speed - p->rate);
	p->rate_ns = now;
	p->rate_bytes = bytes;
}

void cli_progress_show(
	struct cli_progress *p, const struct cli_progress_state *state)
{
	char line[512];
	int64_t now = now_ns();

	if (state->doing != NULL)
		p->rate_ns = now; /* nothing moves yet */
	else
		note_rate(p, state->moved_bytes, now);
	if (p->quiet || now - p->shown_ns < (p->tty ? TTY_NS : PIPE_NS))
		return;
	p->shown_ns = now;
	cli_progress_line(
		state, p->rate, p->tty, p->columns, line, sizeof(line));
	if (p->tty)
		fprintf(p->out, "\r%s\033[K", line);
	else
		fprintf(p->out, "%s\n", line);
	fflush(p->out);
	p->drawn = p->tty;
}

void cli_progress_end(struct cli_progress *p)
{
	if (p->drawn)
		fputs("\r\033[K", p->out);
	p->drawn = false;
	fflush(p->out);
}
