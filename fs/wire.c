/*
 * Paths in the control protocol: see fs.h.
 *
 * A Linux name is any bytes, a JSON string is UTF-8.
 */
#include "fs/fs.h"

#include <errno.h>
#include <string.h>

#include "base/base64.h"

json_t *fs_path_json(const char *path)
{
	struct base_str text = BASE_STR_INIT;
	json_t *json = json_string(path); /* NULL: not UTF-8 */

	if (json != NULL)
		return json;
	base_base64_encode(path, strlen(path), &text);
	json = json_pack("{s:s}", "b64", text.data);
	base_str_fini(&text);
	return json;
}

int fs_path_of_json(const json_t *json, struct base_str *ret)
{
	struct base_str bytes = BASE_STR_INIT;
	const json_t *b64 = json_object_get(json, "b64");
	const char *text;
	size_t len;
	int err = 0;

	if (json_is_string(json)) {
		text = json_string_value(json);
		len = json_string_length(json);
		if (strlen(text) != len)
			return -EINVAL;
		base_str_add(ret, text, len);
		return 0;
	}
	if (!json_is_string(b64))
		return -EINVAL;
	err = base_base64_decode(
		json_string_value(b64), json_string_length(b64), &bytes);
	if (err == 0 && memchr(bytes.data, '\0', bytes.len) != NULL)
		err = -EINVAL;
	if (err == 0)
		base_str_add(ret, bytes.data, bytes.len);
	base_str_fini(&bytes);
	return err;
}
