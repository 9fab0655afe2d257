#!/usr/bin/env python3
"""Checks blobd over the wire: test_blobd.py PATH_TO_BLOBD.  Stdlib only."""
import base64
import hashlib
import hmac
import http.client
import json
import signal
import subprocess
import sys
import threading
import time
import unittest
import urllib.parse
from email.utils import formatdate

BLOBD = "build/tests/blobd"
ACCOUNT = "devstoreaccount1"
KEY = base64.b64decode("Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2U"
                       "VErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==")
ORDER = {c: i for i, c in
         enumerate("_0123456789abcdefghijklmnopqrstuvwxyz")}
STANDARD = ["content-encoding", "content-language", "content-length",
            "content-md5", "content-type", "date", "if-modified-since",
            "if-match", "if-none-match", "if-unmodified-since", "range"]


def b64(data):
    return base64.b64encode(data).decode()


def mac(text):
    return b64(hmac.new(KEY, text.encode(), hashlib.sha256).digest())


def formula(name, off, size):
    """The content formula of README.md."""
    mask = (1 << 64) - 1
    seed = 0xcbf29ce484222325
    for c in name.encode():
        seed = (seed ^ c) * 0x100000001b3 & mask
    out = bytearray()
    for i in range(off // 8, (off + size + 7) // 8):
        z = seed + (i + 1) * 0x9e3779b97f4a7c15 & mask
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9 & mask
        z = (z ^ z >> 27) * 0x94d049bb133111eb & mask
        out += (z ^ z >> 31).to_bytes(8, "little")
    return bytes(out[off % 8:off % 8 + size])


class Answer:
    def __init__(self, r):
        self.status, self.body = r.status, r.read()
        self.h = {k.lower(): v for k, v in r.getheaders()}
        self.code = self.h.get("x-ms-error-code", "")

    def __repr__(self):
        return f"{self.status} {self.code} {self.body[:300]}"


class Case(unittest.TestCase):
    options = []

    @classmethod
    def setUpClass(cls):
        cls.proc = subprocess.Popen([BLOBD, "--oauth", "TOKEN", *cls.options],
                                    stdout=subprocess.PIPE, text=True)
        cls.port = int(cls.proc.stdout.readline().split()[1])

    @classmethod
    def tearDownClass(cls):
        cls.proc.send_signal(signal.SIGTERM)
        assert cls.proc.wait(20) == 0
        cls.proc.stdout.close()

    def setUp(self):
        self.raw("POST", "/_/up")
        self.raw("DELETE", "/_/fault")
        self.c = "c" + self.id().split(".")[-1].replace("_", "")[:40]
        self.ok(201, "PUT", "", restype="container")

    def raw(self, method, path, body=None, headers={}, timeout=20):
        conn = http.client.HTTPConnection("127.0.0.1", self.port,
                                          timeout=timeout)
        try:
            conn.request(method, path, body=body, headers=headers)
            return Answer(conn.getresponse())
        finally:
            conn.close()

    def call(self, method, name, body=None, headers={}, auth="key", **q):
        """A request to blob `name` ("" is the container)."""
        h = {"x-ms-date": formatdate(usegmt=True),
             "x-ms-version": "2021-12-02"}
        h.update({k.lower(): v for k, v in headers.items()})
        path = f"/{ACCOUNT}/{self.c}"
        if name:
            path += "/" + urllib.parse.quote(name, safe="/%")
        if method == "PUT":
            body = body or b""
            h["content-length"] = str(len(body))
        if auth == "key":
            h["authorization"] = self.sign(method, path, h, q)
        elif auth:
            h["authorization"] = auth
        if q:
            path += "?" + urllib.parse.urlencode(q)
        return self.raw(method, path, body, h)

    def sign(self, method, path, h, q):
        fields = [h.get(n, "") for n in STANDARD]
        if fields[2] == "0":
            fields[2] = ""
        ms = sorted((k for k in h if k.startswith("x-ms-")), key=lambda k:
                    [ORDER[c] for c in k if c != "-"])
        text = "\n".join([method, *fields,
                          *[f"{k}:{h[k].strip()}" for k in ms],
                          f"/{ACCOUNT}{path}",
                          *[f"{k}:{q[k]}" for k in sorted(q)]])
        return f"SharedKey {ACCOUNT}:{mac(text)}"

    def ok(self, status, *args, **kw):
        r = self.call(*args, **kw)
        self.assertEqual(r.status, status, r)
        return r

    def no(self, status, code, *args, **kw):
        r = self.ok(status, *args, **kw)
        self.assertEqual(r.code, code)
        return r

    def put(self, name, body=b"", status=201, **headers):
        h = {"x-ms-blob-type": "BlockBlob"}
        h.update({k.replace("_", "-"): v for k, v in headers.items()})
        return self.ok(status, "PUT", name, body, h)

    def fault(self, kind, op="any", **q):
        r = self.raw("POST", "/_/fault?" + urllib.parse.urlencode(
            dict(q, kind=kind, op=op)))
        self.assertEqual(r.status, 200)

    def log(self, name=None):
        lines = self.raw("GET", "/_/log").body.decode().splitlines()
        return [r for r in map(json.loads, lines) if
                r["container"] == self.c and name in (None, r["name"])]

    def source(self, name):
        return f"http://127.0.0.1:{self.port}/{ACCOUNT}/{self.c}/{name}"

    def sas(self, **q):
        q = dict({"sp": "racwdl", "se": "2099-01-01T00:00:00Z",
                  "sv": "2020-12-06"}, **q)
        if "ss" in q:
            text = "\n".join([ACCOUNT] + [q.get(k, "") for k in (
                "sp", "ss", "srt", "st", "se", "sip", "spr", "sv", "ses")]
                ) + "\n"
        else:
            text = "\n".join([q.get(k, "") for k in ("sp", "st", "se")] + [
                f"/blob/{ACCOUNT}/{self.c}"] + [q.get(k, "") for k in (
                    "si", "sip", "spr", "sv", "sr", "snapshot", "ses", "rscc",
                    "rscd", "rsce", "rscl", "rsct")])
        return dict(q, sig=mac(text))


class Service(Case):
    def test_put_and_get_whole_and_ranges(self):
        for size in (0, 5, 70000, 300000):
            data = formula("x", 0, size)
            r = self.put("a/b", data, x_ms_meta_Foo="Bar")
            self.assertEqual(r.h["content-md5"],
                             b64(hashlib.md5(data).digest()))
            g = self.ok(200, "GET", "a/b")
            self.assertEqual(g.body, data)
            self.assertEqual(g.h["etag"], r.h["etag"])
            self.assertEqual(g.h["x-ms-meta-foo"], "Bar")
            self.assertTrue(g.h["etag"].startswith('"0x8D'))
            h = self.ok(200, "HEAD", "a/b")
            self.assertEqual(h.h["content-length"], str(size))
        g = self.ok(206, "GET", "a/b", headers={"Range": "bytes=3-70001"})
        self.assertEqual(g.body, data[3:70002])
        self.assertEqual(g.h["content-range"], "bytes 3-70001/300000")
        self.assertNotIn("content-md5", g.h)
        self.no(416, "InvalidRange", "GET", "a/b",
                headers={"Range": "bytes=300000-"})
        self.put("empty")
        self.no(416, "InvalidRange", "GET", "empty",
                headers={"Range": "bytes=0-0"})
        g = self.ok(206, "GET", "a/b", headers={
            "Range": "bytes=0-9", "x-ms-range-get-content-md5": "true"})
        self.assertEqual(g.h["content-md5"],
                         b64(hashlib.md5(data[:10]).digest()))

    def test_conditions(self):
        etag = self.put("n", b"1", If_None_Match="*").h["etag"]
        self.assertEqual(self.put("n", b"2", 409, If_None_Match="*").code,
                         "BlobAlreadyExists")
        self.assertEqual(self.put("n", b"2", 412, If_Match='"0x8D0"').code,
                         "ConditionNotMet")
        self.assertEqual(self.put("m", b"2", 412, If_Match=etag).code,
                         "ConditionNotMet")
        etag2 = self.put("n", b"2", If_Match=etag).h["etag"]
        self.no(412, "ConditionNotMet", "GET", "n",
                headers={"If-Match": etag})
        self.ok(304, "GET", "n", headers={"If-None-Match": etag2})
        self.no(404, "BlobNotFound", "GET", "m", headers={"If-Match": etag})
        self.no(412, "ConditionNotMet", "DELETE", "n",
                headers={"If-Match": etag})
        self.ok(202, "DELETE", "n", headers={"If-None-Match": "*"})
        self.no(404, "BlobNotFound", "DELETE", "n")
        self.assertEqual(
            [(r["op"], r["if_match"], r["etag_before"]) for r in
             self.log("n")],
            [("put", None, None), ("put", etag, etag.strip('"')),
             ("delete", None, etag2.strip('"'))])
        self.assertEqual(self.log("n")[1]["sha256"],
                         hashlib.sha256(b"2").hexdigest())

    def test_checksums(self):
        wrong = b64(hashlib.md5(b"y").digest())
        for h in ("Content_MD5", "x_ms_blob_content_md5"):
            self.assertEqual(self.put("n", b"x", 400, **{h: wrong}).code,
                             "Md5Mismatch")
        crc = b64((0xae8b14860a799888).to_bytes(8, "little"))
        self.put("n", b"123456789", x_ms_content_crc64=crc)
        self.assertEqual(self.put("n", b"123456780", 400,
                                  x_ms_content_crc64=crc).code,
                         "Crc64Mismatch")

    def block(self, name, bid, data, status=201, **h):
        return self.ok(status, "PUT", name, data, headers=h, comp="block",
                       blockid=b64(bid))

    def commit(self, name, entries, status=201, **headers):
        xml = "<?xml version='1.0'?><BlockList>" + "".join(
            f"<{k}>{b64(i)}</{k}>" for k, i in entries) + "</BlockList>"
        return self.ok(status, "PUT", name, xml.encode(), comp="blocklist",
                       headers={k.replace("_", "-"): v for k, v in
                                headers.items()})

    def test_blocks(self):
        a, b = formula("a", 0, 100000), formula("b", 0, 80000)
        self.block("n", b"01", a)
        self.block("n", b"02", b)
        self.no(404, "BlobNotFound", "GET", "n")
        self.assertEqual(self.block("n", b"1234", b"x", 400).code,
                         "InvalidBlobOrBlock")
        md5 = b64(b"0123456789abcdef")
        self.commit("n", [("Latest", b"02"), ("Uncommitted", b"01"),
                          ("Latest", b"02")], x_ms_meta_k="v",
                    x_ms_blob_content_md5=md5)
        g = self.ok(200, "GET", "n")
        self.assertEqual(g.body, b + a + b)
        self.assertEqual(g.h["content-md5"], md5)
        part = self.ok(206, "GET", "n", headers={
            "Range": "bytes=79990-180009"})
        self.assertEqual(part.body, (b + a + b)[79990:180010])
        self.assertEqual(self.commit(
            "n", [("Uncommitted", b"01")], 400).code, "InvalidBlockList")
        self.block("n", b"03", b"new")
        r = self.ok(200, "GET", "n", comp="blocklist", blocklisttype="all",
                    headers={"If-Match": '"0x0"'})
        self.assertTrue(r.body.startswith(b"\xef\xbb\xbf"))
        self.assertEqual(r.body.count(b"<Size>80000</Size>"), 2)
        self.assertIn(b"<UncommittedBlocks><Block><Name>" +
                      b64(b"03").encode(), r.body)
        etag = self.commit("n", [("Committed", b"01"), ("Latest", b"03")],
                           If_Match=g.h["etag"]).h["etag"]
        g = self.ok(200, "GET", "n")
        self.assertEqual(g.body, a + b"new")
        self.assertNotIn("x-ms-meta-k", g.h)
        self.assertEqual(self.commit("n", [], 412, If_Match='"x"').code,
                         "ConditionNotMet")
        self.assertEqual(self.log("n")[-1]["etag"], etag.strip('"'))
        self.block("n", b"04", b"gone")
        self.put("n", b"put")
        self.assertEqual(self.commit("n", [("Latest", b"04")], 400).code,
                         "InvalidBlockList")
        self.assertEqual(self.block("n", b"05", b"", 400).status, 400)
        bad = b"<BlockList><Latest>?</Latest></BlockList>"
        self.no(400, "InvalidBlockId", "PUT", "n", bad, comp="blocklist")

    def test_listing(self):
        names = ["a b&<c>", "a/1", "a/2", "a0", "b/x/1", "b/x/2", "c\uffffd",
                 "\u00e9"]
        for n in names:
            self.put(urllib.parse.quote(n), b"x", x_ms_meta_k="v<")
        self.block("staged", b"01", b"x")

        def pages(**q):
            found, marker = [], ""
            while True:
                r = self.ok(200, "GET", "", restype="container", comp="list",
                            **dict(q, **({"marker": marker} if marker
                                         else {})))
                self.assertTrue(r.body.startswith(b"\xef\xbb\xbf<?xml"))
                text = r.body.decode("utf-8-sig")
                found += [p.split("</Name>")[0]
                          for p in text.split("<Name")[1:]]
                if "<NextMarker />" in text:
                    return found, text
                marker = text.split("<NextMarker>")[1].split("<")[0]
        everything = [">a b&amp;&lt;c&gt;", ">a/1", ">a/2", ">a0", ">b/x/1",
                      ">b/x/2", ' Encoded="true">c%EF%BF%BFd', ">\u00e9"]
        self.assertEqual(pages()[0], everything)
        self.assertEqual(pages(maxresults=2)[0], everything)
        self.assertEqual(pages(delimiter="/", maxresults=1)[0], [
            ">a b&amp;&lt;c&gt;", ">a/", ">a0", ">b/", everything[6],
            ">\u00e9"])
        self.assertEqual(pages(prefix="b/", delimiter="/")[0], [">b/x/"])
        text = pages(include="metadata")[1]
        self.assertIn("<Metadata><k>v&lt;</k></Metadata>", text)
        self.assertIn("<Etag>0x8D", text)
        self.ok(400, "GET", "", restype="container", comp="list",
                maxresults=0)
        self.raw("POST", "/_/pages?max=1")
        self.assertEqual(pages()[0], everything)
        self.raw("POST", "/_/pages?max=0")

    def test_names_are_normalized(self):
        for sent, kept in (("a./b..", "a/b"), ("x%5Cy", "x/y"),
                           ("p/%2E%2E/q", "q"), ("p//q", "p//q")):
            self.put(sent, sent.encode())
            self.assertEqual(self.ok(200, "GET", kept).body, sent.encode())
        for bad in ("a%01", "%FF", "%C2%85", "a" * 1025):
            self.put(bad, b"", 400)

    def test_metadata_limits(self):
        self.put("n", **{"x-ms-meta-a1": "1"})
        self.ok(200, "PUT", "n", comp="metadata", headers={
            "x-ms-meta-a1": "1", "x-ms-meta-a_b": "2"})
        self.assertEqual(self.put("n", b"", 400, **{"x-ms-meta-1a": "x"}).code,
                         "InvalidMetadata")
        self.assertEqual(self.put("n", b"", 400, x_ms_meta_k="x" * 8192).code,
                         "MetadataTooLarge")
        self.put("n", x_ms_meta_k="x" * 8191)
        self.ok(200, "PUT", "n", comp="metadata",
                headers={"x-ms-meta-z": "1"})
        h = self.ok(200, "HEAD", "n").h
        self.assertEqual((h["x-ms-meta-z"], "x-ms-meta-k" in h), ("1", False))

    def test_copy(self):
        src = self.put("src", b"data", x_ms_meta_m="1",
                       Content_Type="text/x").h["etag"]

        def copy(to, status, code="", **h):
            h = {k.replace("_", "-"): v for k, v in h.items()}
            h.setdefault("x-ms-copy-source", self.source("src"))
            h.setdefault("x-ms-requires-sync", "true")
            return self.no(status, code, "PUT", to, headers=h)
        copy("dst", 202, x_ms_source_if_match=src, If_None_Match="*")
        h = self.ok(200, "GET", "dst")
        self.assertEqual((h.body, h.h["x-ms-meta-m"], h.h["content-type"],
                          h.h["x-ms-copy-status"]),
                         (b"data", "1", "text/x", "success"))
        copy("dst", 409, "BlobAlreadyExists", If_None_Match="*")
        copy("dst", 412, "TargetConditionNotMet", If_Match='"0"')
        copy("d2", 412, "SourceConditionNotMet", x_ms_source_if_match='"0"')
        copy("d2", 404, "BlobNotFound", x_ms_copy_source=self.source("no"))
        copy("d2", 202, x_ms_meta_other="2")
        self.assertNotIn("x-ms-meta-m", self.ok(200, "HEAD", "d2").h)
        self.raw("POST", f"/_/seed-large?container={self.c}&name=big&size="
                         f"{(256 << 20) + 1}")
        copy("d3", 409, "CannotVerifyCopySource",
             x_ms_copy_source=self.source("big"))
        self.raw("POST", "/_/copy?pending=200")
        r = copy("d3", 202, x_ms_requires_sync="false")
        self.assertEqual(r.h["x-ms-copy-status"], "pending")
        self.assertEqual(self.ok(200, "GET", "d3").body, b"")
        copy("d3", 409, "PendingCopyOperation", x_ms_requires_sync="false")
        time.sleep(0.4)
        self.raw("POST", "/_/copy?pending=-1")
        g = self.ok(200, "GET", "d3")
        self.assertEqual((g.body, g.h["x-ms-copy-status"]),
                         (b"data", "success"))
        self.assertNotEqual(g.h["etag"], r.h["etag"])

    def test_put_block_from_url(self):
        self.put("src", b"0123456789")
        url = self.source("src")
        h = {"x-ms-copy-source": url, "x-ms-source-range": "bytes=2-4"}
        q = dict(comp="block", blockid=b64(b"01"))
        self.no(403, "CannotVerifyCopySource", "PUT", "n", headers=h, **q)
        h["x-ms-copy-source"] += "?" + urllib.parse.urlencode(
            self.sas(sr="c", sp="r"))
        self.ok(201, "PUT", "n", headers=h, **q)
        h["x-ms-source-if-match"] = '"0"'
        self.no(412, "SourceConditionNotMet", "PUT", "n", headers=h, **q)
        self.commit("n", [("Latest", b"01")])
        self.assertEqual(self.ok(200, "GET", "n").body, b"234")

    def test_leases(self):
        self.put("n", b"1")
        one, two = ("%08d-0000-0000-0000-000000000000" % i for i in (1, 2))

        def lease(action, status, code="", **h):
            h = {"x-ms-" + k.replace("_", "-"): v for k, v in h.items()}
            h["x-ms-lease-action"] = action
            return self.no(status, code, "PUT", "n", headers=h, comp="lease")
        lease("acquire", 201, lease_duration="15", proposed_lease_id=one)
        lease("acquire", 201, lease_duration="15", proposed_lease_id=one)
        lease("acquire", 409, "LeaseAlreadyPresent", lease_duration="15",
              proposed_lease_id=two)
        self.assertEqual(self.put("n", b"2", 412).code, "LeaseIdMissing")
        self.assertEqual(self.put("n", b"2", 412, x_ms_lease_id=two).code,
                         "LeaseIdMismatchWithBlobOperation")
        self.put("n", b"2", x_ms_lease_id=one)
        self.put("src", b"x")
        self.ok(412, "PUT", "n", headers={
            "x-ms-copy-source": self.source("src"), "x-ms-lease-id": one,
            "x-ms-requires-sync": "true"})
        lease("change", 200, lease_id=one, proposed_lease_id=two)
        lease("renew", 409, "LeaseIdMismatchWithLeaseOperation", lease_id=one)
        lease("renew", 200, lease_id=two)
        lease("break", 202, lease_break_period="0")
        lease("renew", 409, "LeaseIsBrokenAndCannotBeRenewed", lease_id=two)
        self.put("n", b"3")
        self.no(412, "LeaseNotPresentWithBlobOperation", "GET", "n",
                headers={"x-ms-lease-id": two})

    def test_special_blobs(self):
        self.ok(201, "PUT", "app", headers={"x-ms-blob-type": "AppendBlob"})
        for i in range(2):
            r = self.ok(201, "PUT", "app", b"line\n", comp="appendblock")
        self.assertEqual(r.h["x-ms-blob-append-offset"], "5")
        self.assertEqual(self.ok(200, "GET", "app").body, b"line\nline\n")
        self.assertEqual(self.put("app", b"", 409).code, "InvalidBlobType")
        self.ok(201, "PUT", "page", headers={
            "x-ms-blob-type": "PageBlob", "x-ms-blob-content-length": "512"})
        self.assertEqual(self.ok(200, "GET", "page").body, bytes(512))
        self.put("cold", b"x", x_ms_access_tier="Archive", x_ms_tags="a=b")
        self.no(409, "BlobArchived", "GET", "cold")
        h = self.ok(200, "HEAD", "cold").h
        self.assertEqual((h["x-ms-access-tier"], h["x-ms-tag-count"]),
                         ("Archive", "1"))
        self.ok(202, "PUT", "cold", comp="tier",
                headers={"x-ms-access-tier": "Hot"})
        self.raw("POST", f"/_/mark?container={self.c}&name=page&immutable=1")
        self.no(409, "BlobImmutableDueToPolicy", "DELETE", "page")

    def test_containers(self):
        self.no(409, "ContainerAlreadyExists", "PUT", "", restype="container")
        self.ok(200, "HEAD", "", restype="container")
        self.ok(202, "DELETE", "", restype="container")
        self.no(404, "ContainerNotFound", "GET", "x")

    def test_authentication(self):
        self.put("n", b"x")
        r = self.no(403, "AuthenticationFailed", "GET", "n",
                    auth=f"SharedKey {ACCOUNT}:{b64(b'x' * 32)}")
        self.assertIn(b"AuthenticationErrorDetail", r.body)
        self.no(403, "AuthenticationFailed", "GET", "n", headers={
            "x-ms-date": formatdate(time.time() - 1000, usegmt=True)})
        self.no(401, "NoAuthenticationInformation", "GET", "n", auth=None)
        r = self.no(401, "InvalidAuthenticationInfo", "GET", "n",
                    auth="Bearer old")
        self.assertIn("www-authenticate", r.h)
        self.ok(200, "GET", "n", auth="Bearer TOKEN")
        self.ok(200, "GET", "n", auth=None, **self.sas(sr="c"))
        self.ok(200, "GET", "n", auth=None, **self.sas(ss="b", srt="sco"))
        self.no(403, "AuthenticationFailed", "GET", "n", auth=None,
                **dict(self.sas(sr="c"), sp="rw"))
        self.no(403, "AuthenticationFailed", "GET", "n", auth=None,
                **self.sas(sr="c", se="2020-01-01T00:00:00Z"))
        self.no(403, "AuthorizationPermissionMismatch", "DELETE", "n",
                auth=None, **self.sas(sr="c", sp="r"))

    def test_tokens(self):
        path = ("/metadata/identity/oauth2/token?api-version=2018-02-01"
                "&resource=https%3A%2F%2Fstorage.azure.com%2F")
        self.assertEqual(self.raw("GET", path).status, 400)
        self.raw("POST", "/_/token?lifetime=7")
        t = json.loads(self.raw("GET", path, headers={
            "Metadata": "true"}).body)
        self.assertEqual((t["access_token"], t["expires_in"]), ("TOKEN", "7"))
        r = self.raw("POST", "/tenant/oauth2/v2.0/token", "grant_type="
                     "client_credentials&client_id=i&scope=s&client_secret=x")
        self.assertEqual(json.loads(r.body)["access_token"], "TOKEN")
        self.assertIn("client_id=i", json.loads(
            self.raw("GET", "/_/token").body)["last"])


class Faults(Case):
    data = formula("f", 0, 200000)

    def get_dies(self, **kw):
        with self.assertRaises((OSError, http.client.HTTPException)):
            self.call("GET", "n", **kw)

    def test_answers(self):
        self.put("n", self.data)
        self.fault("503:7", "get", count=2, skip=1)
        self.ok(200, "GET", "n")
        r = self.no(503, "ServerBusy", "GET", "n")
        self.assertEqual(r.h["retry-after"], "7")
        self.ok(200, "HEAD", "n")
        self.ok(503, "GET", "n")
        self.ok(200, "GET", "n")
        self.fault("409:BlobBeingRehydrated", name="n*")
        self.no(409, "BlobBeingRehydrated", "GET", "n")
        self.fault("reset", "get")
        with self.assertRaises(ConnectionResetError):
            self.call("GET", "n")
        self.fault("half", "get")
        with self.assertRaises(http.client.IncompleteRead) as e:
            self.call("GET", "n")
        self.assertEqual(e.exception.partial, self.data[:100000])
        self.fault("stall:100", "get")
        self.get_dies()
        self.fault("stall-body:100", "get")
        self.get_dies()
        self.fault("wrong-length", "get")
        self.assertEqual(self.ok(200, "GET", "n").body, self.data[:-1])
        self.fault("flip", "get")
        got = self.ok(200, "GET", "n").body
        self.assertEqual(sum(a != b for a, b in zip(got, self.data)), 1)
        self.fault("200-for-range", "get")
        self.ok(200, "GET", "n", headers={"Range": "bytes=0-1"})
        before = time.monotonic()
        self.fault("latency:150", "get")
        self.ok(200, "GET", "n")
        self.assertGreater(time.monotonic() - before, 0.14)

    def test_writes(self):
        self.fault("reset", "put")
        with self.assertRaises((OSError, http.client.HTTPException)):
            self.put("n", b"1")
        self.assertEqual(self.log("n"), [])
        self.fault("reset-after", "put")
        with self.assertRaises((OSError, http.client.HTTPException)):
            self.put("n", b"1")
        self.assertEqual(len(self.log("n")), 1)
        self.fault("flip", "put")
        self.assertEqual(self.put("n", b"2", 400, Content_MD5=b64(
            hashlib.md5(b"2").digest())).code, "Md5Mismatch")

    def test_lists(self):
        self.put("n")
        q = dict(restype="container", comp="list")
        self.fault("corrupt-xml", "list")
        self.assertNotIn(b"</EnumerationResults>",
                         self.ok(200, "GET", "", **q).body)
        self.fault("endless-page", "list")
        self.assertIn(b"<NextMarker>2!", self.ok(200, "GET", "", **q).body)
        self.fault("empty-page", "list")
        text = self.ok(200, "GET", "", **q).body.decode("utf-8-sig")
        self.assertNotIn("<Blob>", text)
        q["marker"] = text.split("<NextMarker>")[1].split("<")[0]
        self.assertIn(b"<Name>n<", self.ok(200, "GET", "", **q).body)

    def test_down_and_up(self):
        self.put("n")
        self.raw("POST", "/_/down")
        self.get_dies()
        self.raw("POST", "/_/up")
        self.ok(200, "GET", "n")

    def test_holds(self):
        self.put("n", b"old")
        self.raw("POST", "/_/hook?op=put&name=n")
        self.raw("POST", "/_/hook?op=delete&name=m&at=after")
        self.put("m")
        threads = [threading.Thread(target=self.put, args=("n", b"new")),
                   threading.Thread(target=self.ok,
                                    args=(202, "DELETE", "m"))]
        for t in threads:
            t.start()
        while json.loads(self.raw("GET", "/_/held").body)["held"] < 2:
            time.sleep(0.01)
        self.assertEqual(self.ok(200, "GET", "n").body, b"old")
        self.ok(404, "GET", "m")
        self.raw("POST", "/_/release")
        for t in threads:
            t.join()
        self.assertEqual(self.ok(200, "GET", "n").body, b"new")

    def test_seeds_counts_and_reads(self):
        self.raw("POST", f"/_/seed?container={self.c}&prefix=s/&count=1200"
                         "&size=100&depth=1&per=100")
        name = "s/d011/f0001199"
        self.assertEqual(self.ok(200, "GET", name).body,
                         formula(name, 0, 100))
        size = 20 << 30
        self.raw("POST", f"/_/seed-large?container={self.c}&name=big&size="
                         f"{size}")
        self.raw("POST", "/_/counts/reset")
        for off, length in ((size - 300001, 300001), (7, 50), (50, 50)):
            g = self.ok(206, "GET", "big", headers={
                "Range": f"bytes={off}-{off + length - 1}"})
            self.assertEqual(g.body, formula("big", off, length))
        reads = json.loads(self.raw("GET", "/_/reads?name=*/big").body)
        self.assertEqual(reads[self.c + "/big"], {
            "gets": 3, "bytes": 300101,
            "ranges": [[7, 93], [size - 300001, 300001]]})
        counts = json.loads(self.raw("GET", "/_/counts").body)
        self.assertEqual(counts["requests"]["get"], 3)
        self.assertEqual(counts["bytes_out"] >= 300101, True)


class Slow(Case):
    options = ["--latency-ms", "20", "--bandwidth", "4000000"]

    def test_latency_and_bandwidth(self):
        before = time.monotonic()
        self.put("n", bytes(1000000))
        self.assertGreater(time.monotonic() - before, 0.2)
        before = time.monotonic()
        self.assertEqual(self.ok(200, "GET", "n").body, bytes(1000000))
        self.assertGreater(time.monotonic() - before, 0.2)

    def test_many_wait_at_once(self):
        threads = [threading.Thread(target=self.put, args=(f"n{i}", b"x"))
                   for i in range(50)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        counts = json.loads(self.raw("GET", "/_/counts").body)
        self.assertGreater(counts["under_way_max"], 4)


if __name__ == "__main__":
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        BLOBD = sys.argv.pop(1)
    unittest.main()
