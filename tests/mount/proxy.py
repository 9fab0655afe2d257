#!/usr/bin/env python3
"""An HTTP proxy for tests: whatever host a CONNECT names, it is connected to
one server; every request is noted, and others than CONNECT are refused.

usage: proxy.py LOG SERVER_PORT        prints "listening PORT"
"""
import http.server
import socket
import socketserver
import sys
import threading

log = open(sys.argv[1], "a", buffering=1)
server_port = int(sys.argv[2])


def pump(a, b):
    try:
        while data := a.recv(65536):
            b.sendall(data)
    except OSError:
        pass
    try:
        b.shutdown(socket.SHUT_WR)
    except OSError:
        pass


class Proxy(http.server.BaseHTTPRequestHandler):
    def do_CONNECT(self):
        log.write(f"CONNECT {self.path}\n")
        up = socket.create_connection(("127.0.0.1", server_port))
        self.send_response_only(200)
        self.end_headers()
        t = threading.Thread(target=pump, args=(up, self.connection))
        t.start()
        pump(self.connection, up)
        t.join()
        self.close_connection = True

    def refuse(self):
        log.write(f"{self.command} {self.path}\n")
        self.send_error(403)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = refuse

    def log_message(self, *args):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True


server = Server(("127.0.0.1", 0), Proxy)
print(f"listening {server.server_port}", flush=True)
server.serve_forever()
