"""WRITEBACK.md section 3, line by line, on blobd."""
import os
import time

from wb import *  # noqa: F403

LARGE = BLOCK + MIB  # two blocks
log = Log()


def lost(op, name, change):
    """The change's request is applied, its answer lost."""
    before = conflicts()
    log.mark()
    fault("reset-after", op=op, name=name, count=1)
    change()
    flush()
    eq("%s: conflicts" % name, conflicts(), before)


def asleep(op, name, change, meanwhile):
    """Applied, not answered: the answer is lost while HEAD is held, and
    meanwhile somebody else is there."""
    fault("reset-after", op=op, name=name, count=1)
    hook(op="head", name=name, count=1)
    log.mark()
    change()
    is_held()
    meanwhile()
    release()
    flush()


# ---- R0 ----

@claim("3.1 R0: a lost answer to Put Blob is ours by its commit")
def _():
    lost("put", "a", lambda: write("a", b"one"))
    eq("requests", log.ops("a"), ["put"])
    lost("put", "a", lambda: write("a", b"two"))
    eq("requests", log.ops("a"), ["put"])
    write("a", b"three")
    flush()
    eq("the blob", get("a"), b"three")


@claim("3.2 R0: to Put Block List, by its block list")
def _():
    data = os.urandom(LARGE)
    lost("commit", "large", lambda: write("large", data))
    eq("commits", log.ops("large").count("commit"), 1)
    eq("blocks staged", log.ops("large").count("putblock"), 2)
    eq("the blob", get("large"), data)


@claim("3.3 R0: to Set Metadata and to a copy")
def _():
    lost("setmeta", "a", lambda: os.chmod(path("a"), 0o600))
    eq("requests", log.ops("a"), ["setmeta"])
    write("far", b"f" * 2 * MIB)
    flush()
    lost("copy", "far2", lambda: os.rename(path("far"), path("far2")))
    eq("requests", log.ops("far2"), ["copy"])
    eq("the source", head("far"), None)
    eq("the blob", get("far2"), b"f" * 2 * MIB)


@claim("3.4 R0: of a copy of what has neither MD5 nor blocks of ours")
def _():
    put_blocks("theirs", [b"1" * 900, b"2" * 900])
    wait("it is shown", lambda: os.path.exists(path("theirs")))
    lost("copy", "theirs2", lambda: os.rename(path("theirs"), path("theirs2")))
    eq("requests", log.ops("theirs2"), ["copy"])
    eq("the blob", get("theirs2"), b"1" * 900 + b"2" * 900)


@claim("3.5 R0: our key is gone, the MD5 is ours: it landed")
def _():
    asleep("put", "md5", lambda: write("md5", b"bytes"),
           lambda: set_meta("md5", note="theirs"))
    eq("requests", log.ops("md5")[0], "put")
    eq("puts", log.ops("md5").count("put"), 1)
    eq("conflicts", conflicts(), 0)
    eq("their note", head("md5")["x-ms-meta-note"], "theirs")


@claim("3.6 R0: our key is gone, the block list is ours: it landed")
def _():
    data = os.urandom(LARGE)
    asleep("commit", "list", lambda: write("list", data),
           lambda: set_meta("list", note="theirs"))
    eq("commits", log.ops("list").count("commit"), 1)
    eq("conflicts", conflicts(), 0)
    eq("their note", head("list")["x-ms-meta-note"], "theirs")
    eq("the file", read("list"), data)


@claim("3.7 R0: our key on other bytes proves nothing")
def _():
    before = conflicts()

    def keep_the_key():
        meta = {k[10:]: v for k, v in head("kept").items()
                if k.startswith("x-ms-meta-")}
        put_blocks("kept", [b"x" * BLOCK, b"y" * MIB],
                   **{"meta_" + k: v for k, v in meta.items()})

    asleep("commit", "kept", lambda: write("kept", os.urandom(LARGE)),
           keep_the_key)
    eq("conflicts", conflicts(), before + 1)
    eq("the name", read("kept"), b"x" * BLOCK + b"y" * MIB)


