#!/usr/bin/env python3
"""What a file system answers, one line a question: posix.sh runs this on ext4
and on a mount and compares.

usage: posix.py DIR [SECTION...]
       posix.py --tree DIR

DIR is empty and gets a directory for each section.  Nothing that may differ
between two runs is printed: no times, inode numbers or sizes of directories.
--tree prints what a tree holds: kinds, rights, times, content.
"""
import ctypes
import errno
import fcntl
import hashlib
import mmap
import os
import stat
import sys
import time

libc = ctypes.CDLL(None, use_errno=True)
libc.lseek.restype = ctypes.c_int64
libc.opendir.restype = ctypes.c_void_p
libc.opendir.argtypes = [ctypes.c_char_p]
libc.readdir.restype = ctypes.c_void_p
libc.readdir.argtypes = [ctypes.c_void_p]
libc.telldir.restype = ctypes.c_long
libc.telldir.argtypes = [ctypes.c_void_p]
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
libc.rewinddir.argtypes = [ctypes.c_void_p]
libc.closedir.argtypes = [ctypes.c_void_p]

USER = GROUP = 12345
OTHER = 12346
TICK = 0.012  # longer than a coarse time stamp

section = ""


def say(name, value):
    print(f"{section}.{name}: {value}", flush=True)


def err(e):
    return errno.errorcode.get(e.errno, str(e.errno))


def ask(name, fn, *args):
    """Runs it and prints what came out: a value, "ok" or an errno."""
    try:
        v = fn(*args)
        say(name, "ok" if v is None else v)
    except OSError as e:
        say(name, err(e))
    except ValueError as e:
        say(name, f"ValueError {e}")


