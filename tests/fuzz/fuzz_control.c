/*
 * Lines of the control socket, answered by the real commands on a cache and a
 * tier with a small tree.
 */
#include "fs/control_priv.h"
#include "fs/handle.h"
#include "fs/link.h"
#include "tests/fuzz/fuzz.h"
#include "tests/lib/rig.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"

static struct rig rig;
static struct fs_mount m;
static struct fs_link no_link;
static struct fs_table *table;
static struct fs_control *control;
static char device[32];

static const char *store_state(void *arg, char *why, size_t why_bytes)
{
	(void)arg;
	snprintf(why, why_bytes, "for a test");
	return "online";
}

static void end(void)
{
	fs_control_stop(control);
	fs_handles_finish(m.handles);
	rig_fini(&rig);
	fs_handles_free(m.handles);
	fs_table_unmap(table);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct fs_control_config config = { .m = &m,
		.device = device,
		.keeper_pid = 1,
		.store_state = store_state };
	char why[512];
	int fd;

	(void)argc;
	(void)argv;
	base_log_init(BASE_LOG_STDERR, BASE_LOG_ERROR);
	snprintf(device, sizeof(device), "fuzz-%d", (int)getpid());
	rig_init(&rig);
	rig_open(&rig);
	FUZZ_CHECK(rig_refresh(&rig, "") == 0);
	rig_mkdir(&rig, "d");
	rig_write(&rig, "d/f", "text");
	rig_write(&rig, "g", "more text");
	FUZZ_CHECK(rig_flush(&rig, "") == 0);
	m = (struct fs_mount){ .env = rig.env,
		.cache = rig.cache,
		.tier = rig.tier,
		.opt = { .store = "dir:/s", .mountpoint = "/m" } };
	m.link = &no_link;
	fd = fs_table_create();
	FUZZ_CHECK(fs_table_map(fd, &table) == 0);
	close(fd);
	m.handles = fs_handles_new(&m, table);
	FUZZ_CHECK(fs_control_start(&config, &control, why, sizeof(why)) == 0);
	atexit(end);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* No client: what is said goes nowhere. */
	struct fs_control_conn conn = {
		.control = control, .m = &m, .fd = -1, .stop_fd = -1
	};

	fs_control_line(&conn, (const char *)data, size);
	return 0;
}
