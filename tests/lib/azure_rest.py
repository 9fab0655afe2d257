#!/usr/bin/env python3
"""A blob service from the command line, for tests: Shared Key, stdlib only.

usage: azure_rest.py CONTAINER_URL COMMAND ...

  create-container                make it; no error if it is there
  delete-container                with everything in it
  put NAME [--meta K=V]... [--header K=V]... [--block-size N] [--type T]
                                  bytes from stdin; blocks if N is given
  fill                            puts each line "NAME TEXT" of stdin
  get NAME [--range A-B]          bytes to stdout
  head NAME                       one "key: value" a line
  list [PREFIX] [--delimiter D] [--json]
                                  names, or everything as JSON
  blocks NAME                     "id size" of each committed block
  set-meta NAME [K=V]...          replaces all metadata
  delete NAME                     no error if it is not there
  lease NAME                      takes a lease for ever; prints its id
  release NAME ID                 lets it go
  tier NAME TIER                  Hot, Cool, Archive
  count [PREFIX]                  how many blobs

CONTAINER_URL is http://127.0.0.1:PORT/ACCOUNT/CONTAINER or
https://ACCOUNT.blob.core.windows.net/CONTAINER.  The key comes from
AZURE_STORAGE_KEY; without it, the emulators' well-known one.
Exit status: 0 done, 1 refused (the service's code on stderr), 2 usage.
It is deliberately unconditional and simple: the "other tool" of the tests.
"""
import argparse
import base64
import email.utils
import hashlib
import hmac
import http.client
import json
import os
import sys
import time
import urllib.parse
import xml.etree.ElementTree as ET

WELL_KNOWN_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/"
    "K1SZFPTOtr/KBHBeksoGMGw=="
)
VERSION = "2021-12-02"


class Refused(Exception):
    pass


def meta_sort_key(name):
    """The service's header order: '-' ignored, '_' before digits."""
    weight = {"_": 0}
    return [weight.get(c, 1 + ord(c)) for c in name.replace("-", "")], name


