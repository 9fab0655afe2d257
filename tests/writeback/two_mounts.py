#!/usr/bin/env python3
"""Two mounts on two cache directories write the same names at random.

usage: two_mounts.py write MNT HOST SECONDS NAMES SEED LOG
       two_mounts.py check STORE_LOG LOG_A MNT_A LOG_B MNT_B

write: makes, replaces (in place, or by rename) and reads f0 to fN.  Each
version has bytes of its own, but one in eight, which both hosts write alike.
LOG gets each one that was acknowledged: name, hash, when it began and ended.

check: STORE_LOG is blobd's.  By it
  T1  the last version that a host was acknowledged under a name is what the
      name shows, or in a conflict copy, or was there and replaced;
  T2  nobody replaced another's bytes with some written before those were;
  T3  no conflict copy holds the only bytes that its name had since then;
  T4  both mounts and the store agree.
"""
import collections
import errno
import hashlib
import json
import os
import random
import sys
import time

ALIKE = 8
LEAST = 300  # versions of a host, however slow it is


def now_ns():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def version(rnd, host, nr):
    if rnd.randrange(ALIKE) == 0:
        return b"alike %d\n" % rnd.randrange(3)
    return b"%s %d %s\n" % (host.encode(), nr, b"x" * rnd.randrange(3000))


def read(path):
    with open(path, "rb") as f:
        return f.read()


def put(path, data):
    with open(path, "wb") as f:
        f.write(data)


def write(mnt, host, seconds, names, seed, log):
    rnd = random.Random("%s %s" % (seed, host))
    end = time.monotonic() + float(seconds)
    nr = 0
    with open(log, "w") as out:
        while time.monotonic() < end or nr < LEAST:
            name = "f%d" % rnd.randrange(int(names))
            path = os.path.join(mnt, name)
            what = rnd.randrange(8)
            if what == 0:
                try:
                    read(path)
                except OSError as e:
                    # The kernel looks again once; it may move once more.
                    if e.errno not in (errno.ENOENT, errno.ESTALE):
                        raise
                continue
            nr += 1
            data = version(rnd, host, nr)
            begun = now_ns()
            if what < 4:
                tmp = os.path.join(mnt, ".%s.%d" % (host, nr))
                put(tmp, data)
                os.rename(tmp, path)
            else:
                put(path, data)
            print(name, hashlib.sha256(data).hexdigest(), begun, now_ns(),
                  file=out)
    print("%s: %d versions" % (host, nr))


def tree(mnt):
    return {n: hashlib.sha256(read(os.path.join(mnt, n))).hexdigest()
            for n in os.listdir(mnt)}


class Host:
    def __init__(self, log, mnt):
        self.mnt = mnt
        self.last = {}
        self.begun = collections.defaultdict(list)
        self.ended = collections.defaultdict(list)
        with open(log) as f:
            for line in f:
                name, sha, begun, ended = line.split()
                self.last[name] = sha
                self.begun[name, sha].append(int(begun))
                self.ended[name, sha].append(int(ended))


def history(path):
    """What each name held, in order: (sha256 or None, when)."""
    held = collections.defaultdict(list)
    with open(path) as f:
        for line in f:
            e = json.loads(line)
            if e["name"].startswith(".forebay/"):
                continue
            if e["op"] == "delete":
                held[e["name"]].append((None, e["time"]))
            elif e.get("sha256"):
                held[e["name"]].append((e["sha256"], e["time"]))
    return held


def name_of(copy):
    return copy.split(".conflict-")[0]


def is_false(hosts, held, copy, sha, when):
    """Had the name other bytes at no time since that version was begun?"""
    name = name_of(copy)
    for begun in (t for h in hosts for t in h.begun[name, sha] if t < when):
        # What was there then may not have been known.
        before = [s for s, t in held[name] if t <= begun]
        since = [s for s, t in held[name] if begun < t < when]
        if set(before[-1:] + since) != {sha}:
            return False
    return True


def check(store_log, *args):
    hosts = [Host(args[i], args[i + 1]) for i in range(0, len(args), 2)]
    held = history(store_log)
    wrong = []
    copies = collections.defaultdict(set)
    for name, states in held.items():
        if ".conflict-" not in name:
            continue
        for sha, when in states:
            copies[name_of(name)].add(sha)
            if sha is not None and is_false(hosts, held, name, sha, when):
                wrong.append("T3: %s holds what its name had" % name)
    for i, host in enumerate(hosts):
        for name, sha in host.last.items():
            if sha not in copies[name] and \
                    sha not in [s for s, _ in held[name]]:
                wrong.append("T1: the last %s of host %d is nowhere" %
                             (name, i))
    replaced = 0
    for name, states in held.items():
        for (old, _), (new, _) in zip(states, states[1:]):
            if ".conflict-" in name or None in (old, new) or old == new:
                continue
            who = [h for h in hosts if h.begun[name, new]]
            if any(h.begun[name, old] for h in who):
                continue
            replaced += 1
            # The same bytes may have been there before, and known.
            known = min(t for sha, t in states if sha == old)
            if not any(max(h.ended[name, new]) >= known for h in who):
                wrong.append("T2: %s: one replaced what it could not know" %
                             name)
    shown = {n: s[-1][0] for n, s in held.items() if s[-1][0] is not None}
    for i, host in enumerate(hosts):
        here = tree(host.mnt)
        for name in sorted(set(here) | set(shown)):
            if here.get(name) != shown.get(name):
                wrong.append("T4: %s of host %d is not the store's" %
                             (name, i))
    print("%d names, %d conflict copies, %d replacements of the other's" %
          (len(shown), sum(".conflict-" in n for n in shown), replaced))
    if not replaced or not copies:
        wrong.append("nothing was tried")
    for line in wrong[:20]:
        print(line)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    {"write": write, "check": check}[sys.argv[1]](*sys.argv[2:])
