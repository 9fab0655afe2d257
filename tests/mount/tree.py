#!/usr/bin/env python3
"""A directory into a container, and a container into a directory, by another
tool than forebay: tree.py put URL DIR | get URL DIR | watch URL SUM

`watch` asks for run/latest until it holds SUM, then says what run/model.ckpt
holds (sha256), and every name it saw below run/.
"""
import hashlib
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))
import azure_rest  # noqa: E402

BLOCK = 4 << 20


def put(store, top):
    for dirpath, _, names in os.walk(top):
        for name in names:
            path = os.path.join(dirpath, name)
            blob = os.path.relpath(path, top)
            st = os.lstat(path)
            headers = {"x-ms-meta-permissions": str(st.st_mode),
                       "x-ms-meta-posix_owner": str(st.st_uid),
                       "x-ms-meta-posix_group": str(st.st_gid),
                       "x-ms-meta-modtime": str(st.st_mtime_ns)}
            if os.path.islink(path):
                headers["x-ms-meta-is_symlink"] = "true"
                data = os.readlink(path).encode()
            else:
                with open(path, "rb") as f:
                    data = f.read()
            store.put(blob, data, headers,
                      BLOCK if len(data) > BLOCK else None, "BlockBlob")


def get(store, top):
    for entry in store.list():
        path = os.path.join(top, entry["name"])
        if entry["name"].startswith(".forebay/"):
            continue
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if entry["meta"].get("hdi_isfolder") == "true":
            os.makedirs(path, exist_ok=True)
            continue
        _, data = store.ask("GET", store.name(entry["name"]))
        if entry["meta"].get("is_symlink") == "true":
            os.symlink(data.decode(), path)
            continue
        with open(path, "wb") as f:
            f.write(data)
        os.chmod(path, int(entry["meta"].get("permissions", 0o644)) & 0o7777)


def watch(store, wanted):
    seen = set()
    while True:
        seen.update(e["name"] for e in store.list("run/"))
        _, latest = store.ask("GET", "run/latest", ok=(200, 404))
        if latest.decode().startswith(wanted):
            _, data = store.ask("GET", "run/model.ckpt")
            print(hashlib.sha256(data).hexdigest(), *sorted(seen))
            return


if __name__ == "__main__":
    {"put": put, "get": get, "watch": watch}[sys.argv[1]](
        azure_rest.Container(sys.argv[2]), sys.argv[3])