class Container:
    def __init__(self, url):
        u = urllib.parse.urlsplit(url)
        parts = u.path.strip("/").split("/")
        self.https = u.scheme == "https"
        self.host = u.netloc
        if u.hostname.endswith(".core.windows.net"):
            self.account, self.base = u.hostname.split(".")[0], ""
            parts = [""] + parts
        else:
            self.account, self.base = parts[0], "/" + parts[0]
        if len(parts) < 2 or not parts[1]:
            sys.exit("azure_rest.py: no container in " + url)
        self.container = parts[1]
        self.prefix = "/".join(parts[2:])
        key = os.environ.get("AZURE_STORAGE_KEY") or WELL_KNOWN_KEY
        self.key = base64.b64decode(key)
        self.connection = None

    def name(self, name):
        return self.prefix + "/" + name if self.prefix else name

    def sign(self, verb, path, query, headers):
        low = {k.lower(): v for k, v in headers.items()}
        length = low.get("content-length", "")
        lines = [verb]
        for k in ("content-encoding", "content-language"):
            lines.append(low.get(k, ""))
        lines.append("" if length == "0" else length)
        for k in ("content-md5", "content-type", "date", "if-modified-since",
                  "if-match", "if-none-match", "if-unmodified-since", "range"):
            lines.append(low.get(k, ""))
        for k in sorted((k for k in low if k.startswith("x-ms-")),
                        key=meta_sort_key):
            lines.append(k + ":" + low[k].strip())
        resource = "/" + self.account + path
        for k in sorted(query):
            resource += "\n" + k + ":" + query[k]
        text = "\n".join(lines) + "\n" + resource
        mac = hmac.new(self.key, text.encode(), hashlib.sha256).digest()
        return base64.b64encode(mac).decode()

    def ask(self, verb, blob=None, query=None, headers=None, body=b"",
            ok=(200, 201, 202, 206)):
        query = query or {}
        path = self.base + "/" + self.container
        if blob is not None:
            path += "/" + urllib.parse.quote(blob, safe="/~")
        headers = dict(headers or {})
        headers["x-ms-date"] = email.utils.formatdate(usegmt=True)
        headers["x-ms-version"] = VERSION
        if verb in ("PUT", "POST"):
            headers["Content-Length"] = str(len(body))
        headers["Authorization"] = "SharedKey %s:%s" % (
            self.account, self.sign(verb, path, query, headers))
        target = path
        if query:
            target += "?" + "&".join(
                k + "=" + urllib.parse.quote(v, safe="")
                for k, v in query.items())
        kind = (http.client.HTTPSConnection if self.https
                else http.client.HTTPConnection)
        for attempt in (0, 1):
            if self.connection is None:
                self.connection = kind(self.host, timeout=60)
            try:
                self.connection.putrequest(verb, target,
                                           skip_accept_encoding=True)
                for k, v in headers.items():
                    self.connection.putheader(k, v)
                self.connection.endheaders(
                    body if verb in ("PUT", "POST") and body else None)
                answer = self.connection.getresponse()
                data = answer.read()
                break
            except (http.client.HTTPException, ConnectionError):
                # A kept-alive connection that the server has dropped.
                self.connection.close()
                self.connection = None
                if attempt:
                    raise
        if answer.status not in ok:
            raise Refused("%d %s" % (answer.status, answer.getheader(
                "x-ms-error-code") or data[:200].decode(errors="replace")))
        return answer, data

    # ---- commands ----

    def create(self):
        # 409: it is there, or is being deleted; only the second goes on.
        for _ in range(120):
            answer, data = self.ask("PUT", query={"restype": "container"},
                                    ok=(201, 409))
            if b"ContainerBeingDeleted" not in data:
                return
            time.sleep(0.5)
        raise Refused("409 ContainerBeingDeleted")

    def put(self, name, body, headers, block_size, kind):
        name = self.name(name)
        if kind != "BlockBlob":
            first = dict(headers, **{"x-ms-blob-type": kind})
            if kind == "PageBlob":
                first["x-ms-blob-content-length"] = str(len(body))
            self.ask("PUT", name, headers=first)
            if kind == "AppendBlob" and body:
                self.ask("PUT", name, {"comp": "appendblock"}, body=body)
            return
        if not block_size:
            self.ask("PUT", name, body=body,
                     headers=dict(headers, **{"x-ms-blob-type": kind}))
            return
        xml = "<?xml version='1.0' encoding='utf-8'?><BlockList>"
        for nr, at in enumerate(range(0, len(body), block_size)):
            block = base64.b64encode(b"%08d" % nr).decode()
            self.ask("PUT", name, {"comp": "block", "blockid": block},
                     body=body[at:at + block_size])
            xml += "<Latest>%s</Latest>" % block
        xml += "</BlockList>"
        self.ask("PUT", name, {"comp": "blocklist"}, headers, xml.encode())

    def pages(self, prefix, delimiter):
        marker = ""
        while True:
            query = {"restype": "container", "comp": "list",
                     "include": "metadata"}
            if prefix:
                query["prefix"] = prefix
            if delimiter:
                query["delimiter"] = delimiter
            if marker:
                query["marker"] = marker
            _, data = self.ask("GET", query=query)
            page = ET.fromstring(data.decode("utf-8-sig"))
            yield page
            marker = page.findtext("NextMarker") or ""
            if not marker:
                return

    def list(self, prefix="", delimiter=""):
        start = self.prefix + "/" if self.prefix else ""
        for page in self.pages(start + prefix, delimiter):
            for p in page.iter("BlobPrefix"):
                yield {"prefix": p.findtext("Name")[len(start):]}
            for b in page.iter("Blob"):
                props = {p.tag.lower(): p.text or ""
                         for p in b.find("Properties")}
                found = b.find("Metadata")
                meta = {} if found is None else {
                    m.tag: m.text or "" for m in found}
                yield {"name": b.findtext("Name")[len(start):],
                       "properties": props, "meta": meta}


def pairs(words):
    result = []
    for word in words or []:
        key, sep, value = word.partition("=")
        if not sep:
            sys.exit("azure_rest.py: not KEY=VALUE: " + word)
        result.append((key, value))
    return result


