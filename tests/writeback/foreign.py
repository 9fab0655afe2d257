"""What other tools wrote beside the bytes stays, whatever we do to the blob:
content type, encoding, language, disposition, cache control, custom metadata,
tags, an explicit tier.  On every store that knows them."""
import os
import urllib.parse

from wb import *  # noqa: F403

HEADERS = {
    "content-type": "text/csv; charset=utf-8",
    "content-encoding": "identity",
    "content-language": "de-DE",
    "content-disposition": 'attachment; filename="x.csv"',
    "cache-control": "max-age=60, private",
}
META = {"team": "vision", "Empty_like": "0"}
TAGS = {"project": "alpha beta", "stage": "a/b+c=d", "plain": ""}
LARGE = BLOCK + MIB


def notes():
    h = {"x-ms-blob-" + k: v for k, v in HEADERS.items()}
    h.update({"x-ms-meta-" + k: v for k, v in META.items()})
    h["x-ms-access-tier"] = "Cool"
    h["x-ms-tags"] = urllib.parse.urlencode(TAGS, quote_via=urllib.parse.quote)
    return h


def make(name, data):
    """By another tool: in one request, or in blocks of its own."""
    if len(data) <= BLOCK:
        put(name, data, **notes())
    else:
        put_blocks(name, [data[:5 * MIB], data[5 * MIB:]], **notes())
    wait("%s is shown" % name, lambda: os.path.exists(path(name)))


def tags_of(name):
    _, data = store.ask("GET", name, {"comp": "tags"})
    xml = azure_rest.ET.fromstring(data.decode("utf-8-sig"))
    return {t.findtext("Key"): t.findtext("Value") or ""
            for t in xml.iter("Tag")}


def keeps(name, data, tags=None):
    flush()
    h = head(name)
    true("no blob " + name, h)
    for k, v in HEADERS.items():
        eq("%s of %s" % (k, name), h.get(k), v)
    for k, v in META.items():
        eq("metadata %s of %s" % (k, name), h.get("x-ms-meta-" + k.lower()), v)
    eq("tier of " + name, h.get("x-ms-access-tier"), "Cool")
    true("the tier is explicit", h.get("x-ms-access-tier-inferred") != "true")
    eq("tags of " + name, tags_of(name), TAGS if tags is None else tags)
    eq("bytes of " + name, get(name), data)


def both(f):
    """Small, and in blocks."""
    for kind, size in (("s", 5000), ("l", LARGE)):
        f(kind, os.urandom(size))


@claim("5.1 our overwrite")
def _():
    def one(kind, data):
        make("over" + kind, data)
        new = os.urandom(len(data))
        write("over" + kind, new)
        keeps("over" + kind, new)
        write("over" + kind, b"again", at=10)  # on what is ours by now
        keeps("over" + kind, new[:10] + b"again" + new[15:])
    both(one)


@claim("5.2 append; a small one that grows into blocks; a large one cut small")
def _():
    def one(kind, data):
        name = "append" + kind
        make(name, data)
        with open(path(name), "ab") as f:
            f.write(b"more")
        keeps(name, data + b"more")
    both(one)
    make("grows", b"small")
    with open(path("grows"), "ab") as f:
        f.write(bytes(LARGE))
    keeps("grows", b"small" + bytes(LARGE))
    with open(path("grows"), "r+b") as f:
        f.truncate(3)
    keeps("grows", b"sma")


@claim("5.3 chmod, chown, touch")
def _():
    def one(kind, data):
        name = "attr" + kind
        make(name, data)
        os.chmod(path(name), 0o600)
        os.chown(path(name), 7, 8)
        os.utime(path(name), (1, 1))
        keeps(name, data)
        eq("our mode", head(name)["x-ms-meta-permissions"], str(0o100600))
    both(one)


@claim("5.4 rename, of what is here and of what is not")
def _():
    def one(kind, data):
        for where in ("far", "here"):
            name = where + kind
            make(name, data)
            evict(name)
            if where == "here":
                read(name)
            os.rename(path(name), path(name + "2"))
            keeps(name + "2", data)
            eq("the source", head(name), None)
    both(one)


@claim("5.5 rename of a directory")
def _():
    data = os.urandom(4000)
    make("dir/sub/file", data)
    os.rename(path("dir"), path("dir2"))
    keeps("dir2/sub/file", data)


@claim("5.6 another file renamed over it (as editors save)")
def _():
    def one(kind, data):
        for sent in ("", "sent"):
            name = "saved" + kind + sent
            make(name, data)
            new = os.urandom(len(data))
            write(name + ".tmp", new)
            if sent:
                flush()
            os.rename(path(name + ".tmp"), path(name))
            keeps(name, new)
    both(one)


@claim("5.7 rename, then change; change, then rename")
def _():
    data = os.urandom(5000)
    make("order1", data)
    os.rename(path("order1"), path("order1b"))
    flush()
    write("order1b", b"x", at=0)
    keeps("order1b", b"x" + data[1:])
    make("order2", data)
    write("order2", b"x", at=0)
    flush()
    os.rename(path("order2"), path("order2b"))
    keeps("order2b", b"x" + data[1:])


@claim("5.8 tags set after we saw the blob: setting them moves no ETag")
def _():
    data = os.urandom(5000)
    make("later", data)
    eq("its bytes", read("later"), data)
    xml = ("<?xml version='1.0'?><Tags><TagSet><Tag><Key>new</Key>"
           "<Value>v</Value></Tag></TagSet></Tags>").encode()
    store.ask("PUT", "later", {"comp": "tags"}, body=xml, ok=(200, 204))
    write("later", b"x", at=0)
    keeps("later", b"x" + data[1:], {"new": "v"})


@claim("5.9 a second host's change keeps them, too, and what it adds itself")
def _():
    data = os.urandom(5000)
    make("hosts", data)
    write("hosts", b"one", at=0)
    flush()
    other = os.environ["MNT2"]
    mount(other, CACHE + ".2")
    write("hosts", b"two", at=3, mnt=other)
    flush(other)
    umount(other)
    keeps("hosts", b"onetwo" + data[6:])


@claim("5.10 rename and change before anything was sent")
def _():
    data = os.urandom(5000)
    make("atonce", data)
    read("atonce")
    os.rename(path("atonce"), path("atonce2"))
    write("atonce2", b"x", at=0)
    keeps("atonce2", b"x" + data[1:])


run()