@claim("3.8 R0: our commit is among the parents: landed and superseded")
def _():
    before = conflicts()
    other = os.environ["MNT2"]

    def meanwhile():
        mount(other, CACHE + ".2")
        eq("there", read("parent", other), b"ours")
        write("parent", b"on top", mnt=other)
        flush(other)

    asleep("put", "parent", lambda: write("parent", b"ours"), meanwhile)
    umount(other)
    eq("conflicts", conflicts(), before)
    wait("it is shown", lambda: read("parent") == b"on top")


@claim("3.9 R0: what did not land is sent again, as a request of its own")
def _():
    log.mark()
    fault("reset", op="put", name="again", count=2)
    write("again", b"again")
    flush()
    eq("requests", log.ops("again"), ["put"])
    eq("the blob", get("again"), b"again")


@claim("3.10 R0: a lost DELETE: 404 is done; the same ETag: again")
def _():
    lost("delete", "again", lambda: os.unlink(path("again")))
    eq("requests", log.ops("again"), ["delete"])
    write("again", b"x")
    flush()
    log.mark()
    fault("reset", op="delete", name="again", count=1)
    os.unlink(path("again"))
    flush()
    eq("requests", log.ops("again"), ["delete"])
    eq("the blob", head("again"), None)


@claim("3.11 R0: DELETE: 412, then HEAD 404, is done; another ETag stays")
def _():
    for name, meanwhile in (("gone", lambda: delete("gone")),
                            ("stays", lambda: put("stays", b"theirs"))):
        write(name, b"x")
        flush()
        hook(op="delete", name=name, count=1)
        os.unlink(path(name))
        is_held()
        meanwhile()
        release()
        flush()
    eq("gone", head("gone"), None)
    eq("stays", get("stays"), b"theirs")
    wait("it is shown", lambda: os.path.exists(path("stays")))
    eq("its bytes", read("stays"), b"theirs")


@claim("3.12 R0: the daemon dies between the request and its answer")
def _():
    data = os.urandom(LARGE)
    before = conflicts()
    log.mark()
    hook(op="put", name="crash", count=1, at="after")
    hook(op="commit", name="crash-large", count=1, at="after")
    write("crash", b"crash")
    write("crash-large", data)
    is_held(1)
    crash()
    release()
    flush()
    eq("puts", log.ops("crash").count("put"), 1)
    eq("commits", log.ops("crash-large").count("commit"), 1)
    eq("conflicts", conflicts(), before)
    eq("the blob", get("crash-large"), data)


# ---- R1 ----

def foreign(*names):
    """Files of which nothing is here; their bytes by name."""
    data = {n: os.urandom(2 * MIB) for n in names}
    for n in names:
        put(n, data[n])
    for n in names:
        wait("%s is shown" % n, lambda n=n: os.path.exists(path(n)))
        evict(n)
    return data


@claim("3.13 R1: two names swapped, whose bytes are only in the store")
def _():
    data = foreign("swap1", "swap2")
    exchange("swap1", "swap2")
    flush()
    for a, b in (("swap1", "swap2"), ("swap2", "swap1")):
        eq("the blob " + a, get(a), data[b])
        eq("the file " + a, read(a), data[b])


@claim("3.14 R1: a cycle of three")
def _():
    data = foreign("c1", "c2", "c3")
    os.rename(path("c1"), path("tmp"))
    os.rename(path("c2"), path("c1"))
    os.rename(path("c3"), path("c2"))
    os.rename(path("tmp"), path("c3"))
    flush()
    for a, b in (("c1", "c2"), ("c2", "c3"), ("c3", "c1")):
        eq("the blob " + a, get(a), data[b])
        eq("the file " + a, read(a), data[b])
    eq("the one between", head("tmp"), None)


@claim("3.15 R1: unlinked and open, or replaced and open: read to the end")
def _():
    data = {n: os.urandom(LARGE + MIB) for n in ("open1", "open2")}
    for n in data:
        put(n, data[n])
    for n in data:
        wait("%s is shown" % n, lambda n=n: os.path.exists(path(n)))
    first, second = open(path("open1"), "rb"), open(path("open2"), "rb")
    with first, second:
        begun = {"open1": first.read(10), "open2": second.read(10)}
        os.unlink(path("open1"))
        write("new", b"new")
        os.rename(path("new"), path("open2"))
        flush()
        eq("the unlinked blob", head("open1"), None)
        eq("the replaced blob", get("open2"), b"new")
        eq("unlinked", begun["open1"] + first.read(), data["open1"])
        eq("replaced", begun["open2"] + second.read(), data["open2"])