def parse():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("url")
    sub = p.add_subparsers(dest="command", required=True)
    sub.add_parser("create-container")
    sub.add_parser("delete-container")
    put = sub.add_parser("put")
    put.add_argument("name")
    put.add_argument("--meta", action="append")
    put.add_argument("--header", action="append")
    put.add_argument("--block-size", type=int)
    put.add_argument("--type", default="BlockBlob",
                     choices=("BlockBlob", "AppendBlob", "PageBlob"))
    sub.add_parser("fill")
    get = sub.add_parser("get")
    get.add_argument("name")
    get.add_argument("--range")
    for word in ("head", "delete", "blocks"):
        sub.add_parser(word).add_argument("name")
    for word in ("list", "count"):
        c = sub.add_parser(word)
        c.add_argument("prefix", nargs="?", default="")
        c.add_argument("--delimiter", default="")
        c.add_argument("--json", action="store_true")
    sub.add_parser("lease").add_argument("name")
    release = sub.add_parser("release")
    release.add_argument("name")
    release.add_argument("id")
    tier = sub.add_parser("tier")
    tier.add_argument("name")
    tier.add_argument("tier")
    meta = sub.add_parser("set-meta")
    meta.add_argument("name")
    meta.add_argument("meta", nargs="*")
    return p.parse_args()


def show_list(container, args):
    for entry in container.list(args.prefix, args.delimiter):
        if args.json:
            print(json.dumps(entry, sort_keys=True))
        else:
            print(entry.get("name") or entry["prefix"])


def run(args):
    c = Container(args.url)
    if args.command == "create-container":
        c.create()
    elif args.command == "delete-container":
        c.ask("DELETE", query={"restype": "container"}, ok=(202, 404))
    elif args.command == "put":
        headers = {"x-ms-meta-" + k: v for k, v in pairs(args.meta)}
        headers.update(pairs(args.header))
        c.put(args.name, sys.stdin.buffer.read(), headers, args.block_size,
              args.type)
    elif args.command == "fill":
        for line in sys.stdin.buffer:
            name, _, text = line.rstrip(b"\n").partition(b" ")
            c.put(name.decode(), text, {}, None, "BlockBlob")
    elif args.command == "get":
        headers = {"Range": "bytes=" + args.range} if args.range else {}
        _, data = c.ask("GET", c.name(args.name), headers=headers)
        sys.stdout.buffer.write(data)
    elif args.command == "head":
        answer, _ = c.ask("HEAD", c.name(args.name))
        for k, v in answer.getheaders():
            print("%s: %s" % (k.lower(), v))
    elif args.command == "list":
        show_list(c, args)
    elif args.command == "count":
        print(sum(1 for e in c.list(args.prefix, args.delimiter)))
    elif args.command == "blocks":
        _, data = c.ask("GET", c.name(args.name),
                        {"comp": "blocklist", "blocklisttype": "committed"})
        for b in ET.fromstring(data.decode("utf-8-sig")).iter("Block"):
            print(b.findtext("Name"), b.findtext("Size"))
    elif args.command == "set-meta":
        c.ask("PUT", c.name(args.name), {"comp": "metadata"},
              {"x-ms-meta-" + k: v for k, v in pairs(args.meta)})
    elif args.command == "lease":
        answer, _ = c.ask("PUT", c.name(args.name), {"comp": "lease"},
                          {"x-ms-lease-action": "acquire",
                           "x-ms-lease-duration": "-1"})
        print(answer.getheader("x-ms-lease-id"))
    elif args.command == "release":
        c.ask("PUT", c.name(args.name), {"comp": "lease"},
              {"x-ms-lease-action": "release", "x-ms-lease-id": args.id})
    elif args.command == "tier":
        c.ask("PUT", c.name(args.name), {"comp": "tier"},
              {"x-ms-access-tier": args.tier}, ok=(200, 202))
    elif args.command == "delete":
        c.ask("DELETE", c.name(args.name),
              headers={"x-ms-delete-snapshots": "include"}, ok=(202, 404))


def main():
    args = parse()
    try:
        run(args)
        sys.stdout.flush()
    except BrokenPipeError:
        sys.stderr.close()
    except Refused as e:
        sys.exit("azure_rest.py: %s %s: %s" % (
            args.command, getattr(args, "name", ""), e))
    except OSError as e:
        sys.exit("azure_rest.py: %s: %s" % (args.url, e))


if __name__ == "__main__":
    main()
