#!/usr/bin/env python3
"""Power cuts: load, cut at a random moment, remount, check every promise.

  power_cut.py DIR FOREBAY LOSSY CUTS SEED

Runs in a mount namespace of its own (power_cut.sh): the boot id that forebay
reads is a file of ours, bound over /proc/sys/kernel/random/boot_id.

Each worker has files of its own.  A *state* of a file is a list of versions,
one for each block of 4 KiB; a block says whose it is and which version, all
over, so that a byte from anywhere else shows.  Before an operation the worker
notes the states that the file may have from now on, after its acknowledgement
those that it must have.  After the cut each file must have one of them:

  must    the last state that an fsync (of the file, and of the directory for
          its name) acknowledged; None: no file
  whole   states that came later by a rename or a new name: one of them, whole
  torn    states that came later in place: each block of any of them, or, past
          the end of `must`, zeroes

What is in the store is one of the states that were closed, whole, always.
"""
import ctypes
import json
import mmap
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid

BLOCK = 4096
DIR, FOREBAY, LOSSY = sys.argv[1:4]
CUTS, SEED = int(sys.argv[4]), int(sys.argv[5])
MNT, STORE, DISK = DIR + "/mnt", DIR + "/store", DIR + "/disk"
FUSE, IMAGE, BOOT = DIR + "/fuse", DIR + "/image", DIR + "/boot_id"
CACHE = DISK + "/cache"
WORKERS, FILES = 4, 6


def say(*args):
    print(*args, flush=True)


def die(*args):
    say("failed:", *args, "(seed %d)" % SEED)
    sys.exit(1)


def run(*args, check=True, **kw):
    p = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       text=True, timeout=120, **kw)
    if check and p.returncode != 0:
        die(" ".join(args), p.returncode, p.stdout, p.stderr)
    return p.stdout


# As in tests/lib/common.sh.
PATIENCE = 1 if os.environ.get("FULL") else 10


def wait_for(seconds, what, condition):
    end = time.monotonic() + seconds * PATIENCE
    while not condition():
        if time.monotonic() > end:
            die("not within %d s: %s" % (seconds, what))
        time.sleep(0.02)


