/* The client of the control socket, and how a mount is found: see cli.h. */
#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- finding ---- */

void cli_target_fini(struct cli_target *target)
{
	free(target->device);
	free(target->point);
	free(target->path);
	memset(target, 0, sizeof(*target));
}

/* Absolute, without ".", ".." and "//", by its letters alone. */
static char *plain(const char *path)
{
	struct base_str s = BASE_STR_INIT;
	char *cwd = path[0] == '/' ? NULL : realpath(".", NULL);
	const char *parts[] = { cwd ? cwd : "", path };

	for (int i = 0; i < 2; i++) {
		for (const char *c = parts[i]; *c != '\0';) {
			size_t len = strcspn(c, "/");

			if (len == 2 && c[0] == '.' && c[1] == '.') {
				while (s.len > 0 && s.data[--s.len] != '/')
					continue;
			} else if (len > 0 && !(len == 1 && c[0] == '.')) {
				base_str_putc(&s, '/');
				base_str_add(&s, c, len);
			}
			c += len + (c[len] == '/');
		}
	}
	free(cwd);
	if (s.len == 0) {
		base_str_clear(&s);
		base_str_putc(&s, '/');
	}
	s.data[s.len] = '\0';
	return base_str_take(&s);
}

/* The root of what is mounted there, plus the rest of the path. */
static char *path_inside(const struct fs_mountinfo *info, const char *real)
{
	const char *rest = real;
	struct base_str s = BASE_STR_INIT;

	if (strcmp(info->point, "/") != 0)
		rest += strlen(info->point);
	base_str_puts(&s, strcmp(info->root, "/") == 0 ? "" : info->root);
	base_str_puts(&s, strcmp(rest, "/") == 0 ? "" : rest);
	if (s.len > 0) /* the slash it begins with */
		memmove(s.data, s.data + 1, s.len);
	return base_str_take(&s);
}

static int find_real(const char *path, const char *real, struct cli_target *ret)
{
	struct fs_mountinfo info;
	int err = fs_mountinfo_find(real, true, &info);

	if (err < 0) {
		cli_fail("%s: cannot read /proc/self/mountinfo: %s; is /proc "
			 "mounted?",
			path, strerrordesc_np(-err));
		return err;
	}
	if (strcmp(info.type, FS_TYPE) != 0) {
		cli_fail("%s: not on a forebay mount; forebay status lists "
			 "them",
			path);
		fs_mountinfo_fini(&info);
		return -ENODEV;
	}
	ret->path = path_inside(&info, real);
	ret->device = base_strdup(info.device);
	ret->point = base_strdup(info.point);
	fs_mountinfo_fini(&info);
	return 0;
}

int cli_target_find(const char *path, struct cli_target *ret)
{
	char *real = realpath(path, NULL);
	int err;

	if (real == NULL) {
		err = -errno;
		cli_fail("%s: %s; %s", path, strerrordesc_np(-err),
			err == -ENOTCONN
				? "its daemon died: forebay umount it, then "
				  "mount it again"
				: "name a path on a mount");
		return err;
	}
	err = find_real(path, real, ret);
	free(real);
	return err;
}

int cli_target_find_text(const char *path, struct cli_target *ret)
{
	char *text = plain(path);
	struct fs_mountinfo info;
	int err;

	/* A symlink on the way to the mount: only the system knows. */
	if (fs_mountinfo_find(text, true, &info) == 0) {
		bool ours = strcmp(info.type, FS_TYPE) == 0;

		fs_mountinfo_fini(&info);
		if (!ours) {
			free(text);
			return cli_target_find(path, ret);
		}
	}
	err = find_real(path, text, ret);
	free(text);
	return err;
}

/* ---- talking ---- */

int cli_client_open(const char *device, struct cli_client *ret)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd, n;

	memset(ret, 0, sizeof(*ret));
	ret->fd = -1;
	n = snprintf(addr.sun_path, sizeof(addr.sun_path),
		FS_CONTROL_DIR "/%s.sock", device);
	if (n < 0 || (size_t)n >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		int err = -errno;

		close(fd);
		return err;
	}
	ret->fd = fd;
	return 0;
}

void cli_client_close(struct cli_client *client)
{
	if (client->fd >= 0)
		close(client->fd);
	base_str_fini(&client->in);
	client->fd = -1;
}

