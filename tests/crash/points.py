#!/usr/bin/env python3
"""Arms kill_at.c at one point after the other: points.py FILE MNT FOREBAY NR

Each point NR times, at another passage each time; now and then the next worker
is killed while it takes over.  Waits for each death.  Five that did not live
for a second in a row would be the end of the mount, so after three a worker
rests.  Prints how many there were of each; exit status 1 if a point was not
met.
"""
import json
import mmap
import random
import struct
import subprocess
import sys
import time

POINTS = ["before-reply", "after-reply", "before-wal", "after-wal",
          "after-id-open", "before-id-close", "after-id-close",
          "after-truncate", "after-resend", "before-unlink"]
RESEND = POINTS.index("after-resend") + 1
REST = 2  # seconds: the keeper wants one, and hears late on a busy machine


def restarts(mnt, forebay):
    """None: nobody answers."""
    out = subprocess.run([forebay, "status", mnt, "--json"], check=False,
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    try:
        return json.loads(out)["worker_restarts"]
    except (ValueError, KeyError):
        return None


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def main():
    path, mnt, forebay, nr = sys.argv[1:5]
    rng = random.Random(path)
    with open(path, "r+b") as f:
        order = mmap.mmap(f.fileno(), 8)
    met = dict.fromkeys(POINTS, 0)
    deaths = 0  # since the last rest, at most
    for _ in range(int(nr)):
        for number, name in enumerate(POINTS, 1):
            if number == RESEND:
                continue
            if deaths >= 3:
                wait_for(lambda: restarts(mnt, forebay) is not None, 10)
                time.sleep(REST)
                deaths = 0
            before = restarts(mnt, forebay)
            if before is None:
                continue
            order[4:8] = struct.pack("<i", rng.randrange(1, 30))
            order[0:4] = struct.pack("<i", number)
            deaths += 1
            if not wait_for(lambda: struct.unpack("<i", order[0:4])[0] == 0, 30):
                order[0:4] = struct.pack("<i", 0)
                continue
            met[name] += 1
            if rng.randrange(2) or met["after-resend"] == 0:
                deaths += 1
                order[4:8] = struct.pack("<i", 1)
                order[0:4] = struct.pack("<i", RESEND)
                # It may be past that already.
                if wait_for(lambda: struct.unpack("<i", order[0:4])[0] == 0, 1):
                    met["after-resend"] += 1
                order[0:4] = struct.pack("<i", 0)
            if not wait_for(lambda: (restarts(mnt, forebay) or 0) > before, 30):
                print("nobody answers after", name)
                return 1
    print(json.dumps(met))
    return 0 if all(met.values()) else 1


sys.exit(main())