# ---- R2 to R4 ----

@claim("3.16 R2: uploaded if it is here, else copied; both conditional")
def _():
    foreign("elsewhere")
    write("here", b"here")
    flush()
    gets = count("get")
    log.mark()
    os.rename(path("elsewhere"), path("copied"))
    write("here", b"changed")
    flush()
    eq("bytes fetched", count("get"), gets)
    made = log.all("copied")[0]
    eq("a new name", (made["op"], made["if_none_match"]), ("copy", "*"))
    changed = log.all("here")[0]
    eq("an old name", (changed["op"], changed["if_match"].strip('"')),
       ("put", changed["etag_before"].strip('"')))


@claim("3.17 R3: nobody wants it: DELETE with If-Match")
def _():
    log.mark()
    os.unlink(path("copied"))
    flush()
    gone = log.all("copied")[0]
    eq("it", (gone["op"], gone["if_match"].strip('"')),
       ("delete", gone["etag_before"].strip('"')))


@claim("3.18 R4: attributes: Set Metadata with If-Match, no bytes")
def _():
    log.mark()
    os.chmod(path("here"), 0o640)
    flush()
    done = log.all("here")[0]
    eq("it", (done["op"], done["if_match"].strip('"')),
       ("setmeta", done["etag_before"].strip('"')))


@claim("3.19 one visible request under a name at a time, each on the last")
def _():
    log.mark()
    ctl("POST", "latency", ms=20)
    for i in range(12):
        write("busy", b"%d" % i)
        time.sleep(0.03)
    ctl("POST", "latency", ms=0)
    flush()
    records = log.all("busy")
    for a, b in zip(records, records[1:]):
        eq("a condition", b["if_match"].strip('"'), a["etag"].strip('"'))
    eq("the blob", get("busy"), b"11")


# ---- what may yet come ----

def never_came(name, op, change):
    """The change's request is lost, and waits at the store."""
    hook(op=op, name=name, count=1)
    change()
    is_held()


@claim("3.20 a late create of an unwanted name is deleted: a listing shows it")
def _():
    never_came("late1", "put", lambda: write("late1", b"late"))
    os.unlink(path("late1"))
    wait("it is given up", lambda: status("pending") == 0)
    release()
    wait("it comes", lambda: head("late1") is not None or
         log.ops("late1").count("delete"))
    wait("it is deleted", lambda: not os.listdir(path("")) is None and
         head("late1") is None)
    eq("shown", os.path.exists(path("late1")), False)


@claim("3.21 ... of blocks, too; and nobody lists: looked after before its row "
       "goes")
def _():
    log.mark()
    never_came("late2", "commit", lambda: write("late2", os.urandom(LARGE)))
    os.unlink(path("late2"))
    wait("it is given up", lambda: status("pending") == 0)
    release()
    wait("it is deleted",
         lambda: log.ops("late2")[-2:] == ["commit", "delete"])


@claim("3.22 a name whose ETag a lost request asked for is not in step")
def _():
    write("now", b"now" * MIB)
    write("then", b"then" * MIB)
    flush()
    log.mark()
    hook(op="copy", name="now", count=1)
    never_came("now", "put", lambda: exchange("now", "then"))
    exchange("now", "then")  # as it was
    flush()
    ops = log.ops("now")
    true("its ETag is another one", ops)
    release()
    wait("it was answered", lambda: held() == 0)
    write("after", b"after")
    flush()
    eq("what came late", log.ops("now"), ops)
    eq("the blob", get("now"), b"now" * MIB)
    eq("the file", read("now"), b"now" * MIB)
    eq("the other", get("then"), b"then" * MIB)


@claim("3.23 every mutation was conditional")
def _():
    log.seq = 1
    for r in log.all():
        if r["op"] in ("put", "commit", "copy", "setmeta", "delete") and \
                r["name"] != "kept" and "forebay" in r.get("metadata", {}):
            true("unconditional: %r" % r,
                 r["if_match"] or r["if_none_match"])


run()
