#!/usr/bin/env python3
"""A scenario that touches every operation of the store, with one fault.

store_sweep.py MNT URL FOREBAY SEED [KIND@N...]

For each KIND of fault the N-th request of a run fails in that way; without
KIND@N all kinds, N = 1, 2, ... until a run meets no fault any more.  A run has
a directory of its own.  Afterwards:
  - no program saw an error (kinds in RUDE: reading may fail, and then works);
  - at every moment the store showed states that a program had closed, and
    what `latest` names was there before it;
  - the fault gone, everything drains, and store and mount hold what was
    written, byte by byte, mode by mode; no conflict, nothing set aside.
Prints one line a kind.
"""
import hashlib
import http.client
import json
import os
import random
import subprocess
import sys
import time
import urllib.parse

KINDS = ("500", "503:1", "429", "502", "reset", "reset-after", "half",
         "stall:1500", "stall-body:1500", "wrong-length", "flip",
         "200-for-range", "corrupt-xml", "empty-page",
         "403:AuthenticationFailed", "404:ContainerNotFound",
         "409:LeaseAlreadyPresent", "412:LeaseIdMissing")
# What the service says for good: a reader is told so.
RUDE = ("403", "404", "409", "412")
BIG = (9 << 20) + 12345  # two blocks
LIMIT = 60  # seconds in which a run must drain


class Service:
    def __init__(self, url):
        u = urllib.parse.urlparse(url)
        self.host, self.path = u.netloc, u.path
        self.container = u.path.rsplit("/", 1)[1]

    def control(self, verb, command, **params):
        c = http.client.HTTPConnection(self.host, timeout=20)
        c.request(verb, "/_/" + command + "?" + urllib.parse.urlencode(params))
        answer = c.getresponse().read()
        c.close()
        return answer.decode()

    def log(self, start):
        text = self.control("GET", "log", **{"from": start})
        return [json.loads(line) for line in text.splitlines()]


