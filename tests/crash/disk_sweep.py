#!/usr/bin/env python3
"""Faults of the cache's disk: call N fails, for one N after the other.

  disk_sweep.py MNT STORE PLAN CACHE FOREBAY FULL

A scenario that touches every operation runs with fault N in place (ENOSPC or
EIO, in turn).  What it acknowledged must be there at once; after the fault
everything drains by itself, and mount and store agree.
"""
import errno
import mmap
import os
import random
import struct
import subprocess
import sys
import time

MNT, STORE, PLAN, CACHE, FOREBAY, FULL = sys.argv[1:7]
SECONDS = 20  # of a run that is not FULL
fd = os.open(PLAN, os.O_RDWR)
plan = mmap.mmap(fd, 512)


def arm(at, error, until=0):
    plan[0:40] = struct.pack("<QQQQii", 0, 0, 0, 0, 0, 0)
    plan[40:40 + len(CACHE)] = CACHE.encode()
    plan[32:36] = struct.pack("<i", error)
    plan[16:24] = struct.pack("<Q", until)
    plan[8:16] = struct.pack("<Q", at)


def disarm():
    count, _, _, hits = struct.unpack("<QQQQ", plan[0:32])
    plan[8:16] = struct.pack("<Q", 0)
    return count, hits


def die(*args):
    disarm()
    print("failed:", *args)
    print("the call that failed:", plan[256:512].split(b"\0")[0].decode())
    print(subprocess.run([FOREBAY, "status", "--pending", MNT],
                         stdout=subprocess.PIPE, text=True).stdout)
    sys.exit(1)


class Run:
    """One scenario in a directory of its own."""

    def __init__(self, nr):
        self.dir = "%s/run%d" % (MNT, nr)
        self.sure = {}      # path: bytes, or None: it is not there
        self.errors = []

    def attempt(self, what, fn):
        try:
            fn()
            return True
        except OSError as e:
            if e.errno not in (errno.ENOSPC, errno.EIO, errno.ENOENT,
                               errno.EROFS):
                die("%s: %s" % (what, e))
            self.errors.append((what, e.errno))
            return False

    def write(self, name, data, flags=os.O_CREAT | os.O_WRONLY | os.O_TRUNC):
        path = self.dir + "/" + name

        def go():
            f = os.open(path, flags, 0o644)
            try:
                if os.write(f, data) != len(data):
                    raise OSError(errno.ENOSPC, "short")
                os.fsync(f)
            finally:
                os.close(f)
        self.sure.pop(path, None)
        if self.attempt("write " + name, go):
            self.sure[path] = data

    def rename(self, old, new):
        a, b = self.dir + "/" + old, self.dir + "/" + new
        data, had = self.sure.pop(a, None), a in self.sure
        self.sure.pop(b, None)
        if self.attempt("rename " + old, lambda: os.rename(a, b)):
            self.sure[a] = None
            if data is not None:
                self.sure[b] = data

    def unlink(self, name):
        path = self.dir + "/" + name
        self.sure.pop(path, None)
        if self.attempt("unlink", lambda: os.unlink(path)):
            self.sure[path] = None

    def scenario(self):
        self.attempt("mkdir", lambda: os.mkdir(self.dir))
        if not os.path.isdir(self.dir):
            return
        self.write("a", b"a" * 5000)
        self.write("b", b"b" * 200000)
        self.write("a", b"A" * 6000)
        self.rename("b", "c")
        self.write("tmp", b"t" * 3000)
        self.rename("tmp", "a")
        self.write("c", b"C" * 100, os.O_WRONLY | os.O_TRUNC)
        self.unlink("c")
        self.attempt("chmod", lambda: os.chmod(self.dir + "/a", 0o600))
        self.attempt("symlink",
                     lambda: os.symlink("a", self.dir + "/latest"))
        self.attempt("cold", lambda: open(
            MNT + "/cold/f%d" % random.randrange(200), "rb").read())

    def agrees(self, root):
        for path, data in self.sure.items():
            path = root + path[len(MNT):]
            if os.path.lexists(path) != (data is not None):
                return False
            if data is not None and open(path, "rb").read() != data:
                return False
        return True

    def check(self, root, when):
        for path, data in self.sure.items():
            path = root + path[len(MNT):]
            there = os.path.lexists(path)
            if data is None and there:
                die("%s: %s is there" % (when, path))
            if data is None:
                continue
            if not there:
                die("%s: %s is lost" % (when, path))
            got = open(path, "rb").read()
            if got != data:
                die("%s: %s is %d times %s, not %d times %s as acknowledged; "
                    "errors seen: %s" % (when, path, len(got), got[:1],
                                         len(data), data[:1], self.errors))


def main():
    full = FULL == "yes"
    begin = time.monotonic()
    probe = Run(0)
    arm(0, 0)
    probe.scenario()
    subprocess.run([FOREBAY, "flush", MNT], check=True, timeout=60)
    total, _ = disarm()
    step = 1 if full else max(1, total // 16)
    at, runs, hits = int(os.environ.get("FIRST", "1")), 0, 0
    last = 4 * total + 100
    seed = int(os.environ.get("SEED", "1"))
    print("seed", seed, flush=True)
    random.seed(seed)
    while at <= last and (full or time.monotonic() < begin + SECONDS):
        error = (errno.ENOSPC, errno.EIO)[runs % 2]
        r = Run(at)
        arm(at, error)
        r.scenario()
        end = time.monotonic() + 60
        count, hit = 0, 0
        while time.monotonic() < end:
            count, _, _, hit = struct.unpack("<QQQQ", plan[0:32])
            if hit or count > at:
                break
            p = subprocess.run([FOREBAY, "flush", r.dir],
                               stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, timeout=60)
            break
        _, hit = disarm()
        r.check(MNT, "fault %d" % at)
        p = None
        end = time.monotonic() + 60
        while time.monotonic() < end:
            p = subprocess.run([FOREBAY, "flush", MNT],
                               stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True,
                               timeout=60)
            if p.returncode == 0:
                break
            time.sleep(0.2)
        if p.returncode != 0:
            die("fault %d: it does not drain: %s" % (at, p.stdout))
        # The end of a close that failed is tried again, after the flush.
        end = time.monotonic() + 20
        while not r.agrees(STORE) and time.monotonic() < end:
            time.sleep(0.1)
        r.check(STORE, "fault %d, at the store" % at)
        runs += 1
        hits += hit
        if hit == 0 and at > total:
            break
        at += step if full else random.randrange(1, 2 * step)
    if full and at > last:
        die("no run without a fault")
    print("%d runs, %d faults hit, %d calls in a run without one, %.1f s" % (
        runs, hits, total, time.monotonic() - begin))


main()
