#!/usr/bin/env python3
"""The mixed load of the crash tests: load.py DIR SECONDS SEED [FOREBAY [STOP]]

Four processes use DIR (of a mount) until SECONDS are over, or a file STOP is
there, and know at each step what every call must do; a file DIR/big is there.
Nobody else changes anything below DIR.
  names    creates, renames, links, removes: each takes effect exactly once
  saver    checkpoints: temporary file, fsync, chmod, rename over, read back
  reader   reads of DIR/big at random places, evicted now and then
  mapper   mappings, written and read; files that are open without a name
Prints one line of JSON a process: calls, the longest one in ms.  Exit status 1
and a line for each surprise.
"""
import errno
import hashlib
import json
import mmap
import os
import random
import subprocess
import sys
import time
from multiprocessing import Process

BIG_BLOCK = 4096


def big_block(n):
    """What stands in block n of DIR/big."""
    return hashlib.sha256(b"block %d" % n).digest() * (BIG_BLOCK // 32)


class Until:
    """The end of the load."""

    def __init__(self, seconds, stop):
        self.end, self.stop = time.monotonic() + seconds, stop

    def lasts(self):
        return time.monotonic() < self.end and not (
            self.stop and os.path.exists(self.stop))


class Clock:
    """Counts calls and knows the longest."""

    def __init__(self):
        self.calls, self.longest, self.what = 0, 0.0, ""

    def __call__(self, fn, *args, **kwargs):
        begin = time.monotonic()
        try:
            return fn(*args, **kwargs)
        finally:
            took = time.monotonic() - begin
            self.calls += 1
            if took > self.longest:
                self.longest, self.what = took, fn.__name__


def expect(condition, what):
    if not condition:
        raise AssertionError(what)


def gone(do, path):
    try:
        do(os.lstat, path)
    except FileNotFoundError:
        return True
    return False


def read_all(do, path):
    fd = do(os.open, path, os.O_RDONLY)
    data = b""
    while True:
        piece = do(os.read, fd, 1 << 20)
        if not piece:
            break
        data += piece
    do(os.close, fd)
    return data


def names(root, until, rng, do):
    top = os.path.join(root, "names")
    do(os.mkdir, top)
    model = {}  # name -> content; bytes, or ("link", target), or a directory
    number = 0
    while until.lasts():
        number += 1
        kind = rng.randrange(8)
        name = "n%d" % number
        path = os.path.join(top, name)
        files = [n for n, c in model.items() if isinstance(c, bytes)]
        if kind <= 1 or len(model) < 5:
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
            fd = do(os.open, path, flags, 0o640)
            data = b"%d " % number * rng.randrange(1, 400)
            if rng.randrange(3):
                do(os.write, fd, data)
            else:
                data = b""
            do(os.close, fd)
            model[name] = data
        elif kind == 2 and files:
            old = rng.choice(files)
            do(os.rename, os.path.join(top, old), path)
            model[name] = model.pop(old)
            expect(gone(do, os.path.join(top, old)), "a renamed name is there")
        elif kind == 3 and len(files) > 1:
            old, new = rng.sample(files, 2)
            do(os.rename, os.path.join(top, old), os.path.join(top, new))
            model[new] = model.pop(old)
        elif kind == 4:
            old = rng.choice(sorted(model))
            if model[old] == "dir":
                do(os.rmdir, os.path.join(top, old))
            else:
                do(os.unlink, os.path.join(top, old))
            del model[old]
            expect(gone(do, os.path.join(top, old)), "a removed name is there")
        elif kind == 5:
            if rng.randrange(2):
                do(os.mkdir, path)
                model[name] = "dir"
            else:
                do(os.symlink, "to-%d" % number, path)
                model[name] = ("link", "to-%d" % number)
        elif kind == 6 and files:
            old = rng.choice(files)
            # Twice done, it would not be there twice.
            flags = os.O_WRONLY | os.O_APPEND
            fd = do(os.open, os.path.join(top, old), flags)
            do(os.write, fd, b"more")
            do(os.close, fd)
            model[old] += b"more"
        elif files:
            old = rng.choice(files)
            if rng.randrange(2):
                flags = os.O_WRONLY | os.O_TRUNC
                fd = do(os.open, os.path.join(top, old), flags)
                do(os.write, fd, b"new")
                do(os.close, fd)
                model[old] = b"new"
            else:
                size = rng.randrange(2000)
                do(os.truncate, os.path.join(top, old), size)
                model[old] = model[old][:size].ljust(size, b"\0")
        if number % 50 == 0:
            check_names(top, model, do)
        if len(model) > 60:
            for old in sorted(model)[:30]:
                if model[old] == "dir":
                    do(os.rmdir, os.path.join(top, old))
                else:
                    do(os.unlink, os.path.join(top, old))
                del model[old]
    check_names(top, model, do)


def check_names(top, model, do):
    there = sorted(do(os.listdir, top))
    expect(there == sorted(model), "names are %s, not %s" % (there, sorted(model)))
    for name, content in model.items():
        path = os.path.join(top, name)
        if content == "dir":
            expect(do(os.listdir, path) == [], "a directory is not empty")
        elif isinstance(content, tuple):
            expect(do(os.readlink, path) == content[1], "another target")
        else:
            data = read_all(do, path)
            expect(data == content,
                   "%s holds %r..., not %r..." % (name, data[:40], content[:40]))


def saver(root, until, rng, do):
    top = os.path.join(root, "saves")
    do(os.mkdir, top)
    number = 0
    while until.lasts():
        number += 1
        data = hashlib.sha256(b"save %d" % number).digest() * rng.randrange(1, 30000)
        temp = os.path.join(top, "model.tmp")
        path = os.path.join(top, "model.%d" % rng.randrange(3))
        fd = do(os.open, temp, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        for at in range(0, len(data), 100000):
            do(os.write, fd, data[at:at + 100000])
        do(os.fsync, fd)
        do(os.close, fd)
        do(os.chmod, temp, 0o644)
        do(os.rename, temp, path)
        expect(read_all(do, path) == data, "a checkpoint is not what was saved")
        pointer = os.path.join(top, "latest")
        fd = do(os.open, pointer, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o644)
        do(os.write, fd, os.path.basename(path).encode())
        do(os.fsync, fd)
        do(os.close, fd)
        expect(read_all(do, pointer) == os.path.basename(path).encode(), "latest")
        st = do(os.stat, path)
        expect(st.st_mode & 0o777 == 0o644 and st.st_size == len(data), "its mode")


def reader(root, until, rng, do, forebay):
    path = os.path.join(root, "big")
    blocks = os.stat(path).st_size // BIG_BLOCK
    while until.lasts():
        fd = do(os.open, path, os.O_RDONLY)
        at = rng.randrange(blocks)
        for _ in range(rng.randrange(1, 200)):
            if not until.lasts():
                break
            at = rng.randrange(blocks) if rng.randrange(4) == 0 else (at + 1) % blocks
            data = do(os.pread, fd, BIG_BLOCK, at * BIG_BLOCK)
            expect(data == big_block(at), "block %d is another" % at)
        do(os.close, fd)
        if forebay and rng.randrange(3) == 0:
            # It may meet a worker's death, and that is a command's failure.
            subprocess.run([forebay, "evict", path], check=False,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def mapper(root, until, rng, do):
    top = os.path.join(root, "maps")
    do(os.mkdir, top)
    path = os.path.join(top, "shared")
    big = os.path.join(root, "big")
    size = 1 << 20
    want = bytearray(size)
    fd = do(os.open, path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
    do(os.ftruncate, fd, size)
    shared = mmap.mmap(fd, size)
    do(os.close, fd)
    number = 0
    while until.lasts():
        number += 1
        for _ in range(20):
            at = rng.randrange(size - 16)
            piece = b"%015d\n" % number
            shared[at:at + 16] = piece
            want[at:at + 16] = piece
        if number % 10 == 0:
            do(shared.flush)
        fd = do(os.open, path, os.O_RDONLY)
        at = rng.randrange(size - BIG_BLOCK)
        expect(do(os.pread, fd, BIG_BLOCK, at) == bytes(want[at:at + BIG_BLOCK]),
               "a store to a mapping is lost")
        do(os.close, fd)
        # Open without a name.
        name = os.path.join(top, "held%d" % number)
        fd = do(os.open, name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        do(os.write, fd, b"before")
        do(os.unlink, name)
        do(os.write, fd, b" after")
        expect(do(os.fstat, fd).st_nlink == 0, "it has a name")
        expect(do(os.pread, fd, 100, 0) == b"before after", "a file without a name")
        do(os.ftruncate, fd, 3)
        expect(do(os.pread, fd, 100, 0) == b"bef", "its truncation")
        do(os.close, fd)
        expect(gone(do, name), "a removed name is there")
        if number % 7 == 0:
            fd = do(os.open, big, os.O_RDONLY)
            blocks = os.fstat(fd).st_size // BIG_BLOCK
            mapped = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
            do(os.close, fd)
            for _ in range(8):
                n = rng.randrange(blocks)
                expect(mapped[n * BIG_BLOCK:(n + 1) * BIG_BLOCK] == big_block(n),
                       "a mapped block is another")
            mapped.close()
    shared.close()
    expect(read_all(do, path) == bytes(want), "what was mapped is lost")


def run(what, *args):
    do = Clock()
    rng = random.Random("%s %s" % (sys.argv[3], what.__name__))
    status = 0
    try:
        if what is reader:
            what(sys.argv[1], *args, rng, do,
                 sys.argv[4] if len(sys.argv) > 4 else None)
        else:
            what(sys.argv[1], *args, rng, do)
    except (OSError, AssertionError) as e:
        name = errno.errorcode.get(e.errno, "") if isinstance(e, OSError) else ""
        print("surprise in %s after %d calls: %s %s" %
              (what.__name__, do.calls, name, e), flush=True)
        status = 1
    print(json.dumps({"who": what.__name__, "calls": do.calls,
                      "longest_ms": int(do.longest * 1000), "call": do.what}),
          flush=True)
    os._exit(status)


def main():
    if len(sys.argv) == 4 and sys.argv[1] == "--big":
        with open(sys.argv[2], "wb") as f:
            for n in range(int(sys.argv[3]) // BIG_BLOCK):
                f.write(big_block(n))
        return 0
    until = Until(float(sys.argv[2]), sys.argv[5] if len(sys.argv) > 5 else None)
    workers = [Process(target=run, args=(what, until))
               for what in (names, saver, reader, mapper)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    return 0 if all(w.exitcode == 0 for w in workers) else 1


sys.exit(main())
