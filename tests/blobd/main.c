/*
 * blobd: a blob service for tests.  See README.md.
 *
 * The main thread parses options, starts the timer and the server, and waits
 * for SIGTERM or SIGINT; then it ends all waits, stops both, frees everything.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/blobd/log.h"
#include "tests/blobd/ops.h"

#define SHA_MAX_BYTES (UINT64_C(64) << 20)

struct blobd_config blobd_config = {
	.account = "devstoreaccount1",
	.sha_max_bytes = SHA_MAX_BYTES,
};

static const char usage[] =
	"usage: blobd [--port N] [--account NAME --key B64] [--no-auth]\n"
	"             [--oauth TOKEN] [--oauth-lifetime S] [--latency-ms N]\n"
	"             [--bandwidth BYTES_PER_S] [--dir DIR] [--log FILE]\n"
	"             [--sha-max BYTES] [--tls-cert FILE --tls-key FILE]\n";

/* What only main needs to know. */
struct options {
	const char *key, *dir, *log, *tls_cert, *tls_key;
	unsigned port;
};

static int parse(int argc, char **argv, struct options *o)
{
	static const struct option names[] = {
		{ "port", 1, NULL, 'p' },
		{ "account", 1, NULL, 'a' },
		{ "key", 1, NULL, 'k' },
		{ "no-auth", 0, NULL, 'n' },
		{ "oauth", 1, NULL, 'o' },
		{ "oauth-lifetime", 1, NULL, 'O' },
		{ "latency-ms", 1, NULL, 'l' },
		{ "bandwidth", 1, NULL, 'b' },
		{ "dir", 1, NULL, 'd' },
		{ "log", 1, NULL, 'L' },
		{ "sha-max", 1, NULL, 's' },
		{ "tls-cert", 1, NULL, 'c' },
		{ "tls-key", 1, NULL, 'C' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (c) {
		case 'p':
			o->port = (unsigned)atoi(optarg);
			break;
		case 'a':
			blobd_config.account = optarg;
			break;
		case 'k':
			o->key = optarg;
			break;
		case 'n':
			blobd_config.no_auth = true;
			break;
		case 'o':
			blobd_auth_set_token(optarg);
			break;
		case 'O':
			blobd_control_set_lifetime((unsigned)atoi(optarg));
			break;
		case 'l':
			blobd_control_set_latency_ms(atoi(optarg));
			break;
		case 'b':
			blobd_config.bandwidth = strtoull(optarg, NULL, 10);
			break;
		case 'd':
			o->dir = optarg;
			break;
		case 'L':
			o->log = optarg;
			break;
		case 's':
			blobd_config.sha_max_bytes = strtoull(optarg, NULL, 10);
			break;
		case 'c':
			o->tls_cert = optarg;
			break;
		case 'C':
			o->tls_key = optarg;
			break;
		default:
			return -EINVAL;
		}
	}
	if (optind < argc || o->port > 65535 || !o->tls_cert != !o->tls_key)
		return -EINVAL;
	return 0;
}

static int fail(const char *what, int err)
{
	fprintf(stderr, "blobd: %s: %s\n", what, strerror(-err));
	return 1;
}

/* The whole file as a string, NULL if it cannot be read. */
static char *read_file(const char *path)
{
	struct base_str s = BASE_STR_INIT;
	FILE *f = fopen(path, "r");
	char buf[4096];
	size_t n;

	if (f == NULL)
		return NULL;
	while ((n = fread(buf, 1, sizeof(buf), f)) > 0)
		base_str_add(&s, buf, n);
	fclose(f);
	return base_str_take(&s);
}

static int open_all(const struct options *o)
{
	const char *dir = o->dir != NULL ? o->dir : getenv("TMPDIR");
	FILE *log = NULL;
	int n, err;

	n = blobd_unbase64(o->key, blobd_config.key, sizeof(blobd_config.key));
	if (n <= 0)
		return fail("--key", -EINVAL);
	blobd_config.key_len = (size_t)n;
	if (dir == NULL)
		dir = "/var/tmp"; /* /tmp may be memory */
	err = blobd_data_open(dir);
	if (err < 0)
		return fail(dir, err);
	if (o->log != NULL) {
		log = fopen(o->log, "we");
		if (log == NULL)
			return fail(o->log, -errno);
	}
	blobd_log_open(log, blobd_config.sha_max_bytes);
	blobd_store_open();
	return 0;
}

static int serve(const struct options *o, const sigset_t *signals)
{
	char *cert = o->tls_cert != NULL ? read_file(o->tls_cert) : NULL;
	char *key = o->tls_key != NULL ? read_file(o->tls_key) : NULL;
	const union MHD_DaemonInfo *info;
	struct MHD_Daemon *daemon;
	int signal_nr;

	if (o->tls_cert != NULL && (cert == NULL || key == NULL))
		return fail("--tls-cert or --tls-key", -ENOENT);
	blobd_timer_start();
	daemon = blobd_http_start((uint16_t)o->port, cert, key);
	if (daemon == NULL)
		return fail("cannot listen", errno != 0 ? -errno : -EIO);
	info = MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT);
	printf("listening %u\n", info->port);
	fflush(stdout);
	sigwait(signals, &signal_nr);
	blobd_fault_stop();
	blobd_timer_stop();
	MHD_stop_daemon(daemon);
	free(cert);
	free(key);
	return 0;
}

int main(int argc, char **argv)
{
	struct options o = {
		/* The emulators' well-known key: public, no secret. */
		.key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UV"
		       "ErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
	};
	sigset_t signals;
	int status;

	if (parse(argc, argv, &o) < 0) {
		fputs(usage, stderr);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	if (open_all(&o) != 0)
		return 1;
	status = serve(&o, &signals);
	blobd_store_close();
	blobd_stat_reset();
	blobd_log_close();
	blobd_data_close();
	return status;
}