class Run:
    def __init__(self, sweep, number, kind, n):
        self.s, self.kind, self.n = sweep, kind, n
        self.name = f"run{number}"
        self.top = os.path.join(sweep.mnt, self.name)
        self.random = random.Random(sweep.seed * 1000 + number)
        self.states = {}  # name: {sha256: content}, all it ever was
        self.want = {}  # name: bytes, or a symlink's target
        self.said = f"{kind} at request {n}, in {self.name}"

    def fail(self, what):
        sys.exit(f"{self.said}: {what}")

    def path(self, name):
        return os.path.join(self.top, name)

    def note(self, name, data):
        self.want[name] = data
        self.states.setdefault(name, set()).add(
            hashlib.sha256(data).hexdigest())

    def write(self, name, data):
        with open(self.path(name), "wb") as f:
            f.write(data)
        self.note(name, data)

    def bytes(self, size):
        return self.random.randbytes(size)

    def eager(self, what, *args):
        """A reader: with a rude fault it may have to ask again."""
        end = time.monotonic() + LIMIT
        while True:
            try:
                return what(*args)
            except OSError as e:
                if not self.kind.startswith(RUDE) or time.monotonic() > end:
                    self.fail(f"{what.__name__} {args}: {e}")
                time.sleep(0.1)

    def forebay(self, *args, may_fail=False):
        r = subprocess.run([self.s.forebay, *args], capture_output=True,
                           text=True, timeout=LIMIT)
        if r.returncode and not may_fail:
            self.fail(f"forebay {' '.join(args)}: {r.stderr}")
        return r.stdout

    def flush(self):
        self.forebay("flush", self.top)

    def read(self, name):
        with open(self.path(name), "rb") as f:
            return f.read()

    def scenario(self):
        self.eager(os.mkdir, self.top)  # the root may be cold
        os.mkdir(self.path("sub"))
        for i in range(3):
            self.write(f"sub/f{i}", self.bytes(2000 + i))
        self.write("big", self.bytes(BIG))
        self.write("latest", b"sub/f0")
        os.symlink("sub/f1", self.path("current"))
        self.flush()
        # A replacement, after what it names.
        self.write("sub/new", self.bytes(3000))
        self.write("tmp", b"sub/new")
        os.rename(self.path("tmp"), self.path("latest"))
        del self.want["tmp"]
        self.note("latest", b"sub/new")
        # A change in one place of a large file, others by name alone.
        data = bytearray(self.want["big"])
        data[9 << 20:(9 << 20) + 4] = b"here"
        with open(self.path("big"), "r+b") as f:
            f.seek(9 << 20)
            f.write(b"here")
        self.note("big", bytes(data))
        os.chmod(self.path("sub/f0"), 0o600)
        self.flush()
        # Copied by the store, since it is not here; then deleted there.
        self.forebay("evict", self.path("big"), self.path("sub/f2"))
        os.rename(self.path("big"), self.path("sub/moved"))
        self.states["sub/moved"] = self.states["big"]
        self.want["sub/moved"] = self.want.pop("big")
        os.unlink(self.path("sub/f1"))
        del self.want["sub/f1"]
        if self.eager(self.read, "sub/f2") != self.want["sub/f2"]:
            self.fail("what is read is not what was written")
        # What another tool has put there: listed, looked up, fetched.
        cold = os.path.join(self.s.mnt, self.name + "-cold")
        while not os.path.exists(cold):  # the root is fresh for a second
            time.sleep(0.05)
        if len(self.eager(os.listdir, cold)) != 4:
            self.fail("a listing is not complete")
        for name in sorted(os.listdir(cold)):
            path = os.path.join(cold, name)
            if len(self.eager(self.read, path)) != 5000:
                self.fail("a cold file is short")
        self.flush()

    def check_log(self, start):
        there = {}
        for row in self.s.service.log(start):
            if not row["name"].startswith(self.name + "/"):
                continue
            name = row["name"][len(self.name) + 1:]
            if row["op"] == "delete":
                there.pop(name, None)
            if row["op"] not in ("put", "commit", "copy"):
                continue
            sha = row["sha256"]
            there[name] = sha
            if name in self.states and sha not in self.states[name]:
                self.fail(f"{name} held bytes that it never had")
            if name == "latest":
                target = b"sub/new" if sha == hashlib.sha256(
                    b"sub/new").hexdigest() else b"sub/f0"
                if target.decode() not in there:
                    self.fail(f"latest names {target}, which is not there")

    def in_store(self):
        names = self.s.rest("list", self.name + "/").splitlines()
        return {name[len(self.name) + 1:] for name in names}

    def check_end(self):
        self.forebay("flush", self.s.mnt)
        status = json.loads(self.forebay("status", self.s.mnt, "--json"))
        for key in ("pending", "conflicts", "set_aside", "dirty_files"):
            if status[key] != 0:
                self.fail(f"{key} is {status[key]}")
        names = self.in_store()
        if names != set(self.want) | {"sub", "current"}:
            self.fail(f"the store has {names ^ set(self.want)} other than us")
        for name, data in self.want.items():
            got = self.s.get(f"{self.name}/{name}")
            if got != data:
                self.fail(f"{name} in the store is not what was written")
            if self.eager(self.read, name) != data:
                self.fail(f"{name} here is not what was written")
        if os.stat(self.path("sub/f0")).st_mode & 0o7777 != 0o600:
            self.fail("a mode is lost")

    def go(self):
        """Returns whether the fault was met."""
        service = self.s.service
        service.control("POST", "seed", container=service.container, count=4,
                        prefix=self.name + "-cold/", size=5000)
        start = (service.log(1) or [{"seq": 0}])[-1]["seq"] + 1
        service.control("POST", "counts/reset")
        service.control("POST", "fault", kind=self.kind, op="any", count=1,
                        skip=self.n - 1)
        self.scenario()
        met = json.loads(service.control("GET", "counts"))["faults"]
        service.control("DELETE", "fault")
        self.check_log(start)
        self.check_end()
        return met > 0


class Sweep:
    def __init__(self, mnt, url, forebay, seed):
        self.mnt, self.url, self.forebay = mnt, url, forebay
        self.seed = int(seed)
        self.service = Service(url)
        self.number = 0

    def rest_bytes(self, *args):
        tool = os.path.join(os.path.dirname(__file__), "../lib/azure_rest.py")
        return subprocess.run([tool, self.url, *args], check=True,
                              capture_output=True).stdout

    def rest(self, *args):
        return self.rest_bytes(*args).decode()

    def get(self, name):
        return self.rest_bytes("get", name)

    def run(self, kind, n):
        self.number += 1
        return Run(self, self.number, kind, n).go()

    def whole(self, kind):
        n = 1
        while self.run(kind, n):
            n += 1
        print(f"  {kind}: {n - 1} faults survived", flush=True)

    def some(self, what):
        kind, n = what.rsplit("@", 1)
        begin = time.monotonic()
        met = self.run(kind, int(n))
        print(f"  {kind} at request {n}: {time.monotonic() - begin:.1f} s"
              + ("" if met else " (not met)"), flush=True)


def main():
    sweep = Sweep(*sys.argv[1:5])
    if sys.argv[5:]:
        for what in sys.argv[5:]:
            sweep.some(what)
    else:
        for kind in KINDS:
            sweep.whole(kind)


main()