int cli_client_open_target(
	const struct cli_target *target, struct cli_client *ret)
{
	int err = cli_client_open(target->device, ret);

	if (err == -EACCES || err == -EPERM)
		cli_fail("%s: only root may command this mount; use sudo",
			target->point);
	else if (err < 0)
		cli_fail("%s: no daemon answers at " FS_CONTROL_DIR
			 "/%s.sock: %s; if it runs outside this container, "
			 "share " FS_CONTROL_DIR " with it",
			target->point, target->device, strerrordesc_np(-err));
	return err;
}

int cli_client_send(struct cli_client *client, json_t *request)
{
	char *text = json_dumps(request, JSON_COMPACT);
	size_t len, sent = 0;
	int err = 0;

	json_decref(request);
	if (text == NULL)
		return -EINVAL;
	len = strlen(text);
	text[len++] = '\n'; /* instead of the NUL */
	while (sent < len && err == 0) {
		ssize_t n =
			send(client->fd, text + sent, len - sent, MSG_NOSIGNAL);

		if (n > 0)
			sent += (size_t)n;
		else if (n < 0 && errno != EINTR)
			err = -errno;
	}
	free(text);
	return err;
}

json_t *cli_client_read(struct cli_client *client)
{
	struct base_str *in = &client->in;
	size_t looked = 0;
	char buf[65536];
	json_t *json;

	for (;;) {
		char *end = in->len > looked
			? memchr(in->data + looked, '\n', in->len - looked)
			: NULL;
		ssize_t n;

		if (end != NULL) {
			size_t len = (size_t)(end - in->data) + 1;

			json = json_loadb(in->data, len - 1, 0, NULL);
			memmove(in->data, end + 1, in->len - len);
			in->len -= len;
			return json;
		}
		looked = in->len;
		n = recv(client->fd, buf, sizeof(buf), 0);
		if (n > 0)
			base_str_add(in, buf, (size_t)n);
		else if (n == 0 || errno != EINTR)
			return NULL;
	}
}

json_t *cli_client_ask(struct cli_client *client, const char *what,
	json_t *request, cli_line_fn line, void *arg)
{
	int err = cli_client_send(client, request);
	json_t *answer;

	/* An answer may be there even if the request did not get through. */
	while ((answer = cli_client_read(client)) != NULL) {
		const char *error =
			json_string_value(json_object_get(answer, "error"));

		if (error != NULL) {
			cli_fail("%s: %s", what, error);
			json_decref(answer);
			return NULL;
		}
		if (json_is_true(json_object_get(answer, "done")))
			return answer;
		err = line != NULL ? line(arg, answer) : 0;
		json_decref(answer);
		if (err < 0)
			return NULL;
	}
	cli_fail("%s: the mount went away%s%s; see the log", what,
		err < 0 ? ": " : "", err < 0 ? strerrordesc_np(-err) : "");
	return NULL;
}

/* ---- commands that take paths ---- */

/* Asks about paths from..to, which are on one mount. */
static int ask_paths(
	const struct cli_paths *how, const struct cli_target *from, int nr)
{
	json_t *request = how->make(how->arg);
	json_t *list = json_array(), *last;
	struct cli_client client;
	int status;

	for (int i = 0; i < nr; i++)
		json_array_append_new(list, fs_path_json(from[i].path));
	json_object_set_new(request, "paths", list);
	if (cli_client_open_target(from, &client) < 0) {
		json_decref(request);
		return FS_EXIT_FAILED;
	}
	last = cli_client_ask(&client, how->what, request, how->line, how->arg);
	status = last == NULL ? FS_EXIT_FAILED : how->done(how->arg, last);
	json_decref(last);
	cli_client_close(&client);
	return status;
}

int cli_paths_run(const struct cli_paths *how, char *const *paths, int nr)
{
	struct cli_target *targets =
		base_calloc((size_t)nr + 1, sizeof(*targets));
	int status = FS_EXIT_DONE, first = 0;

	for (int i = 0; i < nr && status == FS_EXIT_DONE; i++)
		if (cli_target_find(paths[i], &targets[i]) < 0)
			status = FS_EXIT_FAILED;
	for (int i = 1; i <= nr && status == FS_EXIT_DONE; i++) {
		if (i < nr && i - first < FS_CONTROL_PATHS_MAX &&
			strcmp(targets[i].device, targets[first].device) == 0)
			continue;
		status = ask_paths(how, &targets[first], i - first);
		first = i;
	}
	for (int i = 0; i < nr; i++)
		cli_target_fini(&targets[i]);
	free(targets);
	return status;
}
