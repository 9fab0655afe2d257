"""WRITEBACK.md section 4, line by line, on blobd: blocks, delta, strays,
reading for upload, staging, server-side copies."""
import mmap
import os
import time

from wb import *  # noqa: F403

log = Log()
LARGE = 2 * BLOCK + MIB


def staged(name):
    """Put Blocks under the name."""
    return log.nr(name, "putblock")


def commits(name):
    return log.nr(name, "commit")


def ids_of(data):
    return [(block_id(data[i:i + BLOCK]), len(data[i:i + BLOCK]))
            for i in range(0, len(data), BLOCK)]


def sparse(name, size, pieces):
    """A file with a few bytes here and there."""
    with open(path(name), "wb") as f:
        for at, data in pieces:
            f.seek(at)
            f.write(data)
        f.truncate(size)


def patched(data, at, new):
    return data[:at] + new + data[at + len(new):]


files = {}


@claim("4.1 a block's id is fb01 and its SHA-256, 48 characters")
def _():
    files["a"] = os.urandom(LARGE)
    log.mark()
    write("a", files["a"])
    flush()
    eq("the list", blocks("a"), ids_of(files["a"]))
    eq("the length", {len(i) for i, _ in blocks("a")}, {48})
    eq("blocks staged", staged("a"), 3)


@claim("4.2 up to one block: one Put Blob")
def _():
    log.mark()
    write("one", os.urandom(BLOCK))
    write("small", b"small")
    flush()
    eq("requests", log.ops("one") + log.ops("small"), ["put", "put"])


@claim("4.3 repeats and zeroes travel once")
def _():
    log.mark()
    block = os.urandom(BLOCK)
    data = block * 3 + bytes(BLOCK) * 2 + block
    write("repeats", data)
    flush()
    eq("blocks staged", staged("repeats"), 2)
    eq("the blob", get("repeats"), data)


@claim("4.4 holes: one zero block, however many there are")
def _():
    log.mark()
    sparse("holes", 1000 * BLOCK + 5, [(500 * BLOCK + 7, b"data")])
    begin = time.monotonic()
    flush()
    took = time.monotonic() - begin
    eq("blocks staged", staged("holes"), 3)
    eq("the list's length", len(blocks("holes")), 1001)
    print("  8 GB of holes in %.2f s" % took)
    write("holes", b"more", at=3 * BLOCK)
    log.mark()
    flush()
    eq("blocks staged", staged("holes"), 1)


@claim("4.5 delta: only what changed is staged, the rest is named")
def _():
    log.mark()
    files["a"] = patched(files["a"], BLOCK + 5, b"changed")
    write("a", b"changed", at=BLOCK + 5)
    flush()
    eq("blocks staged", staged("a"), 1)
    eq("the list", blocks("a"), ids_of(files["a"]))
    eq("the blob", get("a"), files["a"])


@claim("4.6 growing a file never changes earlier blocks")
def _():
    log.mark()
    more = os.urandom(BLOCK)
    files["a"] += more
    with open(path("a"), "ab") as f:
        f.write(more)
    flush()
    eq("blocks staged", staged("a"), 2)
    eq("the blob", get("a"), files["a"])


@claim("4.7 shrinking one keeps them")
def _():
    log.mark()
    files["a"] = files["a"][:2 * BLOCK]
    os.truncate(path("a"), 2 * BLOCK)
    flush()
    eq("blocks staged", staged("a"), 0)
    eq("the blob", get("a"), files["a"])


@claim("4.8 no delta against a list that is not that of the ETag: theirs is "
       "met before anything is staged")
def _():
    write("moved", os.urandom(LARGE))
    flush()
    before = conflicts()
    theirs = [os.urandom(BLOCK), os.urandom(BLOCK), os.urandom(MIB)]
    log.mark()
    with open(path("moved"), "r+b") as f:
        f.write(b"mine")
        put_blocks("moved", theirs)
    flush()
    eq("conflicts", conflicts(), before + 1)
    eq("staged there", staged("moved"), 3)  # theirs
    eq("the name", read("moved"), b"".join(theirs))
    copies = [n for n in os.listdir(MNT) if n.startswith("moved.conflict")]
    eq("copies", len(copies), 1)
    eq("the copy", get(copies[0])[:4], b"mine")


@claim("4.9 ... nor when others changed only what is beside the bytes: the "
       "same blocks, no conflict")
def _():
    data = os.urandom(LARGE)
    write("beside", data)
    flush()
    before = conflicts()
    log.mark()
    with open(path("beside"), "r+b") as f:
        f.write(b"mine")
        set_meta("beside", note="theirs")
    flush()
    eq("blocks staged", staged("beside"), 1)
    eq("conflicts", conflicts(), before)
    eq("the blob", get("beside"), b"mine" + data[4:])
    eq("their note", head("beside")["x-ms-meta-note"], "theirs")


