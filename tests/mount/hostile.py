#!/usr/bin/env python3
"""A store that means ill, on a free port: prints "listening PORT SPY".

PUT /_mode/WORD changes what it does.  At SPY somebody listens who is no part
of it; GET /_spied says how many bytes came there.  A page of names is the same
in every directory's listing that it belongs to.
"""
import http.server
import socket
import sys
import threading
import time
import urllib.parse
import zlib

BLOB = ('<Blob><Name>{}</Name><Properties><Etag>0x1</Etag><Content-Length>{}'
        '</Content-Length><Last-Modified>Wed, 01 Jan 2025 00:00:00 GMT'
        '</Last-Modified><BlobType>BlockBlob</BlobType></Properties>'
        '<Metadata>{}</Metadata></Blob>')
PAGE = ('<?xml version="1.0"?>{}<EnumerationResults><Blobs>{}</Blobs>'
        '<NextMarker>{}</NextMarker></EnumerationResults>')
EVIL = ("../../etc/passwd", "..", ".", "/etc/shadow", "//double//", "a/../../b",
        "x" * 1024, "y" * 300, "deep/" * 253 + "end", "deeper/" * 300 + "end", "trail.", "back\\slash",
        "tab&#9;name", "nul&#x2400;name", "\u202egnp.exe")
LAUGHS = '<!DOCTYPE x [<!ENTITY a "{}">{}]>'.format(
    "ha" * 50, "".join('<!ENTITY {} "{}">'.format(chr(98 + i), f"&{chr(97 + i)};" * 10)
                       for i in range(9)))
state = {"mode": "good", "id": b"", "spied": 0}


def good(prefix):
    names = "".join(BLOB.format(n, 11, "") for n in ("good", "lie-short",
                                                     "lie-long", "range"))
    link = BLOB.format("link", 11, "<is_symlink>true</is_symlink>"
                                   "<permissions>41471</permissions>")
    return PAGE.format("", names + link if prefix == "" else "", "")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def handle(self):
        try:
            super().handle()
        except OSError:
            pass  # the client had enough

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        self.send_header("x-ms-request-id", "1")
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def drip(self, piece, head):
        """Without an end, until the client has had enough."""
        self.wfile.write(head)
        try:
            for _ in range(20000):
                self.wfile.write(piece)
        except OSError:
            pass
        self.close_connection = True

    def page(self, prefix):
        mode = state["mode"]
        if mode == "names":
            return PAGE.format("", "".join(BLOB.format(n, 11, "") for n in EVIL)
                               if prefix == "" else "", "")
        if mode == "deep":
            return PAGE.format("", BLOB.format("d/" * 10000 + "end", 1, ""), "")
        if mode == "same-marker":
            return PAGE.format("", BLOB.format("one", 1, ""), "again")
        if mode == "empty-pages":
            return PAGE.format("", "", f"m{time.monotonic_ns()}")
        if mode == "laughs":
            return PAGE.format(LAUGHS, BLOB.format("&j;", 1, ""), "")
        return good(prefix)

    def do_list(self, query):
        prefix = query.get("prefix", [""])[0]
        mode = state["mode"]
        if mode == "endless-body":
            piece = (BLOB.format("n" * 900, 1, "<k>" + "v" * 15000 + "</k>")
                     .encode())
            return self.drip(piece, b"HTTP/1.1 200 OK\r\nx-ms-request-id: 1\r\n"
                             b"Connection: close\r\n\r\n<?xml version='1.0'?>"
                             b"<EnumerationResults><Blobs>")
        if mode == "endless-headers":
            return self.drip(b"x-ms-meta-a: " + b"v" * 8000 + b"\r\n",
                             b"HTTP/1.1 200 OK\r\n")
        if mode == "redirect":
            return self.answer(307, Location=f"http://127.0.0.1:{spy_port}/x")
        if mode == "gzip":
            bomb = zlib.compressobj(9, zlib.DEFLATED, 31)
            body = bomb.compress(b"<" * (200 << 20)) + bomb.flush()
            return self.answer(200, body, Content_Encoding="gzip")
        return self.answer(200, self.page(prefix).encode())

    def do_GET(self):
        url = urllib.parse.urlparse(self.path)
        query = urllib.parse.parse_qs(url.query)
        if url.path == "/_spied":
            return self.answer(200, str(state["spied"]).encode())
        if query.get("comp") == ["list"]:
            return self.do_list(query)
        name = urllib.parse.unquote(url.path).split("/", 3)[-1]
        if name == ".forebay/id":
            if not state["id"]:
                return self.answer(404, x_ms_error_code="BlobNotFound")
            return self.answer(200, state["id"], ETag='"0x9"')
        body = b"/etc/passwd" if name == "link" else b"hello world"
        if name == "lie-short":
            return self.answer(200, body, ETag='"0x1"', Content_Length="5000")
        if name == "lie-long":
            return self.answer(206, body * 100000, ETag='"0x1"',
                               Content_Range="bytes 0-10/11")
        if name == "range":
            return self.answer(206, body, ETag='"0x1"', Content_Range=
                               "bytes 18446744073709551615-1/99999999999999")
        if name == "link":
            return self.answer(200, body, ETag='"0x1"',
                               x_ms_meta_is_symlink="true",
                               x_ms_meta_permissions="41471")
        return self.answer(200, body, ETag='"0x1"')

    do_HEAD = do_GET

    def do_PUT(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.startswith("/_mode/"):
            state["mode"] = self.path[7:]
            return self.answer(200)
        if urllib.parse.unquote(self.path).endswith(".forebay/id"):
            state["id"] = body
        return self.answer(201, ETag='"0x9"')

    do_POST = do_PUT


def spy(listener):
    while True:
        connection, _ = listener.accept()
        state["spied"] += 1 + len(connection.recv(65536))
        connection.close()


listener = socket.create_server(("127.0.0.1", 0))
spy_port = listener.getsockname()[1]
threading.Thread(target=spy, args=(listener,), daemon=True).start()
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
print("listening", server.server_port, spy_port, flush=True)
sys.stdout.close()
server.serve_forever()
