#!/usr/bin/env python3
"""The order in which the store sees what one process does.

order.py write MNT OUT ROUNDS SEED   works in MNT and writes down what it did
order.py check OUT LOG               compares that with the log of blobd

A training job: checkpoints of small files, at times a large one, through
temporary names and directly; a manifest that names them with their hashes,
renamed over `latest`; a symlink `current`; a file rewritten in place; a log
that grows; old checkpoints deleted.

The checker knows each state that each name had, and numbers the epochs by the
rules of WRITEBACK.md section 5, without those that depend on what was sent
already or on the clock: its epochs are at most longer than the product's.
After every request that the store applied:
  - the name holds a state that it had when it was closed, later than before;
  - all states of earlier epochs are there, or later ones of the same names
    (a new name need not wait for deletions elsewhere);
  - what `latest` names is there, with the bytes that it names.
"""
import hashlib
import json
import os
import random
import subprocess
import sys
import time

STAGED = 8 << 20  # larger files are staged in blocks
HASTE_NS = 150_000_000  # less than the delay before a new name is sent
GONE = "gone"


class Writer:
    def __init__(self, mnt, out, seed):
        self.mnt = mnt
        self.out = open(out, "w")
        self.random = random.Random(seed)
        self.hashes = {}

    def note(self, op, name, **more):
        row = {"op": op, "name": name, "t": time.monotonic_ns(), **more}
        print(json.dumps(row), file=self.out)

    def path(self, name):
        return os.path.join(self.mnt, name)

    def put(self, name, data, flags=os.O_CREAT | os.O_TRUNC, sync=False):
        # Who may read may also map it: its last store is seen by no stamp.
        mode = self.random.choice((os.O_WRONLY, os.O_RDWR))
        fd = os.open(self.path(name), mode | flags, 0o644)
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view[:1 << 20]):]
        if sync:
            os.fsync(fd)
        os.close(fd)
        if flags & os.O_APPEND:
            with open(self.path(name), "rb") as f:
                data = f.read()
        self.hashes[name] = hashlib.sha256(data).hexdigest()
        self.note("close", name, sha=self.hashes[name], size=len(data))
        # What comes after must not pass it.
        if sync:
            self.note("fsync", name)

    def bytes(self, size):
        return self.random.randbytes(size)

    def rename(self, old, new):
        os.rename(self.path(old), self.path(new))
        self.hashes[new] = self.hashes.pop(old)
        self.note("rename", new, old=old, sha=self.hashes[new])

    def symlink(self, target, name):
        os.symlink(target, self.path(name))
        self.hashes[name] = hashlib.sha256(target.encode()).hexdigest()
        self.note("symlink", name, sha=self.hashes[name])

    def unlink(self, name):
        os.unlink(self.path(name))
        del self.hashes[name]
        self.note("unlink", name)

    def checkpoint(self, nr):
        top = f"ckpt-{nr}"
        rnd = self.random
        os.mkdir(self.path(top))
        self.note("mkdir", top, sha=hashlib.sha256(b"").hexdigest())
        for i in range(rnd.randrange(3, 9)):
            self.put(f"{top}/part-{i}", self.bytes(rnd.randrange(1, 50000)),
                     sync=rnd.random() < 0.1)
        if nr % 3 == 0:
            self.put(f"{top}/large", self.bytes(STAGED + 1 + nr))
        self.put(f"{top}/.weights.tmp", self.bytes(rnd.randrange(1, 200000)),
                 sync=rnd.random() < 0.5)
        self.rename(f"{top}/.weights.tmp", f"{top}/weights")
        if rnd.random() < 0.5:
            self.put(f"scratch-{nr}", self.bytes(1000))
            self.unlink(f"scratch-{nr}")
        named = {n: h for n, h in self.hashes.items()
                 if n.startswith(top + "/")}
        # The first is a small new name like those before it: the newest of
        # its epoch goes last (L2).
        self.put("latest.tmp", json.dumps(named).encode(),
                 sync=rnd.random() < 0.5)
        self.note("manifest", "latest", sha=self.hashes["latest.tmp"],
                  named=named)
        self.rename("latest.tmp", "latest")
        if nr % 2 == 0:
            self.symlink(top, "current.tmp")
            self.rename("current.tmp", "current")
        self.put("state.json", json.dumps({"step": nr}).encode())
        self.put("train.log", f"step {nr}\n".encode(),
                 flags=os.O_CREAT | os.O_APPEND)

    def delete(self, nr):
        top = f"ckpt-{nr}"
        for name in sorted(os.listdir(self.path(top))):
            self.unlink(f"{top}/{name}")
        os.rmdir(self.path(top))
        self.note("unlink", top)


def write(mnt, out, rounds, seed):
    w = Writer(mnt, out, seed)
    for nr in range(rounds):
        w.checkpoint(nr)
        if nr % 4 == 3:
            # What was never sent would leave the line, and form a group.
            subprocess.run([os.environ["FOREBAY"], "flush", mnt], check=True,
                           stdout=subprocess.DEVNULL)
            w.delete(nr - 3)
        if w.random.random() < 0.2:
            time.sleep(w.random.random() * 0.4)
    w.out.close()


