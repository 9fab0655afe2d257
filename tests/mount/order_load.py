#!/usr/bin/env python3
"""Load whose order can be read back from the store's log.

order_load.py checkpoints MNT OUT SECONDS   writes checkpoints, notes what
order_load.py git REPO SECONDS              commits, on branches, packs
order_load.py copy FROM TO                  as rsync does: temporary, rename
order_load.py check OUT LOG FILES           reads blobd's log

A checkpoint is a large file, some small ones and a pointer that names them
with their hashes: renamed over the last pointer, written over it, or a new
name; each with and without fsync.  A new pointer without fsync comes 0.3 s
after what it names, or after a large file: small new names may pass each
other within 0.2 s (forebay.7).

The check follows the log: a pointer that becomes visible names only what is
there with these bytes, or was, and was replaced or deleted since by a later
state; a git reference names a commit whose objects are all there.
"""
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time

LARGE = (8 << 20) + 1


class Checkpoints:
    def __init__(self, mnt, out):
        self.top = os.path.join(mnt, "run")
        os.mkdir(self.top)
        self.out = open(out, "w")
        self.random = random.Random(7)

    def put(self, name, data, sync):
        fd = os.open(os.path.join(self.top, name),
                     os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.write(fd, data)
        if sync:
            os.fsync(fd)
        os.close(fd)
        return hashlib.sha256(data).hexdigest()

    def one(self, nr):
        rnd = self.random
        how = ("rename", "overwrite", "new")[nr % 3]
        sync = bool(nr // 3 % 2)
        large_last = bool(nr // 6 % 2)
        os.mkdir(os.path.join(self.top, f"c{nr}"))
        named = {}
        parts = [(f"c{nr}/s{i}", rnd.randbytes(rnd.randrange(1, 60000)))
                 for i in range(6)]
        large = (f"c{nr}/large", rnd.randbytes(LARGE + nr))
        parts = parts + [large] if large_last else [large] + parts
        for name, data in parts:
            named["run/" + name] = self.put(name, data, sync)
        pointer = f"latest-{nr}" if how == "new" else f"latest-{how}"
        text = json.dumps(named).encode()
        # It says what it names before anybody can see it.
        print(json.dumps({"sha": hashlib.sha256(text).hexdigest(),
                          "pointer": "run/" + pointer, "named": named}),
              file=self.out, flush=True)
        fresh = not os.path.exists(os.path.join(self.top, pointer))
        if fresh and not sync and not large_last:
            time.sleep(0.3)
        if how == "overwrite":
            self.put(pointer, text, sync)
        else:
            self.put(".tmp", text, sync)
            os.rename(os.path.join(self.top, ".tmp"),
                      os.path.join(self.top, pointer))


def checkpoints(mnt, out, seconds):
    c = Checkpoints(mnt, out)
    end = time.monotonic() + seconds
    nr = 0
    while time.monotonic() < end or nr < 12:
        c.one(nr)
        nr += 1
        time.sleep(0.1)


def git(repo, seconds):
    def run(*args):
        subprocess.run(["git", "-C", repo, "-c", "user.name=n", "-c",
                        "user.email=e@e", "-c", "gc.auto=0", *args],
                       check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)

    os.mkdir(repo)
    run("init")
    end = time.monotonic() + seconds
    nr = 0
    while time.monotonic() < end or nr < 5:
        for i in range(5):
            with open(f"{repo}/f{i}", "w") as f:
                f.write(f"{nr} {i}\n" * (i + 1) * 50)
        run("add", ".")
        # The first reference is a small new name like its objects: an fsync
        # begins an epoch.  Later ones are replacements, and do by themselves.
        run(*(["-c", "core.fsync=reference"] if nr == 0 else []),
            "commit", "-m", f"c{nr}")
        if nr % 5 == 4:
            # The objects of a new branch: see forebay.7.
            time.sleep(0.3)
            run("branch", f"b{nr}")
        nr += 1


def copy(source, dest):
    for top, _, names in sorted(os.walk(source)):
        to = os.path.join(dest, os.path.relpath(top, source))
        os.makedirs(to, exist_ok=True)
        for name in sorted(names):
            shutil.copyfile(os.path.join(top, name), f"{to}/.{name}.Xy12")
            os.rename(f"{to}/.{name}.Xy12", f"{to}/{name}")


class Check:
    def __init__(self, out):
        self.pointers = {}
        for line in open(out):
            row = json.loads(line)
            self.pointers[row["pointer"], row["sha"]] = row["named"]
        self.there = {}  # name: sha256 of what the store shows
        self.refs = self.seen = 0

    def fail(self, entry, text):
        print(f"failed: {text}\n  at {json.dumps(entry)[:300]}",
              file=sys.stderr)
        sys.exit(1)

    def apply(self, entry):
        name, op = entry["name"], entry["op"]
        if op == "delete":
            self.there.pop(name, None)
        elif op in ("put", "commit", "copy"):
            self.there[name] = entry["sha256"]
            self.pointer(entry)
            self.ref(entry)

    def pointer(self, entry):
        name = entry["name"]
        if not name.startswith("run/latest-"):
            return
        named = self.pointers.get((name, entry["sha256"]))
        if named is None:
            self.fail(entry, f"{name} never was like this")
        self.seen += 1
        for n, sha in named.items():
            if self.there.get(n) != sha:
                self.fail(entry, f"{name} names {n}, which is not there")

    def ref(self, entry):
        name = entry["name"]
        if not name.startswith("repo/.git/refs/heads/") or \
                name.endswith(".lock"):
            return
        # A commit is 40 characters and a newline: its hash says which.
        for sha in self.objects_of():
            if hashlib.sha256((sha + "\n").encode()).hexdigest() == \
                    entry["sha256"]:
                self.refs += 1
                return
        self.fail(entry, f"{name} names a commit that is not there")

    def objects_of(self):
        return [n[len("repo/.git/objects/"):].replace("/", "")
                for n in self.there if n.startswith("repo/.git/objects/")]


def check(out, log, files):
    c = Check(out)
    for line in open(log):
        c.apply(json.loads(line))
    tree = sum(n.startswith("tree/d") and "/f" in n for n in c.there)
    if tree != files:
        c.fail({}, f"{tree} files of the tree, not {files}")
    lost = {p for p, _ in c.pointers} - set(c.there)
    if lost or c.refs < 5:
        c.fail({}, f"pointers {lost} are missing, {c.refs} references")
    print(f"{c.seen} pointers and {c.refs} references, each after what it "
          "names")


if __name__ == "__main__":
    what, args = sys.argv[1], sys.argv[2:]
    if what == "checkpoints":
        checkpoints(args[0], args[1], float(args[2]))
    elif what == "git":
        git(args[0], float(args[1]))
    elif what == "copy":
        copy(*args)
    else:
        check(args[0], args[1], int(args[2]))