def as_user(uid, fn, *args, gid=GROUP, groups=()):
    """Runs it as another user; its value, or the errno as a string."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        out = "died"
        try:
            os.setgroups(list(groups))
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            v = fn(*args)
            out = "ok" if v is None else str(v)
        except OSError as e:
            out = err(e)
        finally:
            os.write(w, out.encode())
            os._exit(0)
    os.close(w)
    out = b""
    while True:
        b = os.read(r, 4096)
        if not b:
            break
        out += b
    os.close(r)
    os.waitpid(pid, 0)
    return out.decode()


def ask_as(name, uid, fn, *args, **kw):
    say(name, as_user(uid, fn, *args, **kw))


def put(path, data=b"x", mode=0o644):
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, mode)
    os.write(fd, data)
    os.close(fd)
    os.chmod(path, mode)


def get(path):
    with open(path, "rb") as f:
        return f.read()


def opener(path, flags, mode=0o644):
    os.close(os.open(path, flags, mode))


def kind(path):
    try:
        st = os.lstat(path)
    except OSError as e:
        return err(e)
    if stat.S_ISDIR(st.st_mode):
        return "dir" + str(sorted(os.listdir(path)))
    if stat.S_ISLNK(st.st_mode):
        return "link>" + os.readlink(path)
    return "file=" + get(path).decode()


def shape(path):
    st = os.lstat(path)
    return f"{stat.filemode(st.st_mode)} {st.st_uid}:{st.st_gid} n{st.st_nlink}"


def check(rc):
    if rc < 0:
        raise OSError(ctypes.get_errno(), "")
    return rc


def renameat2(a, b, flags):
    check(libc.renameat2(-100, os.fsencode(a), -100, os.fsencode(b), flags))


def fallocate(fd, mode, off, length):
    check(
        libc.fallocate(
            fd, mode, ctypes.c_int64(off), ctypes.c_int64(length)
        )
    )


def rm(path):
    try:
        if stat.S_ISDIR(os.lstat(path).st_mode):
            for n in os.listdir(path):
                rm(f"{path}/{n}")
            os.rmdir(path)
        else:
            os.unlink(path)
    except FileNotFoundError:
        pass


# ---- errno of every call on every kind of path ----


def s_errno():
    put("file")
    os.mkdir("dir")
    os.mkdir("full")
    put("full/in")
    os.symlink("loop2", "loop1")
    os.symlink("loop1", "loop2")
    os.symlink("nowhere", "dangling")
    os.symlink("file", "tofile")
    os.symlink("dir", "todir")
    paths = {
        "none": "none", "empty": "", "file/": "file/", "file/x": "file/x",
        "none/x": "none/x", "none/": "none/", "dir": "dir", "dir/": "dir/",
        "dir/.": "dir/.", "full/..": "full/..", "full": "full",
        "loop": "loop1", "loop/x": "loop1/x", "dangling": "dangling",
        "dangling/x": "dangling/x", "todir": "todir", "todir/": "todir/",
        "tofile": "tofile", "tofile/": "tofile/", "n255": "n" * 255,
        "n256": "n" * 256, "n256/x": "n" * 256 + "/x",
        "p4096": "./" * 2047 + "xx", "p4095": "./" * 2046 + "xxx",
        "root": ".",
    }
    calls = {
        "stat": os.stat, "lstat": os.lstat,
        "open_r": lambda p: opener(p, os.O_RDONLY),
        "open_w": lambda p: opener(p, os.O_WRONLY),
        "open_rw_trunc": lambda p: opener(p, os.O_RDWR | os.O_TRUNC),
        "open_dir": lambda p: opener(p, os.O_RDONLY | os.O_DIRECTORY),
        "open_nofollow": lambda p: opener(p, os.O_RDONLY | os.O_NOFOLLOW),
        "open_path": lambda p: opener(p, os.O_PATH),
        "listdir": lambda p: len(os.listdir(p)),
        "readlink": os.readlink,
        "chmod": lambda p: os.chmod(p, 0o755),
        "chown": lambda p: os.chown(p, 0, 0),
        "lchown": lambda p: os.lchown(p, 0, 0),
        "truncate": lambda p: os.truncate(p, 1),
        "utime": lambda p: os.utime(p),
        "access": lambda p: check(libc.access(os.fsencode(p), os.R_OK)),
        "statvfs": lambda p: os.statvfs(p).f_namemax,
    }
    for pn, p in paths.items():
        for cn, c in calls.items():
            try:
                v = c(p)
                v = "ok" if v is None or cn in ("stat", "lstat") else v
            except OSError as e:
                v = err(e)
            say(f"{cn}({pn})", v)
    # Calls that change something: undone after each.
    changes = {
        "mkdir": lambda p: os.mkdir(p),
        "rmdir": lambda p: os.rmdir(p),
        "unlink": lambda p: os.unlink(p),
        "creat": lambda p: opener(p, os.O_CREAT | os.O_WRONLY),
        "creat_excl": lambda p: opener(p, os.O_CREAT | os.O_EXCL | os.O_RDWR),
        "symlink": lambda p: os.symlink("t", p),
        "rename_from": lambda p: os.rename(p, "target"),
        "rename_to": lambda p: os.rename("source", p),
    }
    skip = {("rename_from", "root"), ("rename_to", "root")}
    for pn, p in paths.items():
        for cn, c in changes.items():
            if (cn, pn) in skip:
                continue
            os.mkdir("again")
            os.chdir("again")
            put("file")
            put("source")
            os.mkdir("dir")
            os.mkdir("full")
            put("full/in")
            os.symlink("loop2", "loop1")
            os.symlink("loop1", "loop2")
            os.symlink("nowhere", "dangling")
            os.symlink("file", "tofile")
            os.symlink("dir", "todir")
            ask(f"{cn}({pn})", c, p)
            say(f"{cn}({pn}).after",
                [n[:9] for n in sorted(os.listdir("."))])
            os.chdir("..")
            rm("again")
    # Descriptors used for what they are not.
    fd = os.open("file", os.O_RDONLY)
    ask("write_rdonly", os.write, fd, b"x")
    ask("ftruncate_rdonly", os.ftruncate, fd, 0)
    os.close(fd)
    fd = os.open("file", os.O_WRONLY)
    ask("read_wronly", os.read, fd, 1)
    ask("ftruncate_negative", os.ftruncate, fd, -1)
    ask("seek_negative", os.lseek, fd, -1, os.SEEK_SET)
    ask("seek_bad_whence", os.lseek, fd, 0, 99)
    ask("pwrite_negative", os.pwrite, fd, b"x", -1)
    os.close(fd)
    fd = os.open("dir", os.O_RDONLY)
    ask("read_dir", os.read, fd, 1)
    ask("fsync_dir", os.fsync, fd)
    ask("fchmod_dir", os.fchmod, fd, 0o750)
    ask("ftruncate_dir", os.ftruncate, fd, 0)
    os.close(fd)
    ask("truncate_negative", os.truncate, "file", -1)
    ask("chmod_none_as_user", lambda: as_user(USER, os.chmod, "file", 0o600))
    ask("exclusive_dangling", opener, "dangling",
        os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    ask("creat_dangling", opener, "dangling", os.O_CREAT | os.O_WRONLY)
    say("creat_dangling.made", kind("nowhere"))
    ask("creat_dir", opener, "dir", os.O_CREAT | os.O_RDONLY)
    ask("creat_and_directory", opener, "new", os.O_CREAT | os.O_DIRECTORY)


# ---- rename, every kind over every kind ----


def s_rename():
    def make(k, name):
        if k == "file":
            put(name, name.encode())
        elif k == "link":
            os.symlink("t-" + name, name)
        elif k in ("dir", "full"):
            os.mkdir(name)
            if k == "full":
                put(name + "/in-" + name)

    kinds = ["none", "file", "link", "dir", "full"]
    flags = {"plain": 0, "noreplace": 1, "exchange": 2, "both": 3, "bad": 8}
    for fname, flag in flags.items():
        for a in kinds:
            for b in kinds:
                make(a, "a")
                make(b, "b")
                ask(f"{fname}.{a}.{b}", renameat2, "a", "b", flag)
                say(f"{fname}.{a}.{b}.after", f"{kind('a')} | {kind('b')}")
                rm("a")
                rm("b")
    os.makedirs("d/e/f")
    put("x")
    for fname, flag in flags.items():
        ask(f"{fname}.into_child", renameat2, "d", "d/e/g", flag)
        ask(f"{fname}.into_self", renameat2, "d", "d/d", flag)
        ask(f"{fname}.over_parent", renameat2, "d/e/f", "d/e", flag)
        ask(f"{fname}.over_grandparent", renameat2, "d/e/f", "d", flag)
        ask(f"{fname}.same", renameat2, "x", "x", flag)
        ask(f"{fname}.same_dir", renameat2, "d", "d", flag)
        ask(f"{fname}.dot", renameat2, "d/.", "q", flag)
        ask(f"{fname}.dotdot", renameat2, "d/..", "q", flag)
        ask(f"{fname}.to_dot", renameat2, "x", "d/.", flag)
        ask(f"{fname}.slash", renameat2, "x", "y/", flag)
        rm("y")
        rm("q")
        rm("d")
        os.makedirs("d/e/f")
        put("x")
    # What is open follows the inode, not the name.
    put("o1", b"one")
    put("o2", b"two")
    fd1, fd2 = os.open("o1", os.O_RDWR), os.open("o2", os.O_RDWR)
    os.rename("o1", "o2")
    os.pwrite(fd1, b"ONE", 0)
    os.pwrite(fd2, b"TWO!", 0)
    say("open_follows", [kind("o2"), os.pread(fd2, 9, 0),
                         os.fstat(fd2).st_nlink, os.fstat(fd1).st_nlink])
    os.close(fd1)
    os.close(fd2)
    os.makedirs("od/sub")
    put("od/sub/f", b"inside")
    fd = os.open("od/sub/f", os.O_RDWR)
    os.rename("od", "od2")
    os.pwrite(fd, b"INSIDE", 0)
    os.close(fd)
    say("open_in_moved_dir", [kind("od2/sub/f"), kind("od/sub/f")])
    os.mkdir("deep")
    os.rename("od2/sub", "deep/sub")
    say("across_dirs", [kind("deep"), kind("od2"), kind("deep/sub/f"),
                        os.stat("deep").st_nlink, os.stat("od2").st_nlink])
    os.mkdir("deep2")
    put("deep2/f")
    ask("exchange_dirs", renameat2, "deep", "deep2", 2)
    say("exchange_dirs.after", [kind("deep"), kind("deep2"), kind("deep2/sub/f")])
    os.rename("deep2", "deep3")
    os.makedirs("way/down")
    os.rename("deep3", "way/down/deep3")
    say("dotdot_after", os.path.samefile("way/down/deep3/..", "way/down"))


# ---- who may ----


def s_perm():
    os.chmod(".", 0o755)
    os.mkdir("pub")
    os.chmod("pub", 0o777)
    os.mkdir("sticky")
    os.chmod("sticky", 0o1777)
    os.mkdir("shut")
    put("shut/f")
    os.chmod("shut", 0o700)
    os.mkdir("noexec")
    put("noexec/f")
    os.chmod("noexec", 0o644)
    os.mkdir("noread")
    put("noread/f")
    os.chmod("noread", 0o711)
    put("root600", b"secret", 0o600)
    put("root644", b"open", 0o644)
    put("mine", b"mine", 0o640)
    os.chown("mine", USER, GROUP)
    put("group", b"group", 0o060)
    os.chown("group", OTHER, GROUP)
    put("pub/rootfile", b"r", 0o644)
    put("sticky/rootfile", b"r", 0o666)
    put("sticky/mine", b"m", 0o644)
    os.chown("sticky/mine", USER, GROUP)
    u = USER
    for p in ("root600", "root644", "mine", "group", "shut/f", "noexec/f",
              "noread/f", "pub", "shut", "noexec", "noread"):
        for n, f in (("r", os.O_RDONLY), ("w", os.O_WRONLY),
                     ("rt", os.O_RDONLY | os.O_TRUNC)):
            if n == "rt" and p not in ("root600", "root644"):
                continue
            ask_as(f"open_{n}({p})", u, opener, p, f)
        ask_as(f"stat({p})", u, lambda p=p: shape(p))
        ask_as(f"chmod({p})", u, lambda p=p: os.chmod(
            p, stat.S_IMODE(os.stat(p).st_mode)))
        ask_as(f"chown_self({p})", u, os.chown, p, u, GROUP)
        ask_as(f"chown_other({p})", u, os.chown, p, OTHER, -1)
        ask_as(f"utime_now({p})", u, os.utime, p)
        ask_as(f"utime_set({p})", u, lambda p=p: os.utime(p, ns=(1, 2)))
        ask_as(f"truncate({p})", u, os.truncate, p, 3)
        for n, m in (("r", os.R_OK), ("w", os.W_OK), ("x", os.X_OK)):
            ask_as(f"access_{n}({p})", u, lambda p=p, m=m: check(
                libc.access(os.fsencode(p), m)))
    for p in ("pub", "shut", "noexec", "noread", "."):
        ask_as(f"listdir({p})", u, lambda p=p: len(os.listdir(p)) > 0)
        ask_as(f"creat({p})", u, opener, p + "/new", os.O_CREAT | os.O_WRONLY)
        ask_as(f"mkdir({p})", u, os.mkdir, p + "/newdir")
        ask_as(f"symlink({p})", u, os.symlink, "t", p + "/newlink")
    say("owner_of_new", [shape("pub/new"), shape("pub/newdir"),
                         shape("pub/newlink")])
    ask_as("unlink_root_in_pub", u, os.unlink, "pub/rootfile")
    ask_as("sticky_unlink_root", u, os.unlink, "sticky/rootfile")
    ask_as("sticky_rename_root", u, os.rename, "sticky/rootfile", "sticky/q")
    ask_as("sticky_over_root", u, os.rename, "sticky/mine", "sticky/rootfile")
    ask_as("sticky_unlink_mine_as_other", OTHER, os.unlink, "sticky/mine")
    ask_as("sticky_unlink_mine", u, os.unlink, "sticky/mine")
    put("grp", b"g", 0o644)
    os.chown("grp", u, GROUP)
    ask_as("chgrp_member", u, os.chown, "grp", -1, 555, groups=[555])
    ask_as("chgrp_nonmember", u, os.chown, "grp", -1, 556, groups=[555])
    say("chgrp.after", shape("grp"))
    # The owner's class counts even where the group's says more.
    os.chown("group", u, GROUP)
    ask_as("owner_class_first", u, opener, "group", os.O_RDONLY)
    os.mkdir("pub/theirs")
    put("pub/theirs/f")
    os.mkdir("move")
    os.chmod("move", 0o777)
    ask_as("rename_foreign_dir", u, os.rename, "pub/theirs", "move/theirs")
    put("x.sh", b"#!/bin/true\n", 0o644)
    ask("access_x_root", lambda: check(libc.access(b"x.sh", os.X_OK)))


def s_bits():
    """suid, sgid, umask, inheritance."""
    os.chmod(".", 0o777)
    for umask in (0, 0o22, 0o77):
        old = os.umask(umask)
        opener(f"u{umask}", os.O_CREAT | os.O_WRONLY, 0o666)
        os.mkdir(f"d{umask}", 0o777)
        os.umask(old)
        say(f"umask_{umask:o}", [shape(f"u{umask}"), shape(f"d{umask}")])
    os.mkdir("sg")
    os.chown("sg", 0, 777)
    os.chmod("sg", 0o2777)
    opener("sg/f", os.O_CREAT | os.O_WRONLY, 0o644)
    os.mkdir("sg/d")
    os.symlink("t", "sg/l")
    opener("sg/s", os.O_CREAT | os.O_WRONLY, 0o2755)
    say("setgid_dir", [shape(f"sg/{n}") for n in "fdls"])
    ask_as("setgid_dir.user", USER, os.mkdir, "sg/ud")
    ask_as("setgid_dir.userfile", USER, opener, "sg/uf",
           os.O_CREAT | os.O_WRONLY, 0o2775)
    say("setgid_dir.user.after", [shape("sg/ud"), shape("sg/uf")])

    def case(name, fn, mode=0o6755, uid=USER):
        put("s", b"12345678", 0o644)
        os.chown("s", USER, GROUP)
        os.chmod("s", mode)
        if uid is None:
            fn()
        else:
            r = as_user(uid, fn)
            if r != "ok":
                say(f"{name}.result", r)
        say(name, shape("s"))
        rm("s")

    def write(how, flags=0):
        fd = os.open("s", os.O_WRONLY | flags)
        how(fd)
        os.close(fd)

    def copy(fd):
        put("from", b"abc") if os.getuid() == 0 else None
        src = os.open("from", os.O_RDONLY)
        os.copy_file_range(src, fd, 3)

    put("from", b"abc")
    for who, uid in (("user", USER), ("root", None)):
        for m in (0o6755, 0o4755, 0o2755, 0o2745, 0o2644):
            case(f"{who}_write_{m:o}",
                 lambda: write(lambda fd: os.pwrite(fd, b"x", 0) and None),
                 m, uid)
        case(f"{who}_truncate", lambda: os.truncate("s", 2), uid=uid)
        case(f"{who}_ftruncate",
             lambda: write(lambda fd: os.ftruncate(fd, 2)), uid=uid)
        case(f"{who}_otrunc", lambda: write(lambda fd: None, os.O_TRUNC),
             uid=uid)
        case(f"{who}_open_only", lambda: write(lambda fd: None), uid=uid)
        case(f"{who}_chown_same", lambda: os.chown("s", USER, GROUP), uid=uid)
        case(f"{who}_chgrp_same", lambda: os.chown("s", -1, GROUP), uid=uid)
        case(f"{who}_chown_none", lambda: os.chown("s", -1, -1), uid=uid)
        case(f"{who}_chmod", lambda: os.chmod("s", 0o6711), uid=uid)
        case(f"{who}_utime", lambda: os.utime("s"), uid=uid)
        case(f"{who}_fallocate", lambda: write(
            lambda fd: fallocate(fd, 0, 0, 8192)), uid=uid)
        case(f"{who}_copy_range", lambda: write(copy), uid=uid)
    case("user_foreign_group_sgid", lambda: None, uid=None)
    put("fg", b"x", 0o755)
    os.chown("fg", USER, 999)
    ask_as("sgid_nonmember", USER, os.chmod, "fg", 0o2755)
    say("sgid_nonmember.after", shape("fg"))
    os.mkdir("sd")
    os.chmod("sd", 0o6755)
    os.chown("sd", USER, GROUP)
    say("chown_dir_keeps", shape("sd"))
    for m in (0, 0o7777, 0o1644):
        os.chmod("fg", m)
        say(f"chmod_{m:o}", shape("fg"))


# ---- times, counts ----


def s_times():
    def moved(name, fn, *watch):
        before = [os.lstat(w) for w in watch]
        time.sleep(TICK)
        fn()
        out = []
        for w, b in zip(watch, before):
            try:
                a = os.lstat(w)
            except OSError:
                out.append(w + ":gone")
                continue
            ch = [f for f in ("mtime", "ctime")
                  if getattr(a, f"st_{f}_ns") != getattr(b, f"st_{f}_ns")]
            back = [f for f in ("mtime", "ctime")
                    if getattr(a, f"st_{f}_ns") < getattr(b, f"st_{f}_ns")]
            out.append(f"{w}:{'+'.join(ch) or '-'}"
                       f"{' back ' + str(back) if back else ''}")
        say(name, " ".join(out))

    os.mkdir("d")
    os.mkdir("e")
    put("d/f", b"12345")
    os.symlink("f", "d/l")

    def wr(n, data, off=0, flags=0):
        fd = os.open(n, os.O_WRONLY | flags)
        if data is not None:
            os.pwrite(fd, data, off)
        os.close(fd)

    moved("creat", lambda: put("d/n"), "d")
    moved("creat_existing", lambda: opener(
        "d/n", os.O_CREAT | os.O_WRONLY), "d", "d/n")
    moved("write", lambda: wr("d/f", b"zz"), "d", "d/f")
    moved("write_same", lambda: wr("d/f", b"zz"), "d/f")
    moved("write_nothing", lambda: wr("d/f", b""), "d/f")
    moved("open_close_w", lambda: wr("d/f", None), "d/f")
    moved("otrunc", lambda: wr("d/f", None, 0, os.O_TRUNC), "d", "d/f")
    moved("otrunc_empty", lambda: wr("d/f", None, 0, os.O_TRUNC), "d/f")
    moved("truncate_same", lambda: os.truncate("d/f", 0), "d/f")
    moved("truncate_up", lambda: os.truncate("d/f", 10), "d", "d/f")
    moved("truncate_down", lambda: os.truncate("d/f", 2), "d/f")
    fd = os.open("d/f", os.O_RDWR)
    moved("ftruncate_same", lambda: os.ftruncate(fd, 2), "d/f")
    moved("fwrite", lambda: os.pwrite(fd, b"q", 0), "d/f")
    moved("fchmod", lambda: os.fchmod(fd, 0o600), "d", "d/f")
    moved("futime", lambda: os.utime(fd, ns=(5, 7)), "d/f")
    say("futime.read", os.stat("d/f").st_mtime_ns)
    os.close(fd)
    say("futime.closed", os.stat("d/f").st_mtime_ns)
    moved("chmod", lambda: os.chmod("d/f", 0o640), "d", "d/f")
    moved("chmod_same", lambda: os.chmod("d/f", 0o640), "d/f")
    moved("chown", lambda: os.chown("d/f", 1, 2), "d", "d/f")
    moved("chown_nothing", lambda: os.chown("d/f", -1, -1), "d/f")
    moved("read", lambda: get("d/f"), "d", "d/f")
    moved("readlink", lambda: os.readlink("d/l"), "d", "d/l")
    moved("listdir", lambda: os.listdir("d"), "d")
    moved("mkdir", lambda: os.mkdir("d/sub"), "d")
    moved("in_sub", lambda: put("d/sub/x"), "d", "d/sub")
    moved("symlink", lambda: os.symlink("t", "d/l2"), "d")
    moved("rename_in", lambda: os.rename("d/n", "d/m"), "d", "e")
    moved("rename_across", lambda: os.rename("d/m", "e/m"), "d", "e")
    moved("rename_over", lambda: (put("d/m2"), os.rename("e/m", "d/m2"))
          and None, "d", "e")
    moved("rename_dir", lambda: os.rename("d/sub", "e/sub"), "d", "e")
    moved("rename_fails", lambda: fails(os.rename, "d/none", "e/q"), "d", "e")
    moved("unlink", lambda: os.unlink("d/m2"), "d")
    moved("unlink_fails", lambda: fails(os.unlink, "d/none"), "d")
    moved("rmdir_fails", lambda: fails(os.rmdir, "e/sub"), "e", "e/sub")
    rm("e/sub/x")
    moved("rmdir", lambda: os.rmdir("e/sub"), "e")
    put("r1")
    moved("rename_ctime", lambda: os.rename("r1", "r2"), "r2") \
        if os.path.exists("r2") else None
    before = os.stat("r1").st_ctime_ns
    time.sleep(TICK)
    os.rename("r1", "r2")
    say("rename_moves_ctime", os.stat("r2").st_ctime_ns > before)
    say("atime_le_now", os.stat("r2").st_atime_ns <= time.time_ns())

    # utimensat, with nanoseconds and the two special values.
    class ts(ctypes.Structure):
        _fields_ = [("s", ctypes.c_long), ("n", ctypes.c_long)]

    now, omit = (1 << 30) - 1, (1 << 30) - 2

    def utimens(path, a, m, flags=0):
        t = (ts * 2)(ts(*a), ts(*m))
        check(libc.utimensat(-100, path.encode(), t, flags))

    put("t")
    for n, a, m in (
        ("ns", (1234567890, 123456789), (987654321, 987654321)),
        ("old", (-5, 1), (-100, 999999999)),
        ("far", (2 ** 32 + 5, 0), (2 ** 33, 1)),
        ("zero", (0, 0), (0, 0)),
    ):
        ask(f"utimens_{n}", utimens, "t", a, m)
        st = os.stat("t")
        say(f"utimens_{n}.read", [st.st_atime_ns, st.st_mtime_ns])
    utimens("t", (10, 1), (20, 2))
    utimens("t", (0, omit), (30, 3))
    say("omit_atime", [os.stat("t").st_atime_ns, os.stat("t").st_mtime_ns])
    utimens("t", (40, 4), (0, omit))
    say("omit_mtime", [os.stat("t").st_atime_ns, os.stat("t").st_mtime_ns])
    c = os.stat("t").st_ctime_ns
    time.sleep(TICK)
    utimens("t", (0, omit), (0, omit))
    say("omit_both", [os.stat("t").st_atime_ns, os.stat("t").st_mtime_ns,
                      os.stat("t").st_ctime_ns == c])
    t0 = time.time_ns() - 20_000_000
    utimens("t", (0, omit), (0, now))
    say("now_mtime", t0 <= os.stat("t").st_mtime_ns <= time.time_ns())
    ask("utimens_bad_ns", utimens, "t", (1, 1000000000), (1, 0))
    os.symlink("t", "tl")
    utimens("tl", (1, 1), (2, 2), 0x100)
    say("utimens_link", [os.lstat("tl").st_mtime_ns,
                         os.stat("t").st_mtime_ns == 2])
    os.mkdir("td")
    utimens("td", (3, 3), (4, 4))
    say("utimens_dir", os.stat("td").st_mtime_ns)

    # Link counts.
    os.mkdir("n")
    say("nlink_dir0", os.stat("n").st_nlink)
    os.mkdir("n/a")
    os.mkdir("n/b")
    put("n/f")
    say("nlink_dir2", [os.stat("n").st_nlink, os.stat("n/f").st_nlink])
    os.rename("n/a", "moved")
    say("nlink_moved", os.stat("n").st_nlink)
    os.rmdir("n/b")
    say("nlink_rmdir", os.stat("n").st_nlink)
    os.symlink("x" * 17, "sl")
    say("symlink_size", [os.lstat("sl").st_size, shape("sl")])


def fails(fn, *args):
    try:
        fn(*args)
    except OSError:
        return


# ---- bytes ----


def s_data():
    fd = os.open("f", os.O_CREAT | os.O_RDWR, 0o644)
    os.pwrite(fd, b"abc", 0)
    os.ftruncate(fd, 10000)
    say("up_zero", [os.fstat(fd).st_size, os.pread(fd, 5, 0),
                    set(os.pread(fd, 10000, 3)) == {0}])
    os.ftruncate(fd, 2)
    os.ftruncate(fd, 6)
    say("down_up_zero", os.pread(fd, 10, 0))
    os.pwrite(fd, b"end", 100000)
    say("hole_zero", [os.fstat(fd).st_size,
                      set(os.pread(fd, 100000, 6)[:99994]) == {0},
                      os.pread(fd, 10, 100000)])
    say("eof", [os.pread(fd, 10, 100003), os.pread(fd, 10, 10 ** 12)])
    os.close(fd)
    say("size_closed", os.stat("f").st_size)
    say("reread", [len(get("f")), get("f")[:6], get("f")[-3:]])
    for n, off in (("max", 2 ** 63 - 1), ("16T", 2 ** 44), ):
        ask(f"truncate_{n}", os.truncate, "f", off)
        os.truncate("f", 100)
    fd = os.open("f", os.O_RDWR | os.O_APPEND)
    os.lseek(fd, 0, 0)
    os.write(fd, b"app")
    say("append", [os.fstat(fd).st_size, os.lseek(fd, 0, 1)])
    os.close(fd)

    # Two appenders at once: nothing overwritten.
    put("log", b"")
    pids = []
    for who in range(2):
        pid = os.fork()
        if pid == 0:
            f = os.open("log", os.O_WRONLY | os.O_APPEND)
            for i in range(200):
                os.write(f, b"%d%06d" % (who, i) + b"." * 56 + b"\n")
            os._exit(0)
        pids.append(pid)
    for p in pids:
        os.waitpid(p, 0)
    lines = get("log").split(b"\n")[:-1]
    say("two_appenders", [len(lines), len(set(lines)),
                          {len(x) for x in lines}])

    # The same file through several descriptors.
    put("m", b"0" * 8192)
    a, b = os.open("m", os.O_RDWR), os.open("m", os.O_RDONLY)
    os.pwrite(a, b"new", 4096)
    say("seen_by_other_fd", os.pread(b, 3, 4096))
    m = mmap.mmap(a, 8192)
    say("map_sees", m[4096:4099])
    m[0:4] = b"MAPS"
    m.flush()
    say("map_seen_by_read", os.pread(b, 4, 0))
    os.pwrite(a, b"after", 100)
    say("write_seen_by_map", m[100:105])
    t = os.stat("m").st_mtime_ns
    time.sleep(TICK)
    m[4:8] = b"TIME"
    m.flush()
    say("msync_moves_mtime", os.stat("m").st_mtime_ns > t)
    m.close()
    os.close(a)
    os.close(b)
    say("map_after_close", get("m")[:8])
    a = os.open("m", os.O_RDWR)
    m = mmap.mmap(a, 8192)
    os.close(a)
    m[8:12] = b"LATE"
    say("map_outlives_fd", get("m")[8:12])
    os.truncate("m", 8192 * 2)
    say("map_kept_after_truncate", m[8:12])
    m.close()
    b = os.open("m", os.O_RDONLY)
    m = mmap.mmap(b, 8192, prot=mmap.PROT_READ | mmap.PROT_WRITE,
                  flags=mmap.MAP_PRIVATE)
    m[0:4] = b"PRIV"
    say("private_map", [m[0:4], os.pread(b, 4, 0)])
    m.close()
    ask("map_w_of_rdonly", lambda: mmap.mmap(b, 8192))
    os.close(b)

    # In-kernel copies.
    put("src", bytes(range(256)) * 64)
    s = os.open("src", os.O_RDONLY)
    d = os.open("dst", os.O_CREAT | os.O_RDWR | os.O_TRUNC, 0o644)
    ask("sendfile", os.sendfile, d, s, 0, 5000)
    ask("copy_file_range", os.copy_file_range, s, d, 5000, 5000, 5000)
    r, w = os.pipe()
    n = os.splice(s, w, 6384, offset_src=10000)
    k = os.splice(r, d, n, offset_dst=10000)
    say("splice", [n, k])
    os.close(r)
    os.close(w)
    say("copied", get("dst") == get("src"))
    ask("copy_range_self_overlap", os.copy_file_range, d, d, 100, 0, 50)
    ask("sendfile_in_file", os.sendfile, d, s, 0, 100)
    os.close(s)
    os.close(d)
    ask("readahead", os.posix_fadvise, os.open("src", os.O_RDONLY), 0, 0,
        os.POSIX_FADV_WILLNEED)

    # O_DIRECT.
    buf = mmap.mmap(-1, 8192)
    buf.write(b"D" * 8192)
    fd = os.open("direct", os.O_CREAT | os.O_RDWR | os.O_DIRECT, 0o644)
    ask("direct_write", os.pwritev, fd, [buf], 4096)
    back = mmap.mmap(-1, 8192)
    ask("direct_read", os.preadv, fd, [back], 4096)
    say("direct_same", back[:] == b"D" * 8192)
    ask("direct_read_hole", os.preadv, fd, [memoryview(back)[:4096]], 0)
    say("direct_hole_zero", set(back[:4096]) == {0})
    ask("direct_eof", os.preadv, fd, [back], 8192 + 4096)
    os.close(fd)
    say("direct_then_plain", get("direct") == bytes(4096) + b"D" * 8192)

    # vectors, O_SYNC, O_DSYNC, fsync.
    fd = os.open("v", os.O_CREAT | os.O_RDWR | os.O_SYNC, 0o644)
    ask("writev", os.writev, fd, [b"a" * 10, b"", b"b" * 20])
    ask("fsync", os.fsync, fd)
    ask("fdatasync", os.fdatasync, fd)
    os.close(fd)
    fd = os.open("v", os.O_RDONLY)
    ask("fsync_rdonly", os.fsync, fd)
    os.close(fd)

    # Locks: local ones.
    a, b = os.open("v", os.O_RDWR), os.open("v", os.O_RDWR)
    ask("flock", fcntl.flock, a, fcntl.LOCK_EX | fcntl.LOCK_NB)
    ask("flock_second", fcntl.flock, b, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(a, fcntl.LOCK_UN)
    fcntl.lockf(a, fcntl.LOCK_EX, 10, 0)
    ask("lockf_other", lambda: as_user(0, lambda: fcntl.lockf(
        os.open("v", os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 5)))
    ask("lockf_beside", lambda: as_user(0, lambda: fcntl.lockf(
        os.open("v", os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 10)))
    os.close(a)
    os.close(b)


def s_space():
    """Holes, fallocate, lseek."""
    K = 4096
    fd = os.open("f", os.O_CREAT | os.O_RDWR, 0o644)
    os.pwrite(fd, b"1" * K, 0)
    os.pwrite(fd, b"2" * K, 16 * K)
    os.ftruncate(fd, 32 * K)
    os.fsync(fd)

    def seek(name):
        for w, wn in ((os.SEEK_DATA, "data"), (os.SEEK_HOLE, "hole")):
            for off in (0, 1, K, 16 * K, 17 * K, 31 * K, 32 * K, -1):
                ask(f"{name}.{wn}({off})", os.lseek, fd, off, w)

    seek("holes")
    say("blocks_small", os.fstat(fd).st_blocks < 32 * K // 512)
    KEEP, PUNCH, ZERO, COLL, INS = 1, 2, 16, 8, 32
    for n, mode, off, ln in (
        ("plain", 0, 30 * K, 4 * K), ("keep", KEEP, 40 * K, K),
        ("punch", PUNCH | KEEP, 0, 100), ("punch_page", PUNCH | KEEP, 0, K),
        ("punch_bare", PUNCH, 0, K), ("zero", ZERO, 16 * K + 5, 10),
        ("zero_keep", ZERO | KEEP, 60 * K, K), ("zero_grow", ZERO, 36 * K, K),
        ("zero_len", 0, 0, 0), ("neg", 0, -1, 5), ("bad", 0x800, 0, K),
        ("collapse", COLL, 0, K), ("insert", INS, 0, K),
    ):
        ask(f"falloc_{n}", fallocate, fd, mode, off, ln)
        say(f"falloc_{n}.size", os.fstat(fd).st_size)
    os.close(fd)
    data = get("f") if os.path.exists("f") else b""
    say("content_has_2", data.count(b"2") > 0)
    fd = os.open("g", os.O_CREAT | os.O_RDWR, 0o644)
    os.pwrite(fd, b"3" * (4 * K), 0)
    fallocate(fd, PUNCH | KEEP, K, K)
    fallocate(fd, ZERO, 2 * K + 10, 100)
    d = os.pread(fd, 4 * K, 0)
    say("punched", [d[:K] == b"3" * K, d[K:2 * K] == bytes(K),
                    d[2 * K + 10:2 * K + 110] == bytes(100),
                    d.count(b"3")])
    os.close(fd)
    say("punched_closed", get("g") == d)
    fd = os.open("g", os.O_RDONLY)
    ask("falloc_rdonly", fallocate, fd, 0, 0, K)
    os.close(fd)
    os.mkdir("d")
    fd = os.open("d", os.O_RDONLY)
    ask("falloc_dir", fallocate, fd, 0, 0, K)
    ask("seek_dir_data", os.lseek, fd, 0, os.SEEK_DATA)
    os.close(fd)
    put("e", b"")
    fd = os.open("e", os.O_RDWR)
    ask("seek_data_empty", os.lseek, fd, 0, os.SEEK_DATA)
    ask("seek_hole_empty", os.lseek, fd, 0, os.SEEK_HOLE)
    os.close(fd)


# ---- what is unlinked, what is open ----


def s_open():
    put("f", b"hello")
    fd = os.open("f", os.O_RDWR)
    os.unlink("f")
    say("unlinked", [os.fstat(fd).st_nlink, os.pread(fd, 9, 0)])
    os.pwrite(fd, b"HELLO world", 0)
    ask("unlinked.fchmod", os.fchmod, fd, 0o600)
    ask("unlinked.ftruncate", os.ftruncate, fd, 7)
    ask("unlinked.utime", lambda: os.utime(fd, ns=(1, 2)))
    ask("unlinked.fsync", os.fsync, fd)
    say("unlinked.after", [os.fstat(fd).st_size, os.pread(fd, 99, 0),
                           stat.filemode(os.fstat(fd).st_mode),
                           os.fstat(fd).st_mtime_ns])
    put("f", b"another")
    say("unlinked.reborn", [get("f"), os.pread(fd, 99, 0)])
    ask("unlinked.proc_open",
        lambda: os.pread(os.open(f"/proc/self/fd/{fd}", os.O_RDONLY), 9, 0))
    os.close(fd)
    os.mkdir("d")
    dfd = os.open("d", os.O_RDONLY)
    os.rmdir("d")
    say("gone_dir", [os.fstat(dfd).st_nlink, os.listdir(dfd)])
    ask("gone_dir.creat", lambda: os.open(
        "x", os.O_CREAT | os.O_WRONLY, dir_fd=dfd))
    ask("gone_dir.mkdir", lambda: os.mkdir("x", dir_fd=dfd))
    ask("gone_dir.stat", lambda: os.stat("x", dir_fd=dfd))
    os.close(dfd)
    # O_TRUNC while another has it open; read goes on past a shrink.
    put("t", b"0123456789")
    a = os.open("t", os.O_RDONLY)
    b = os.open("t", os.O_RDWR | os.O_TRUNC)
    say("otrunc_other", [os.fstat(a).st_size, os.pread(a, 9, 0)])
    os.write(b, b"new")
    say("otrunc_other.new", os.pread(a, 9, 0))
    os.close(a)
    os.close(b)
    # A mode without write does not take away a descriptor's right.
    fd = os.open("ro", os.O_CREAT | os.O_RDWR, 0o000)
    ask("creat_mode0_writes", os.write, fd, b"x")
    os.close(fd)
    ask_as("creat_mode0_user", USER, lambda: os.fchmod(0, 0))
    fds = [os.open("t", os.O_RDONLY) for _ in range(50)]
    say("many_opens", {os.pread(f, 3, 0) for f in fds})
    for f in fds:
        os.close(f)
    fd = os.open("dupe", os.O_CREAT | os.O_RDWR, 0o644)
    fd2 = os.dup(fd)
    os.write(fd, b"ab")
    os.write(fd2, b"cd")
    os.close(fd)
    os.write(fd2, b"ef")
    os.close(fd2)
    say("dup_offset", get("dupe"))
    pid = os.fork()
    if pid == 0:
        f = os.open("dupe", os.O_RDWR)
        os.write(f, b"XY")
        os._exit(0)
    os.waitpid(pid, 0)
    say("closed_by_exit", get("dupe"))
    ask("tmpfile", lambda: os.close(os.open(
        ".", os.O_TMPFILE | os.O_RDWR, 0o600)))
    ask("mkfifo", os.mkfifo, "fifo")
    ask("mknod_sock", os.mknod, "sock", stat.S_IFSOCK | 0o600)
    ask("mknod_reg", os.mknod, "reg", stat.S_IFREG | 0o600)
    ask("mknod_chr", os.mknod, "chr", stat.S_IFCHR | 0o600, 0x103)
    ask("link", os.link, "t", "t2")
    ask("setxattr", os.setxattr, "t", "user.a", b"v")
    ask("getxattr", os.getxattr, "t", "user.none")
    ask("listxattr", os.listxattr, "dupe")
    ask("removexattr", os.removexattr, "t", "user.none")


# ---- directories ----


class dirent(ctypes.Structure):
    _fields_ = [("ino", ctypes.c_uint64), ("off", ctypes.c_int64),
                ("reclen", ctypes.c_uint16), ("type", ctypes.c_uint8),
                ("name", ctypes.c_char * 256)]


def next_name(d):
    p = libc.readdir(d)
    if not p:
        return None
    e = ctypes.cast(p, ctypes.POINTER(dirent)).contents
    return e.name, e.type, e.off


def all_names(d):
    out = []
    while True:
        n = next_name(d)
        if n is None:
            return out
        out.append(n)


def s_dir():
    os.mkdir("d")
    stable = {b"s%05d" % i for i in range(400)}
    for n in stable:
        opener(b"d/" + n, os.O_CREAT | os.O_WRONLY)
    for i in range(400):
        opener(f"d/v{i:05d}", os.O_CREAT | os.O_WRONLY)
    os.mkdir("d/subdir")
    os.symlink("x", "d/sym")
    d = libc.opendir(b"d")
    names = all_names(d)
    say("count", [len(names), len({n[0] for n in names})])
    say("dots", sorted(n[0] for n in names if n[0][:1] == b"."))
    types = dict((n[0], n[1]) for n in names)
    say("types", [types[b"subdir"], types[b"sym"], types[b"s00000"],
                  types[b"."]])
    libc.rewinddir(d)
    say("rewind", len(all_names(d)))
    # telldir and seekdir: the rest after a place is the same rest.
    libc.rewinddir(d)
    for _ in range(377):
        next_name(d)
    place = libc.telldir(d)
    rest = [n[0] for n in all_names(d)]
    libc.seekdir(d, place)
    say("seekdir", [n[0] for n in all_names(d)] == rest)
    libc.closedir(d)
    d = libc.opendir(b"d")
    libc.seekdir(d, place)
    say("seekdir_reopened", [n[0] for n in all_names(d)] == rest)
    # Names that stay are seen exactly once, whatever happens to others.
    libc.rewinddir(d)
    seen = [next_name(d)[0] for _ in range(100)]
    for i in range(0, 400, 2):
        os.unlink(f"d/v{i:05d}")
    for i in range(200):
        opener(f"d/w{i:05d}", os.O_CREAT | os.O_WRONLY)
    more = [next_name(d)[0] for _ in range(200)]
    seen += [n for n in more]
    for i in range(1, 400, 2):
        os.rename(f"d/v{i:05d}", f"d/x{i:05d}")
    seen += [n[0] for n in all_names(d)]
    kept = [n for n in seen if n in stable]
    say("stable_once", [len(kept), set(kept) == stable])
    say("none_twice", len(seen) == len(set(seen)))
    libc.closedir(d)
    # rm -r in the style of readdir, unlink, readdir.
    d = libc.opendir(b"d")
    while True:
        n = next_name(d)
        if n is None:
            break
        if n[0] in (b".", b".."):
            continue
        if n[0] == b"subdir":
            os.rmdir(b"d/" + n[0])
        else:
            os.unlink(b"d/" + n[0])
    libc.closedir(d)
    say("rm_while_reading", os.listdir("d"))
    ask("rmdir", os.rmdir, "d")
    # Inode numbers: readdir agrees with stat.
    os.mkdir("i")
    for i in range(20):
        put(f"i/{i}")
    say("d_ino", all(e.inode() == e.stat().st_ino for e in os.scandir("i")))
    say("dotdot_ino", os.stat("i/..").st_ino == os.stat(".").st_ino)


# ---- names ----


def s_names():
    names = [
        b"plain", b"sp ace", b" lead", b"trail ", b"%41", b"%", b"%2F",
        b"a+b", b"a#b", b"a?b", b"a&b=c", b"tab\there", b"new\nline",
        b"\x01ctl", b"\x7fdel", b"back\\slash", b"trail.", b"...", b"..a",
        b".hidden", b"a:b", b"a*b", b"a|b", b"<a>", b'"q"', b"'q'", b"a~b",
        "ünïcödé".encode(), "日本語".encode(), "e\u0301".encode(),
        "\u00e9".encode(), "\u202e".encode(), "\U0001f600".encode(),
        "\uff0e".encode(), "\uff3c".encode(), "\u201b".encode(),
        "\u201b\uff0e".encode(), "\ufffe".encode(), "\u0085".encode(),
        b"\xff\xfe", b"bad\xc3", b"\xed\xa0\x80", b"A", b"a", b"-rf",
        b"x" * 255, "é".encode() * 127, b".forebay2", b"CON", b"a" * 200,
        b"hdi_isfolder", b"\x02" * 20, b"." * 100,
    ]
    made = []
    for i, n in enumerate(names):
        try:
            put(n, b"%d" % i)
            made.append(n)
            v = "ok"
        except OSError as e:
            v = err(e)
        say(f"creat {n[:40]!r}", v)
    listed = set(os.listdir(b"."))
    say("listed", listed == set(made))
    for n in sorted(set(made) - listed) + sorted(listed - set(made)):
        say("list differs", n)
    for i, n in enumerate(names):
        if n in made:
            try:
                v = get(n) == b"%d" % i
            except OSError as e:
                v = err(e)
            say(f"read {n[:40]!r}", v)
    for n in made:
        os.rename(n, b"r" + n[:254])
        os.rename(b"r" + n[:254], n)
    say("renamed", set(os.listdir(b".")) == set(made))
    for n in made:
        os.unlink(n)
        os.mkdir(n)
        put(n + b"/in", b"in")
    say("as_dirs", all(get(n + b"/in") == b"in" for n in made))
    for n in made:
        os.unlink(n + b"/in")
        os.rmdir(n)
    say("left", os.listdir(b"."))
    for n in (0, 1, 4095, 4096):
        try:
            os.symlink("t" * n, f"sl{n}")
            v = len(os.readlink(f"sl{n}"))
        except OSError as e:
            v = err(e)
        say(f"symlink_{n}", v)
    os.symlink(b"\xff\n \\. ", b"odd")
    say("symlink_odd", os.readlink(b"odd"))


def s_deep():
    """As deep as a blob's name may be long, and where it must end."""
    depth = 0
    try:
        for depth in range(9):
            os.mkdir("d" * 100)
            os.chdir("d" * 100)
        put("f", b"deep")
        say("nine_hundred", [depth + 1, get("f")])
    except OSError as e:
        say("nine_hundred", [depth, err(e)])
    made = 0
    try:
        for _ in range(60):
            os.mkdir("e" * 100)
            os.chdir("e" * 100)
            made += 1
        say("beyond", f"{made} levels")
    except OSError as e:
        say("beyond", err(e))
    say("here", [len(os.listdir("..")), kind("../f")[:9]])