@claim("4.10 the same large file, written by somebody else: theirs is ours")
def _():
    write("both", b"before")
    flush()
    before = conflicts()
    data = os.urandom(LARGE)
    log.mark()
    with open(path("both"), "r+b") as f:
        f.write(data)
        put_blocks("both", [data[i:i + BLOCK]
                            for i in range(0, len(data), BLOCK)],
                   [i for i, _ in ids_of(data)])
    flush()
    eq("conflicts", conflicts(), before)
    eq("commits", commits("both"), 1)


@claim("4.11 a foreign blob with other blocks: whole, once")
def _():
    data = os.urandom(LARGE)
    put_blocks("foreign", [data[:5 * MIB], data[5 * MIB:]])
    wait("it is shown", lambda: os.path.exists(path("foreign")))
    log.mark()
    write("foreign", b"ours", at=0)
    flush()
    eq("requests", log.ops("foreign"), ["putblock"] * 3 + ["commit"])
    eq("the blob", get("foreign"), b"ours" + data[4:])


@claim("4.12 strays of another length: the list is committed again as it is")
def _():
    write("stray", os.urandom(LARGE))
    flush()
    h = head("stray")
    store.ask("PUT", "stray", {"comp": "properties"},
              {"x-ms-blob-content-type": "text/plain",
               "x-ms-blob-cache-control": "no-cache"})
    set_meta("stray", note="theirs")
    wait("it is seen", lambda: os.stat(path("stray")) and
         status("pending") == 0)
    true("another ETag", head("stray")["etag"] != h["etag"])
    stage("stray", base64.b64encode(b"short").decode(), b"x")
    log.mark()
    data = bytearray(read("stray"))
    data[:4] = b"ours"
    write("stray", b"ours", at=0)
    flush()
    eq("commits", commits("stray"), 2)
    eq("blocks staged", staged("stray"), 1)
    eq("the blob", get("stray"), bytes(data))
    h = head("stray")
    eq("what it carried", (h["content-type"], h["cache-control"],
                           h["x-ms-meta-note"]),
       ("text/plain", "no-cache", "theirs"))


@claim("4.13 ... under a name without a blob, or with blocks of others: one "
       "Put Blob")
def _():
    data = os.urandom(LARGE)
    names = ["stray2", "stray3"]
    if BLOBD_PORT is None:
        del names[0]  # Azurite calls a name that is only staged taken
    else:
        stage("stray2", base64.b64encode(b"short").decode(), b"x")
    put_blocks("stray3", [b"theirs" * MIB, b"more"])
    stage("stray3", base64.b64encode(b"short").decode(), b"x")
    wait("it is shown", lambda: os.path.exists(path("stray3")))
    log.mark()
    for name in names:
        write(name, data)
    flush()
    for name in names:
        eq("the requests of " + name, log.ops(name), ["put"])
        eq("the blob " + name, get(name), data)


@claim("4.14 InvalidBlockList: staged again")
def _():
    data = os.urandom(LARGE)
    log.mark()
    fault("400:InvalidBlockList", op="commit", name="expired", count=1)
    write("expired", data)
    flush()
    eq("blocks staged", staged("expired"), 6)
    eq("the blob", get("expired"), data)


@claim("4.15 ... three times at most, then it is refused, and set aside")
def _():
    log.mark()
    fault("400:InvalidBlockList", op="commit", name="never", count=0)
    write("never", os.urandom(LARGE))
    wait("set aside", lambda: status("set_aside") == 1)
    faults_off()
    true("blocks staged: %d" % staged("never"), staged("never") >= 12)
    eq("the blob", head("never"), None)
    os.unlink(path("never"))
    flush()


@claim("4.16 ... and when the blob moved meanwhile: a lost race")
def _():
    write("expired", os.urandom(LARGE))
    before = conflicts()
    hook(op="commit", name="expired", count=1)
    is_held()
    put("expired", b"theirs")
    fault("400:InvalidBlockList", op="commit", name="expired", count=1)
    release()
    flush()
    faults_off()
    eq("conflicts", conflicts(), before + 1)
    eq("the name", read("expired"), b"theirs")


