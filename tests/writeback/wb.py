"""What the drivers of tests/writeback share: the mount that their script made,
the store's REST side as another tool uses it, and blobd's control interface.

A driver is a list of claims, functions decorated with @claim("3.1 ..."), run in
order by run().  The environment says where things are: STORE_URL (the
container), MNT, CACHE, FOREBAY, and BLOBD_PORT where the store is blobd.  On
another store a claim that needs a fault or a hook is passed over, and what
only blobd's log could tell is UNKNOWN, and equals everything.
"""
import base64
import ctypes
import hashlib
import json
import os
import subprocess
import sys
import time
import urllib.parse
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))
import azure_rest  # noqa: E402

MIB = 1 << 20
BLOCK = 8 * MIB
MNT = os.environ["MNT"]
CACHE = os.environ["CACHE"]
FOREBAY = os.environ["FOREBAY"]
STORE_URL = os.environ["STORE_URL"]
BLOBD_PORT = os.environ.get("BLOBD_PORT")
CONTAINER = STORE_URL.rsplit("/", 1)[1]
store = azure_rest.Container(STORE_URL)
claims = []


class Failed(Exception):
    pass


class NotHere(Exception):
    pass


class Unknown:
    """Whatever is made of it stays unknown."""

    def same(self, *_):
        return self

    __getitem__ = __getattr__ = __call__ = same
    __add__ = __radd__ = __sub__ = __rsub__ = same

    def __bool__(self):
        return True


UNKNOWN = Unknown()


def claim(text):
    def add(f):
        claims.append((text, f))
        return f
    return add


def run():
    only = os.environ.get("ONLY")
    for text, f in claims:
        if only and only not in text:
            continue
        print("claim: " + text, flush=True)
        begin = time.monotonic()
        try:
            f()
        except NotHere:
            print("  (cannot be shown here)", flush=True)
        took = time.monotonic() - begin
        if took > 2:
            print("  (%.1f s)" % took, flush=True)
    print("%d claims" % len(claims))


def eq(what, got, wanted):
    if any(isinstance(v, Unknown) for v in (
            got if isinstance(got, tuple) else (got,))):
        return
    if got != wanted:
        raise Failed("%s: got %.300r, wanted %.300r" % (what, got, wanted))


def true(what, ok):
    if not ok:
        raise Failed(what)


def wait(what, f, seconds=60):
    end = time.monotonic() + seconds
    while True:
        result = f()
        if result:
            return result
        if time.monotonic() > end:
            raise Failed("not within %d s: %s" % (seconds, what))
        time.sleep(0.02)


# ---- the mount ----

def path(name, mnt=None):
    return os.path.join(mnt or MNT, name)


def read(name, mnt=None):
    with open(path(name, mnt), "rb") as f:
        return f.read()


def write(name, data, at=None, mnt=None):
    """The whole file, or data at an offset of one that is there."""
    if at is None:
        with open(path(name, mnt), "wb") as f:
            f.write(data)
    else:
        with open(path(name, mnt), "r+b") as f:
            f.seek(at)
            f.write(data)


def forebay(*words):
    try:
        done = subprocess.run([FOREBAY, *words], capture_output=True,
                              text=True, timeout=60)
    except subprocess.TimeoutExpired:
        raise Failed("forebay %s: no end; the line is held by: %s" % (
            " ".join(words), status("held_by")
            if words[0] == "flush" else "?")) from None
    true("forebay %s: %s" % (" ".join(words), done.stderr),
         done.returncode == 0)
    return done.stdout


def flush(mnt=None):
    forebay("flush", mnt or MNT)


def evict(name):
    forebay("evict", path(name))


def status(key, mnt=None):
    return json.loads(forebay("status", mnt or MNT, "--json"))[key]


def conflicts(mnt=None):
    return status("conflicts", mnt)


def mount(mnt, cache, options="freshness=1", env=None):
    os.makedirs(mnt, exist_ok=True)
    done = subprocess.run(
        [FOREBAY, "mount", STORE_URL, mnt, "-o",
         "cache=%s,%s" % (cache, options)],
        env=dict(os.environ, **(env or {})))
    eq("mount", done.returncode, 0)


def umount(mnt):
    keeper = status("keeper_pid", mnt)
    forebay("umount", mnt)
    wait("the keeper is gone", lambda: not os.path.exists("/proc/%d" % keeper))


def crash():
    """The daemon is killed; another one mounts on what is left."""
    keeper, worker = status("keeper_pid"), status("worker_pid")
    for pid in {keeper, worker}:
        os.kill(pid, 9)
    for pid in {keeper, worker}:
        wait("it is gone", lambda pid=pid: not os.path.exists(
            "/proc/%d/fd" % pid) or not os.listdir("/proc/%d/task" % pid))
    # Somebody may have done so already.
    subprocess.run(["umount", "-l", MNT], stderr=subprocess.DEVNULL)
    mount(MNT, CACHE, os.environ["OPTIONS"])