SECTIONS = {
    "errno": s_errno, "rename": s_rename, "perm": s_perm, "bits": s_bits,
    "times": s_times, "data": s_data, "space": s_space, "open": s_open,
    "dir": s_dir, "names": s_names, "deep": s_deep,
}


def tree(path):
    for n in sorted(os.listdir(path)):
        p = path + b"/" + n
        st = os.lstat(p)
        what = ""
        if stat.S_ISREG(st.st_mode):
            what = f"{st.st_size} {hashlib.md5(get(p)).hexdigest()}"
        elif stat.S_ISLNK(st.st_mode):
            what = repr(os.readlink(p))
        # A directory's time moves with its entries; that alone is sent late.
        mtime = 0 if stat.S_ISDIR(st.st_mode) else st.st_mtime_ns
        print(p, stat.filemode(st.st_mode), st.st_uid, st.st_gid, mtime, what)
        if stat.S_ISDIR(st.st_mode):
            tree(p)


def main():
    global section
    if sys.argv[1] == "--tree":
        os.chdir(sys.argv[2])
        tree(b".")
        return
    top = os.path.abspath(sys.argv[1])
    os.umask(0o022)
    for name in sys.argv[2:] or SECTIONS:
        section = name
        os.chdir(top)
        os.mkdir(name)
        os.chdir(name)
        try:
            SECTIONS[name]()
        except Exception as e:
            line = sys.exc_info()[2].tb_next.tb_lineno
            what = err(e) if isinstance(e, OSError) else type(e).__name__
            say("stopped", f"{what} in line {line}")
            print(f"posix.py: {name}: {e!r} in line {line}", file=sys.stderr)


main()