@claim("4.17 reading: what changes while it is read is read again, never torn")
def _():
    size = 6 * BLOCK
    hook(op="putblock", name="torn", count=1)
    log.mark()
    with open(path("torn"), "wb", buffering=0) as f:
        f.write(b"1" * size)
        f.close()
    is_held()
    with open(path("torn"), "r+b", buffering=0) as f:
        for at in range(0, size, BLOCK):
            f.seek(at)
            f.write(b"2")
        release()
    flush()
    want = bytearray(b"1" * size)
    for at in range(0, size, BLOCK):
        want[at:at + 1] = b"2"
    eq("the blob", get("torn"), bytes(want))
    old = bytes(b"1" * size)
    for r in log.all("torn", "commit"):
        true("a torn state: %r" % r["sha256"], r["sha256"] in (
            hashlib.sha256(old).hexdigest(),
            hashlib.sha256(want).hexdigest()))


@claim("4.18 a mapping outlives its descriptor: what it stores later is sent")
def _():
    size = BLOCK + MIB
    with open(path("mapped"), "w+b") as f:
        f.truncate(size)
        m = mmap.mmap(f.fileno(), size)
    m[:5] = b"first"
    eq("whole while it is mapped", read("mapped")[:5], b"first")
    m[BLOCK:BLOCK + 6] = b"second"
    m.close()
    want = b"first" + bytes(BLOCK - 5) + b"second" + bytes(MIB - 6)

    def sent():
        flush()
        return head("mapped") and get("mapped") == want
    wait("the last stores are in the store", sent)


@claim("4.19 stage_delay: a temporary name about to be renamed is not staged")
def _():
    log.mark()
    data = os.urandom(LARGE)
    write("final.tmp", data)
    os.rename(path("final.tmp"), path("final"))
    flush()
    eq("under the temporary name", log.ops("final.tmp"), [])
    eq("blocks staged", staged("final"), 3)


@claim("4.20 a copy up to 256 MiB: one Copy Blob under the source's ETag")
def _():
    evict("final")
    etag = head("final")["etag"]
    gets = count("get")
    log.mark()
    os.rename(path("final"), path("renamed"))
    flush()
    eq("requests", log.ops("renamed"), ["copy"])
    eq("bytes fetched", count("get"), gets)
    true("another ETag", head("renamed")["etag"] != etag)
    eq("the list is kept", len(blocks("renamed")), 3)


BIG = 33 * BLOCK  # beyond what one Copy Blob takes


@claim("4.21 beyond: Put Block From URL, each under the source's ETag, and one "
       "conditional Put Block List")
def _():
    sparse("big", BIG, [(0, b"head"), (9 * BLOCK, b"middle")])
    flush()
    evict("big")
    list_before, gets = blocks("big"), count("get")
    log.mark()
    os.rename(path("big"), path("big2"))
    flush()
    eq("requests", log.ops("big2"), ["putblock"] * 3 + ["commit"])
    eq("the condition", log.all("big2", "commit")[0]["if_none_match"], "*")
    eq("bytes fetched", count("get"), gets)
    eq("the same blocks", blocks("big2"), list_before)
    eq("the source", head("big"), None)


@claim("4.22 ... of a blob with blocks of others: named by what they are of")
def _():
    put_blocks("wild", [b"w" * (4 * MIB)] * 65)
    wait("it is shown", lambda: os.path.exists(path("wild")))
    gets = count("get")
    log.mark()
    os.rename(path("wild"), path("wild2"))
    flush()
    eq("requests", log.ops("wild2"), ["putblock"] * 33 + ["commit"])
    eq("bytes fetched", count("get"), gets)
    eq("its size", head("wild2")["content-length"], str(260 * MIB))
    if BLOBD_PORT is not None:
        true("ids", all(base64.b64decode(i).startswith(b"fb02")
                        for i, _ in blocks("wild2")))


@claim("4.23 ... whose source changes meanwhile: theirs is taken along")
def _():
    hook(op="putblock", name="big3", count=1)
    os.rename(path("big2"), path("big3"))
    is_held()
    put("big2", b"theirs")
    release()
    flush()
    eq("the blob", get("big3"), b"theirs")
    eq("the file", read("big3"), b"theirs")
    eq("the source", head("big2"), None)


@claim("4.24 ... and where the store does not know how: another way")
def _():
    sparse("other", BIG, [(5, b"bytes")])
    flush()
    log.mark()
    fault("501:APINotImplemented", op="putblock", name="other2", count=1)
    os.rename(path("other"), path("other2"))
    flush()
    eq("the size", head("other2")["content-length"], str(BIG))
    eq("the source", head("other"), None)


@claim("4.25 nothing was called a conflict that was none")
def _():
    names = {n.split(".conflict")[0] for n in os.listdir(MNT)
             if ".conflict" in n}
    eq("conflict copies", names - {"expired", "moved"}, set())


run()
