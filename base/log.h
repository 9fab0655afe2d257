/*
 * The log: one line an event, to stderr or to the system's log.
 *
 * Threads: any.  A line is written whole.  The destination and level are the
 * process's, set once at start (the one deliberate global: a log line belongs
 * to the process, not to a mount).  Never log a secret: SAS queries and
 * Authorization headers have no business here.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

enum base_log_level {
	BASE_LOG_ERROR,
	BASE_LOG_WARN,
	BASE_LOG_INFO,
	BASE_LOG_DEBUG,
};

enum base_log_target {
	BASE_LOG_STDERR,
	BASE_LOG_SYSLOG, /* journald reads it too */
};

void base_log_init(enum base_log_target target, enum base_log_level level);
/* "error", "warn", "info", "debug"; -EINVAL otherwise. */
int base_log_parse(const char *word, enum base_log_level *ret_level);

void base_log(enum base_log_level level, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#define log_error(...) base_log(BASE_LOG_ERROR, __VA_ARGS__)
#define log_warn(...) base_log(BASE_LOG_WARN, __VA_ARGS__)
#define log_info(...) base_log(BASE_LOG_INFO, __VA_ARGS__)
#define log_debug(...) base_log(BASE_LOG_DEBUG, __VA_ARGS__)

#endif
