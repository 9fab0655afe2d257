/*
 * The packed columns of the index, as a damaged disk may give them back: other
 * tools' metadata, parents, the hashes of blocks.
 */
#include "tests/fuzz/fuzz.h"
#include "tests/lib/rig.h"
#include "tier/priv.h"

static struct rig rig;

static void end(void)
{
	rig_fini(&rig);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	rig_init(&rig);
	rig_open(&rig);
	atexit(end);
	return 0;
}

/* A length, then the two columns. */
static void check_remote(const uint8_t *data, size_t size)
{
	struct cache_remote remote = { .name = "n", .commit_number = 1 };
	struct cache_attrs attrs = { .mode = 0644 };
	struct cache_id id = { { 1 } };
	struct tier_meta meta;
	size_t cut = data[0] < size ? data[0] : size;
	void *parents;

	remote.foreign = (void *)(data + cut);
	remote.foreign_bytes = size - cut;
	remote.parents = (void *)data;
	remote.parents_bytes = cut;
	if (tier_meta_make(rig.tier, CACHE_FILE, &attrs, &id, &id, 2, &remote,
		    &remote, &meta) == 0)
		tier_meta_fini(&meta);
	tier_parents_next(&remote, &parents, &size);
	free(parents);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	check_remote(data, size);
	return 0;
}
