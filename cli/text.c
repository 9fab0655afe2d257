/* What commands say, and how they read their options: see cli.h. */
#include "cli/cli.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FLAGS_MAX 16

static void print_line(const char *before, const char *fmt, va_list ap)
{
	char line[2048];

	vsnprintf(line, sizeof(line), fmt, ap);
	/* One line, whatever a name holds. */
	for (char *c = line; *c != '\0'; c++)
		if ((unsigned char)*c < ' ' || *c == 127)
			*c = '?';
	fprintf(stderr, "forebay: %s%s", before, line);
}

int cli_fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	print_line("", fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return FS_EXIT_FAILED;
}

int cli_usage(const char *command, const char *fmt, ...)
{
	char before[64];
	va_list ap;

	snprintf(before, sizeof(before), "%s%s", command, *command ? ": " : "");
	va_start(ap, fmt);
	print_line(before, fmt, ap);
	va_end(ap);
	fprintf(stderr, "; see forebay %s%s--help\n", command,
		*command ? " " : "");
	return FS_EXIT_USAGE;
}

const char *cli_size(uint64_t bytes, char *buf)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB",
		"PiB", "EiB" };
	double value = (double)bytes;
	size_t i = 0;

	/* 1023.96 would be printed as 1024.0. */
	for (; value >= 1023.95 && i < 6; i++)
		value /= 1024;
	if (i == 0)
		snprintf(buf, CLI_SIZE_CHARS, "%llu B",
			(unsigned long long)bytes);
	else
		snprintf(buf, CLI_SIZE_CHARS, "%.1f %s", value, units[i]);
	return buf;
}

const char *cli_age(double seconds, char *buf)
{
	static const struct {
		double unit;
		const char *name;
	} units[] = { { 86400, "d" }, { 3600, "h" }, { 60, "min" } };

	for (size_t i = 0; i < 3; i++) {
		/* "90 s" says more than "1 min". */
		if (seconds < 2 * units[i].unit)
			continue;
		snprintf(buf, CLI_AGE_CHARS, "%.0f %s", seconds / units[i].unit,
			units[i].name);
		return buf;
	}
	snprintf(buf, CLI_AGE_CHARS, "%.0f s", seconds);
	return buf;
}

const char *cli_path(const json_t *json, struct base_str *buf)
{
	base_str_clear(buf);
	if (fs_path_of_json(json, buf) < 0 || buf->data == NULL)
		return "?";
	return buf->data;
}

uint64_t cli_number(const json_t *json, const char *key)
{
	json_int_t n = json_integer_value(json_object_get(json, key));

	return n > 0 ? (uint64_t)n : 0;
}

void cli_print_json(const json_t *json)
{
	char *text = json_dumps(json, JSON_COMPACT);

	if (text != NULL)
		puts(text);
	free(text);
}

int cli_options(int argc, char **argv, const char *command, const char *usage,
	const char *const *names, bool *ret_flags, int *ret_status)
{
	struct option options[FLAGS_MAX + 2] = { { 0 } };
	int nr = 0, c;

	for (; names[nr] != NULL && nr < FLAGS_MAX; nr++) {
		options[nr] = (struct option){ names[nr], no_argument, NULL,
			256 + nr };
		ret_flags[nr] = false;
	}
	options[nr] = (struct option){ "help", no_argument, NULL, 'h' };
	opterr = 0;
	optind = 1;
	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (c == 'h') {
			fputs(usage, stdout);
			*ret_status = FS_EXIT_DONE;
			return -1;
		}
		if (c == '?') {
			*ret_status = cli_usage(
				command, "unknown option %s", argv[optind - 1]);
			return -1;
		}
		ret_flags[c - 256] = true;
	}
	return optind;
}
