/* Mount options. */
#include "base/log.h"
#include "fs/options.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	base_log_init(BASE_LOG_STDERR, BASE_LOG_ERROR);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_text(data, size);
	struct fs_mount_args args = { .store = "dir:/srv/cold",
		.mountpoint = "/mnt",
		.options = text,
		.sloppy = size > 0 && data[0] % 2 == 1 };
	struct fs_options opt;
	char why[1024] = "";

	if (fs_options_parse(&args, &opt, why, sizeof(why)) == 0) {
		FUZZ_CHECK(
			opt.cache_size_percent ? opt.cache_size <= 100 : true);
		FUZZ_CHECK(opt.freshness_ns >= 0);
		FUZZ_CHECK(opt.store_timeout_ns > 0);
		FUZZ_CHECK((opt.file_mode & ~07777u) == 0);
		FUZZ_CHECK((opt.dir_mode & ~07777u) == 0);
		fs_options_fini(&opt);
	} else {
		FUZZ_CHECK(why[0] != '\0');
	}
	free(text);
	return 0;
}
