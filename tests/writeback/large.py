"""One large sparse file, changed in one place again and again: each time one
block goes over the wire (issue 4, must hold 4)."""
import os
import resource
import time

from wb import *  # noqa: F403

SIZE = int(os.environ["SIZE"])
PIECES = 16  # places with data
log = Log()
data = {}  # offset: bytes, over zeroes
blocks_nr = SIZE // BLOCK


def change(name="big", mnt=None):
    """Some bytes in the middle of a block with data."""
    at = (len(data) * 7 % PIECES) * (SIZE // PIECES) + 1000 + 64 * len(data)
    data[at] = os.urandom(32)
    write(name, data[at], at=at, mnt=mnt)


def one_block(name="big", mnt=None):
    log.mark()
    sent, got = bytes_in(), count("get")
    begin, cpu = time.monotonic(), cpu_seconds(mnt)
    change(name, mnt)
    flush(mnt)
    print("  %.2f s, %.2f s of processor time" % (
        time.monotonic() - begin, cpu_seconds(mnt) - cpu))
    eq("requests", log.ops(name), ["putblock", "commit"])
    true("bytes sent: %d" % (bytes_in() - sent),
         bytes_in() - sent < BLOCK + 100 * blocks_nr + MIB)
    return count("get") - got


def bytes_in():
    return json.loads(ctl("GET", "counts"))["bytes_in"]


def cpu_seconds(mnt=None):
    with open("/proc/%d/stat" % status("worker_pid", mnt)) as f:
        words = f.read().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def check(name="big", mnt=None):
    """Every changed place, and the zeroes around it."""
    with open(path(name, mnt), "rb") as f:
        for at, want in data.items():
            f.seek(at)
            eq("bytes at %d" % at, f.read(len(want)), want)
    answer, _ = store.ask("HEAD", name)
    eq("its size", int(answer.getheader("content-length")), SIZE)
    for at, want in data.items():
        _, got = store.ask("GET", name, headers={
            "Range": "bytes=%d-%d" % (at, at + len(want) - 1)})
        eq("the blob's bytes at %d" % at, got, want)


@claim("6.1 a new one: its blocks with data, and one of zeroes")
def _():
    log.mark()
    with open(path("big"), "wb") as f:
        for i in range(PIECES):
            at = i * (SIZE // PIECES)
            data[at] = os.urandom(100)
            f.seek(at)
            f.write(data[at])
        f.truncate(SIZE)
    begin = time.monotonic()
    flush()
    print("  %d MiB in %.2f s" % (SIZE // MIB, time.monotonic() - begin))
    eq("blocks staged", len(log.all("big", "putblock")), PIECES + 1)
    eq("the list's length", len(blocks("big")), blocks_nr)
    check()


@claim("6.2 changed in one place: one block")
def _():
    eq("bytes fetched", one_block(), 0)
    check()


@claim("6.3 also after a remount")
def _():
    umount(MNT)
    mount(MNT, CACHE, os.environ["OPTIONS"])
    eq("bytes fetched", one_block(), 0)
    check()


@claim("6.4 also after a crash")
def _():
    crash()
    eq("bytes fetched", one_block(), 0)


@claim("6.5 also after another host's chmod: the ETag moved, the bytes did not")
def _():
    other = os.environ["MNT2"]
    mount(other, CACHE + ".2")
    etag = head("big")["etag"]
    os.chmod(path("big", other), 0o640)
    flush(other)
    true("another ETag", head("big")["etag"] != etag)
    wait("it is seen", lambda: os.stat(path("big")).st_mode & 0o777 == 0o640)
    eq("bytes fetched", one_block(), 0)
    etag = head("big")["etag"]
    os.chmod(path("big", other), 0o600)
    flush(other)
    true("another ETag", head("big")["etag"] != etag)
    # Not seen yet, this time.
    eq("bytes fetched", one_block(), 0)
    eq("conflicts", conflicts(), 0)
    umount(other)
    check()


@claim("6.6 also when another tool changed its metadata, and dropped our key")
def _():
    set_meta("big", note="theirs")
    eq("bytes fetched", one_block(), 0)
    set_meta("big", note="theirs", other="too")
    time.sleep(1.1)  # freshness: it is seen in a listing
    os.listdir(MNT)
    eq("bytes fetched", one_block(), 0)
    eq("their note", head("big")["x-ms-meta-other"], "too")
    eq("conflicts", conflicts(), 0)


@claim("6.7 also when its blob was copied on the server by another tool; what "
       "is fetched stays sparse")
def _():
    copy("big", "copied")
    wait("it is shown", lambda: os.path.exists(path("copied")))
    one_block("copied")
    check("copied")
    allocated = sum(os.stat(os.path.join(d, f)).st_blocks * 512
                    for d, _, files in os.walk(CACHE + "/data") for f in files)
    true("%d bytes on the disk" % allocated, allocated < SIZE // 4)


@claim("6.8 a rename of it moves no bytes at all")
def _():
    sent, got = bytes_in(), count("get")
    os.rename(path("copied"), path("renamed"))
    flush()
    eq("bytes fetched", count("get"), got)
    true("bytes sent", bytes_in() - sent < 100 * blocks_nr + MIB)
    check("renamed")


@claim("6.9 a foreign blob with other blocks: whole, once, right; then it is "
       "like any")
def _():
    size = min(SIZE, 1 << 30) // 4
    piece = os.urandom(4 * MIB)
    put_blocks("foreign", [piece] * (size // len(piece)))
    wait("it is shown", lambda: os.path.exists(path("foreign")))
    log.mark()
    write("foreign", b"ours", at=0)
    flush()
    eq("commits", len(log.all("foreign", "commit")), 1)
    eq("blocks staged", len(log.all("foreign", "putblock")), 2)  # all equal
    got = get("foreign")
    true("the bytes", got == b"ours" + (piece * (size // len(piece)))[4:])
    log.mark()
    write("foreign", b"more", at=5)
    flush()
    eq("requests", log.ops("foreign"), ["putblock", "commit"])


run()
print("peak memory of this driver: %d MiB" % (
    resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024))
