/* The table of open handles: see table.h. */
#include "fs/table.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC 0x656c626174796266u /* "fbytable" */
#define BYTES                      \
	(sizeof(struct fs_table) + \
		FS_TABLE_SLOTS_MAX * sizeof(struct fs_table_slot))

int fs_table_create(void)
{
	int fd = memfd_create(
		"forebay-handles", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int err = 0;

	if (fd < 0)
		return -errno;
	/* Pages are taken as slots are used. */
	if (ftruncate(fd, (off_t)BYTES) < 0 ||
		fcntl(fd, F_ADD_SEALS,
			F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		err = -errno;
	if (err < 0)
		close(fd);
	return err < 0 ? err : fd;
}

int fs_table_map(int fd, struct fs_table **ret_table)
{
	struct fs_table *t;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size != (off_t)BYTES)
		return -EPROTO;
	t = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (t == MAP_FAILED)
		return -errno;
	if (t->magic == 0) {
		t->version = FS_TABLE_VERSION;
		t->slot_bytes = sizeof(struct fs_table_slot);
		t->magic = MAGIC;
	}
	if (t->magic != MAGIC || t->version != FS_TABLE_VERSION ||
		t->slot_bytes != sizeof(struct fs_table_slot) ||
		t->slots_nr > FS_TABLE_SLOTS_MAX) {
		munmap(t, BYTES);
		return -EPROTO;
	}
	*ret_table = t;
	return 0;
}

void fs_table_unmap(struct fs_table *table)
{
	if (table != NULL)
		munmap(table, BYTES);
}