class Checker:
    def __init__(self, rows):
        self.states = {}  # name: [(sha or GONE, epoch, class)]
        self.manifests = {}  # sha of a manifest: {name: sha}
        self.temporary = set()
        self.slow = set()  # temporary names that lived long enough to be sent
        self.shown = {}  # name: index of its state in the store, -1: none
        self.epoch, self.last, self.next = 0, None, False
        born = {}
        for row in rows:
            op, name = row["op"], row["name"]
            if op == "fsync":
                self.next = True
                continue
            if op == "manifest":
                self.manifests[row["sha"]] = row["named"]
                continue
            if op == "rename":
                self.leave(row["old"], row["t"] - born[row["old"]])
            if op == "unlink" and name.startswith("scratch"):
                self.leave(name, row["t"] - born[name])
                continue
            born[name] = row["t"]
            self.enter(row)

    def leave(self, name, age):
        """A temporary name that is not to be seen."""
        self.temporary.add(name)
        if age > HASTE_NS:
            self.slow.add(name)
        self.states.pop(name, None)

    def enter(self, row):
        op, name = row["op"], row["name"]
        old = self.states.setdefault(name, [])
        there = old and old[-1][0] != GONE
        if op == "unlink":
            kind = "delete"
        elif there and old[-1][1] != self.epoch:
            kind = "replace"
        else:
            kind = "symlink" if op == "symlink" else "new"
        if kind != self.last or kind == "replace" or self.next:
            self.epoch += 1
        # Which class such a one has depends on what was sent.
        self.last = kind if not there or kind != "new" else self.last
        self.next = row.get("size", 0) > STAGED
        old.append((row.get("sha", GONE), self.epoch, kind))

    def fail(self, entry, text):
        print(f"failed: {text}\n  at {json.dumps(entry)[:300]}",
              file=sys.stderr)
        sys.exit(1)

    def apply(self, entry):
        name, op = entry["name"], entry["op"]
        if name in self.temporary:
            if name in self.slow:
                return
            self.fail(entry, f"{op} of the temporary name {name}")
        if op not in ("put", "commit", "copy", "delete"):
            return
        if name not in self.states:
            self.fail(entry, f"nobody wrote {name}")
        shas = [s[0] for s in self.states[name]]
        sha = GONE if op == "delete" else entry["sha256"]
        before = self.shown.get(name, -1)
        if sha not in shas:
            self.fail(entry, f"{name} never was like this when it was closed")
        index = shas.index(sha)
        if index <= before:
            self.fail(entry, f"{name}: state {index} after state {before}")
        self.shown[name] = index
        self.check_earlier(entry, name, self.states[name][index])
        self.check_manifest(entry)

    def check_earlier(self, entry, name, state):
        parent = os.path.dirname(name)
        for other, states in self.states.items():
            if other == name:
                continue
            must = [i for i, s in enumerate(states) if s[1] < state[1]]
            if not must or self.shown.get(other, -1) >= must[-1]:
                continue
            if states[must[-1]][2] == "delete" and state[2] == "new" and \
                    os.path.dirname(other) != parent and other != parent:
                # Only the deletion may be late.
                if len(must) < 2 or self.shown.get(other, -1) >= must[-2]:
                    continue
            self.fail(entry, f"{name} of epoch {state[1]} is there, but "
                      f"{other} of epoch {states[must[-1]][1]} is not")

    def check_manifest(self, entry):
        index = self.shown.get("latest", -1)
        if index < 0:
            return
        for name, sha in self.manifests[self.states["latest"][index][0]].items():
            shas = [s[0] for s in self.states[name]]
            if self.shown.get(name, -1) < shas.index(sha):
                self.fail(entry, f"`latest` names {name}, which is not there")

    def end(self, puts):
        for name, states in self.states.items():
            if self.shown.get(name, -1) != len(states) - 1:
                self.fail({}, f"{name}: {len(states)} states, the store has "
                          f"number {self.shown.get(name, -1) + 1}")
            if name.endswith("/weights") and puts.get(name, 0) != 1:
                self.fail({}, f"{name} was uploaded {puts.get(name, 0)} times")


def check(out, log):
    c = Checker([json.loads(line) for line in open(out)])
    entries = [json.loads(line) for line in open(log)]
    puts = {}
    for entry in entries:
        if entry["name"].startswith(".forebay/"):
            continue
        if entry["op"] in ("put", "commit"):
            puts[entry["name"]] = puts.get(entry["name"], 0) + 1
        c.apply(entry)
    c.end(puts)
    print(f"{sum(len(s) for s in c.states.values())} states of "
          f"{len(c.states)} names in {c.epoch} epochs, {len(entries)} requests "
          f"applied, {len(c.temporary)} temporary names not seen"
          f" ({len(c.slow)} lived too long to tell)")
    if len(c.slow) * 2 > len(c.temporary):
        print("skipped: this machine is too slow to tell")
        sys.exit(77)


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
    else:
        check(sys.argv[2], sys.argv[3])
