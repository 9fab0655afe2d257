#!/usr/bin/env python3
"""The Azure SDK for Python as the other tool: see interop.sh.

usage: interop_sdk.py CONTAINER_URL write       makes blobs below sdk/
       interop_sdk.py CONTAINER_URL get NAME    bytes to stdout
       interop_sdk.py CONTAINER_URL meta NAME   "key=value" lines, size, md5
"""
import os
import sys

from azure.storage.blob import ContainerClient, ContentSettings

c = ContainerClient.from_container_url(
    sys.argv[1], credential=os.environ["AZURE_STORAGE_KEY"],
    max_single_put_size=1 << 20, max_block_size=1 << 20,
)


def write():
    c.upload_blob("sdk/plain.txt", b"plain\n")
    c.upload_blob("sdk/empty", b"")
    c.upload_blob("sdk/blocks.bin", bytes(range(256)) * 12288)
    c.upload_blob(
        "sdk/typed.json", b"{}",
        content_settings=ContentSettings(content_type="application/json",
                                         cache_control="max-age=60"),
        metadata={"Team": "vision", "permissions": str(0o100600)},
    )
    # As blobfuse2 marks them.
    c.upload_blob("sdk/link", b"plain.txt", metadata={"is_symlink": "true"})
    c.upload_blob("sdk/folder", b"", metadata={"Hdi_isfolder": "true"})


if sys.argv[2] == "write":
    write()
elif sys.argv[2] == "get":
    sys.stdout.buffer.write(c.download_blob(sys.argv[3]).readall())
else:
    p = c.get_blob_client(sys.argv[3]).get_blob_properties()
    for k, v in sorted(p.metadata.items()):
        print(f"{k}={v}")
    print(f"size={p.size}")
    print(f"type={p.content_settings.content_type}")
    print(f"cache={p.content_settings.cache_control}")