def block(name, version):
    text = ("%s %d\n" % (name, version)).encode()
    return (text * (BLOCK // len(text) + 1))[:BLOCK]


def content(name, state):
    return b"".join(block(name, v) for v in state)


class File:
    """What one file may hold.  Guarded by its worker until the cut."""

    def __init__(self, name):
        self.name = name
        self.must = None      # state, or None
        self.whole = []       # later whole states (None: unlinked)
        self.torn = []        # later states in place
        self.closed = set()   # states that the store may hold
        self.now = None       # as the worker sees it
        self.mode = None      # acknowledged by an fsync
        self.modes = set()    # or changed later

    def acked(self, mode=None):
        self.must, self.whole, self.torn = self.now, [], []
        if mode is not None:
            self.mode = mode
        self.modes = set()


class Worker(threading.Thread):
    def __init__(self, nr, rng):
        super().__init__(daemon=True)
        self.nr, self.rng = nr, rng
        self.dir = "%s/w%d" % (MNT, nr)
        self.files = {}
        for i in range(FILES):
            name = "w%d/f%d" % (nr, i)
            self.files[name] = File(name)
        self.version = 0
        self.dead = threading.Event()
        self.error = None
        self.done = 0

    def path(self, f):
        return MNT + "/" + f.name

    def fresh(self, blocks):
        self.version += 1
        return (self.version,) * blocks

    def sync_dir(self):
        fd = os.open(self.dir, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def size(self):
        return self.rng.choice((1, 1, 2, 5, 17, 64))

    # ---- operations ----

    def replace(self, f, sync):
        state = self.fresh(self.size())
        tmp = "%s/tmp%d" % (self.dir, self.version)
        fd = os.open(tmp, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            os.write(fd, content(f.name, state))
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)
        f.whole.append(state)
        f.closed.add(state)
        existed = f.now is not None
        os.rename(tmp, self.path(f))
        f.now = state
        if sync:
            self.sync_dir()
            f.acked()
        elif not existed:
            # a new name without a sync: all, nothing, or what is left of it
            f.torn.append(state)

    def create(self, f, sync):
        if f.now is not None:
            return self.overwrite(f, sync)
        state = self.fresh(self.size())
        f.torn.append(state)
        f.closed.add(state)
        fd = os.open(self.path(f), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        try:
            f.now = state
            os.write(fd, content(f.name, state))
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)
        if sync:
            self.sync_dir()
            f.acked()

    def overwrite(self, f, sync, mapped=False):
        if f.now is None:
            return self.create(f, sync)
        if len(f.now) == 0:
            return self.truncate(f, sync)
        i = self.rng.randrange(len(f.now))
        n = self.rng.randrange(1, len(f.now) - i + 1)
        state = f.now[:i] + self.fresh(n) + f.now[i + n:]
        f.torn.append(state)
        f.closed.add(state)
        fd = os.open(self.path(f), os.O_RDWR)
        try:
            if mapped:
                with mmap.mmap(fd, len(f.now) * BLOCK) as m:
                    m[i * BLOCK:(i + n) * BLOCK] = content(
                        f.name, state[i:i + n])
                    f.now = state
                    if sync:
                        m.flush()
            else:
                os.pwrite(fd, content(f.name, state[i:i + n]), i * BLOCK)
                f.now = state
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)
        if sync:
            f.acked()

    def append(self, f, sync):
        if f.now is None:
            return self.create(f, sync)
        state = f.now + self.fresh(self.rng.choice((1, 3)))
        f.torn.append(state)
        f.closed.add(state)
        fd = os.open(self.path(f), os.O_WRONLY | os.O_APPEND)
        try:
            os.write(fd, content(f.name, state[len(f.now):]))
            f.now = state
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)
        if sync:
            f.acked()

    def truncate(self, f, sync):
        """O_TRUNC and written anew."""
        if f.now is None:
            return self.create(f, sync)
        state = self.fresh(self.size())
        f.torn.append(())
        f.torn.append(state)
        f.closed.add(state)
        f.closed.add(())
        fd = os.open(self.path(f), os.O_WRONLY | os.O_TRUNC)
        try:
            f.now = ()
            os.write(fd, content(f.name, state))
            f.now = state
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)
        if sync:
            f.acked()

    def unlink(self, f, sync):
        if f.now is None:
            return
        f.whole.append(None)
        os.unlink(self.path(f))
        f.now = None
        if sync:
            self.sync_dir()
            f.acked()

    def chmod(self, f, sync):
        if f.now is None:
            return
        mode = self.rng.choice((0o600, 0o640, 0o755))
        f.modes.add(mode)
        os.chmod(self.path(f), mode)
        if sync:
            fd = os.open(self.path(f), os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
            if f.must == f.now and not f.torn and not f.whole:
                f.mode, f.modes = mode, set()

    def rename_dir_sync(self, f, sync):
        """fsync of the directory alone: names are durable, bytes not."""
        self.sync_dir()

    def step(self):
        f = self.files[self.rng.choice(list(self.files))]
        op = self.rng.choice((
            self.replace, self.replace, self.replace, self.create,
            self.overwrite, self.append, self.truncate, self.unlink,
            self.rename_dir_sync,
            lambda f, sync: self.overwrite(f, sync, True)))
        op(f, self.rng.random() < 0.5)
        self.done += 1

    def run(self):
        try:
            while not self.dead.is_set():
                self.step()
        except OSError as e:
            self.error = e
        except Exception as e:  # a bug of the test
            self.error = e
            if not self.dead.is_set():
                import traceback
                traceback.print_exc()


# ---- the machine ----

libc = ctypes.CDLL(None, use_errno=True)


class Machine:
    def __init__(self):
        self.lossy = self.loop = None
        self.mount_s = 0

    def plug_in(self, fresh):
        self.lossy = subprocess.Popen([LOSSY, IMAGE, FUSE])
        wait_for(10, "the disk", lambda: os.path.exists(FUSE + "/disk"))
        if fresh:
            run("mkfs.ext4", "-q", "-F", FUSE + "/disk")
        self.loop = run("losetup", "-f", "--show", FUSE + "/disk").strip()
        run("mount", "-t", "ext4", self.loop, DISK)

    def boot(self):
        with open(BOOT, "w") as f:
            f.write(str(uuid.uuid4()) + "\n")
        begin = time.monotonic()
        run(FOREBAY, "mount", "dir:" + STORE, MNT, "-o",
            "cache=" + CACHE + ",freshness=1")
        self.mount_s = time.monotonic() - begin

    def status(self):
        return json.loads(run(FOREBAY, "status", MNT, "--json"))

    def cut(self, percent, workers):
        status = self.status()
        with open(FUSE + "/ctl", "w") as f:
            f.write("cut %d %d" % (random.randrange(1 << 30), percent))
        for w in workers:
            w.dead.set()
        for pid in (status["keeper_pid"], status["worker_pid"]):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        run("umount", "-l", MNT, check=False)
        for w in workers:
            w.join(20)
            if w.is_alive():
                die("a worker hangs")
        wait_for(20, "the daemon's end", lambda: not any(
            os.path.exists("/proc/%d" % status[k])
            for k in ("keeper_pid", "worker_pid")))
        self.unplug()

    def unplug(self):
        run("umount", DISK, check=False)
        run("umount", "-l", DISK, check=False)
        wait_for(20, "no file system on the disk", lambda: not any(
            line.split()[0] == self.loop for line in open("/proc/mounts")))
        run("losetup", "-d", self.loop)
        wait_for(20, "the loop device's end", lambda: not run(
            "losetup", "-j", FUSE + "/disk", check=False).strip())
        run("umount", "-l", FUSE, check=False)
        self.lossy.wait(20)

    def off(self):
        run(FOREBAY, "umount", MNT, check=False)
        wait_for(20, "the unmount", lambda: not os.path.ismount(MNT))
        time.sleep(0.2)
        if self.loop:
            self.unplug()


# ---- checking ----

def parse(name, data):
    """Versions of the blocks of `data`; 0 for zeroes; None: not ours."""
    state = []
    for i in range(0, len(data), BLOCK):
        b = data[i:i + BLOCK]
        if b.count(0) == len(b):
            state.append(0)
            continue
        try:
            text = b[:b.index(b"\n")].decode()
            who, version = text.split()
            version = int(version)
        except ValueError:
            return None
        if who != name or b != block(name, version)[:len(b)]:
            return None
        state.append(version)
    return tuple(state)


def allowed(f, state):
    if state is None:
        return f.must is None or None in f.whole
    if state == f.must or state in f.whole or state in f.torn:
        return True
    bases = [s for s in [f.must] + f.whole if s is not None]
    if not f.torn:
        return False
    longest = max(len(s) for s in bases + f.torn)
    if len(state) > longest:
        return False
    for i, v in enumerate(state):
        ok = {s[i] for s in bases + f.torn if i < len(s)}
        must = f.must if f.must is not None else ()
        if i >= len(must) or f.whole or () in f.torn:
            ok.add(0)
        if v not in ok:
            return False
    # nothing truncated it: what was fsynced is there in full
    shortest = min(len(s) for s in bases + f.torn)
    return len(state) >= (shortest if f.must is not None else 0)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def check(files, doubts):
    recovered = 0
    for f in files:
        path = MNT + "/" + f.name
        state = None
        if os.path.exists(path):
            data = read(path)
            state = parse(f.name, data)
            if state is None:
                die("%s has bytes that were never written there" % f.name)
        ok = allowed(f, state)
        beside = [n for n in os.listdir(os.path.dirname(path))
                  if n.startswith(os.path.basename(path) + ".recovered-")]
        if not ok and state is None and f.must is None:
            ok = True
        if not ok and state in f.closed and f.must not in f.closed:
            ok = True
        if not ok and f.must is None and state in f.closed and beside:
            ok = True  # what the store has
        if not ok:
            die("%s is %s; must %s, whole %s, torn %s; beside: %s" % (
                f.name, state, f.must, f.whole, f.torn, beside))
        if state is not None and state == f.must and f.mode is not None \
                and not f.modes:
            mode = os.stat(path).st_mode & 0o777
            if mode != f.mode:
                die("%s has mode %o, not %o" % (f.name, mode, f.mode))
        for n in beside:
            recovered += 1
            if parse(f.name, read(os.path.dirname(path) + "/" + n)) is None:
                die("%s has bytes of others" % n)
    return recovered


def check_store(files, when):
    for f in files:
        path = STORE + "/" + f.name
        if not os.path.exists(path):
            continue
        state = parse(f.name, read(path))
        if state is None or state not in f.closed:
            die("%s: the store shows a state of %s that never was: %s" % (
                when, f.name, state))


def settle(files):
    """From here on what is there is what must be."""
    for f in files:
        path = MNT + "/" + f.name
        f.now = parse(f.name, read(path)) if os.path.exists(path) else None
        if f.now is not None:
            f.closed.add(f.now)
        f.whole, f.torn, f.must = [], [], f.now
        f.mode, f.modes = None, set()


def clean_copies(workers):
    for w in workers:
        for n in os.listdir(w.dir):
            if ".recovered-" in n or n.startswith("tmp"):
                os.unlink(w.dir + "/" + n)


def same_as_store(files):
    for f in files:
        a, b = MNT + "/" + f.name, STORE + "/" + f.name
        if os.path.exists(a) != os.path.exists(b):
            die("%s: in the mount %s, in the store %s" % (
                f.name, os.path.exists(a), os.path.exists(b)))
        if os.path.exists(a) and read(a) != read(b):
            die("%s: mount and store differ after a flush" % f.name)


def main():
    rng = random.Random(SEED)
    random.seed(SEED)
    for d in (MNT, STORE, DISK, FUSE):
        os.makedirs(d, exist_ok=True)
    with open(IMAGE, "wb") as f:
        f.truncate(512 << 20)
    with open(BOOT, "w") as f:
        f.write(str(uuid.uuid4()) + "\n")
    run("mount", "--bind", BOOT, "/proc/sys/kernel/random/boot_id")
    m = Machine()
    m.plug_in(True)
    m.boot()
    workers = None
    totals = {"unconfirmed": 0, "recovered": 0, "operations": 0}
    slowest = 0
    for i in range(CUTS):
        old = workers
        workers = [Worker(n, random.Random(rng.random()))
                   for n in range(WORKERS)]
        for w in workers:
            os.makedirs(w.dir, exist_ok=True)
            if old:
                w.files = old[w.nr].files
                w.version = old[w.nr].version
        files = [f for w in workers for f in w.files.values()]
        for w in workers:
            w.sync_dir()
        for w in workers:
            w.start()
        time.sleep(rng.choice((0.1, 0.4, 1.0, 2.0)) * (0.5 + rng.random()))
        percent = rng.choice((0, 50, 90, 100))
        m.cut(percent, workers)
        for w in workers:
            if w.error is not None and not isinstance(w.error, OSError):
                die("a worker failed: %r" % w.error)
        done = sum(w.done for w in workers)
        check_store(files, "after the cut")
        m.plug_in(False)
        m.boot()
        status = m.status()
        check(files, status)
        wait_for(30, "the line drains by itself",
                 lambda: m.status()["pending"] == 0)
        check_store(files, "after the line drained")
        check(files, status)
        say("cut %d: %d operations, %d%% of the unflushed kept, "
            "%d unconfirmed, %d recovered, mounted in %.2f s" % (
                i + 1, done, percent, status["unconfirmed"],
                status["recovered"], m.mount_s))
        totals["unconfirmed"] += status["unconfirmed"]
        totals["recovered"] += status["recovered"]
        totals["operations"] += done
        slowest = max(slowest, m.mount_s)
        if m.mount_s > 5 * PATIENCE:
            die("mounting took %.1f s" % m.mount_s)
        clean_copies(workers)
        settle(files)
        run(FOREBAY, "flush", MNT)
        same_as_store(files)
        if m.status()["unconfirmed"] != 0:
            die("a flush confirms")
    m.off()
    say("%d cuts: %d operations, %d files unconfirmed, %d recovered, slowest "
        "mount %.2f s" % (CUTS, totals["operations"], totals["unconfirmed"],
                          totals["recovered"], slowest))


main()
