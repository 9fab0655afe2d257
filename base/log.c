/* The log: see log.h. */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>

static _Atomic int log_target = BASE_LOG_STDERR;
static _Atomic int log_level = BASE_LOG_INFO;

static const char *const words[] = { "error", "warn", "info", "debug" };
static const int priorities[] = { LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

void base_log_init(enum base_log_target target, enum base_log_level level)
{
	if (target == BASE_LOG_SYSLOG)
		openlog("forebay", LOG_PID, LOG_DAEMON);
	log_target = target;
	log_level = level;
}

int base_log_parse(const char *word, enum base_log_level *ret_level)
{
	for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(word, words[i]) == 0) {
			*ret_level = (enum base_log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

void base_log(enum base_log_level level, const char *fmt, ...)
{
	char line[1024];
	va_list ap;

	if ((int)level > log_level)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (log_target == BASE_LOG_SYSLOG)
		syslog(priorities[level], "%s", line);
	else
		fprintf(stderr, "forebay: %s: %s\n", words[level], line);
}