def exchange(a, b):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(-100, path(a).encode(), -100, path(b).encode(), 2) != 0:
        raise OSError(ctypes.get_errno(), "RENAME_EXCHANGE")


# ---- the store, as another tool sees it ----

def headers_of(given):
    """meta_K is metadata, a_b is a-b; what has a - already stays."""
    h = {}
    for k, v in given.items():
        if k.startswith("meta_"):
            k = "x-ms-meta-" + k[5:]
        h[k if "-" in k else k.replace("_", "-")] = v
    return h


def put(name, data, **headers):
    store.ask("PUT", name, body=data, headers=dict(
        headers_of(headers), **{"x-ms-blob-type": "BlockBlob"}))


def put_blocks(name, blocks, ids=None, **headers):
    """Staged and committed under ids of their own."""
    xml = "<?xml version='1.0' encoding='utf-8'?><BlockList>"
    for i, block in enumerate(blocks):
        b = ids[i] if ids else base64.b64encode(b"%08d" % i).decode()
        stage(name, b, block)
        xml += "<Latest>%s</Latest>" % b
    store.ask("PUT", name, {"comp": "blocklist"}, headers_of(headers),
              (xml + "</BlockList>").encode())


def stage(name, block_id, data):
    store.ask("PUT", name, {"comp": "block", "blockid": block_id}, body=data)


def get(name):
    return store.ask("GET", name)[1]


def head(name):
    """Its headers; None: there is no such blob."""
    answer, _ = store.ask("HEAD", name, ok=(200, 404))
    if answer.status == 404:
        return None
    return {k.lower(): v for k, v in answer.getheaders()}


def delete(name):
    store.ask("DELETE", name, ok=(202, 404))


def set_meta(name, **meta):
    store.ask("PUT", name, {"comp": "metadata"},
              {"x-ms-meta-" + k: v for k, v in meta.items()})


def blocks(name):
    """(id, size) of each committed block."""
    _, data = store.ask("GET", name, {"comp": "blocklist",
                                      "blocklisttype": "committed"})
    xml = azure_rest.ET.fromstring(data.decode("utf-8-sig"))
    return [(b.findtext("Name"), int(b.findtext("Size")))
            for b in xml.iter("Block")]


def copy(source, target):
    """Server-side, as another tool does it: block list and metadata kept."""
    url = "%s/%s" % (STORE_URL, urllib.parse.quote(source))
    store.ask("PUT", target, headers={"x-ms-copy-source": url})


def block_id(data):
    """The id that forebay gives a block of these bytes."""
    return base64.b64encode(b"fb01" + hashlib.sha256(data).digest()).decode()


# ---- blobd ----

def ctl(method, command, **query):
    if BLOBD_PORT is None:
        raise NotHere
    url = "http://127.0.0.1:%s/_/%s?%s" % (
        BLOBD_PORT, command, urllib.parse.urlencode(query))
    request = urllib.request.Request(url, method=method)
    with urllib.request.urlopen(request) as answer:
        return answer.read().decode()


def fault(kind, **q):
    ctl("POST", "fault", kind=kind, **q)


def faults_off():
    ctl("DELETE", "fault")


def hook(**q):
    ctl("POST", "hook", **q)


def held():
    return json.loads(ctl("GET", "held"))["held"]


def is_held(n=1):
    wait("%d requests are held" % n, lambda: held() >= n)


def release(**q):
    ctl("POST", "release", **q)


def count(op):
    if BLOBD_PORT is None:
        return UNKNOWN
    return json.loads(ctl("GET", "counts"))["requests"][op]


class Log:
    """Mutations applied since it was made (or since mark())."""

    def __init__(self):
        self.mark()

    def mark(self):
        if BLOBD_PORT is None:
            return
        lines = ctl("GET", "log").splitlines()
        self.seq = json.loads(lines[-1])["seq"] + 1 if lines else 1

    def all(self, name=None, op=None):
        if BLOBD_PORT is None:
            return UNKNOWN
        records = map(json.loads, ctl(
            "GET", "log", **{"from": self.seq}).splitlines())
        return [r for r in records if r["container"] == CONTAINER and
                name in (None, r["name"]) and op in (None, r["op"])]

    def nr(self, name, op):
        records = self.all(name, op)
        return records if records is UNKNOWN else len(records)

    def ops(self, name=None):
        records = self.all(name)
        return records if records is UNKNOWN else [r["op"] for r in records]
