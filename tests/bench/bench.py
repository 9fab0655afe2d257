"""Speed, as ratios: native file system, raw HTTP client, forebay.

One run measures all of them on the same disk against the same local blob
service (tests/blobd), interleaved, --rounds times, and prints medians and
ratios; --json FILE writes every sample.  The machine may be shared: only the
ratios of one run mean anything.
"""
import argparse
import concurrent.futures
import contextlib
import http.client
import json
import mmap
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

MIB = 1 << 20
BUILD = os.environ.get("BUILD", "build")
KEY = ("Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZF"
       "PTOtr/KBHBeksoGMGw==")


class Blobd:
    """The service, without signatures, so that the raw client is simple."""

    def __init__(self, latency_ms=0):
        self.process = subprocess.Popen(
            [f"{BUILD}/tests/blobd", "--no-auth", "--latency-ms",
             str(latency_ms)], stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        self.port = int(line.split()[1])
        self.account = f"http://127.0.0.1:{self.port}/devstoreaccount1"

    def call(self, method, path):
        c = http.client.HTTPConnection("127.0.0.1", self.port)
        c.request(method, path, headers={"Content-Length": "0"})
        r = c.getresponse()
        body = r.read()
        c.close()
        if r.status >= 300:
            raise RuntimeError(f"{method} {path}: {r.status} {body!r}")
        return body

    def container(self, name):
        self.call("PUT", f"/devstoreaccount1/{name}?restype=container")

    def counts(self):
        return json.loads(self.call("GET", "/_/counts"))

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Mount:
    def __init__(self, store, top, options="", cache="cache"):
        self.point = os.path.join(top, "mnt")
        self.cache = os.path.join(top, cache)
        os.makedirs(self.point, exist_ok=True)
        opts = f"cache={self.cache}" + ("," + options if options else "")
        env = dict(os.environ, AZURE_STORAGE_ACCOUNT="devstoreaccount1",
                   AZURE_STORAGE_KEY=KEY)
        subprocess.run([f"{BUILD}/forebay", "mount", store, self.point,
                        "-o", opts], check=True, env=env)

    def status(self):
        out = subprocess.run([f"{BUILD}/forebay", "status", self.point,
                              "--json"], check=True, capture_output=True)
        return json.loads(out.stdout)

    def flush(self):
        subprocess.run([f"{BUILD}/forebay", "flush", self.point], check=True)

    def rss_mib(self):
        pid = self.status()["worker_pid"]
        with open(f"/proc/{pid}/status") as f:
            for line in f:
                if line.startswith("VmHWM"):
                    return int(line.split()[1]) / 1024
        return 0

    def umount(self):
        subprocess.run([f"{BUILD}/forebay", "umount", self.point], check=True)


def drop_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as f:
        f.write("3")


def timed(fn, *args):
    start = time.monotonic()
    amount = fn(*args)
    return amount / (time.monotonic() - start)


# ---- pieces of work: each returns how much it did ----

def read_seq(path, flags=0):
    fd = os.open(path, os.O_RDONLY | flags)
    buf = mmap.mmap(-1, MIB)
    total = 0
    while True:
        n = os.readv(fd, [buf])
        if n <= 0:
            break
        total += n
    os.close(fd)
    return total / MIB


def read_direct(path):
    return read_seq(path, os.O_DIRECT)


def scan_mmap(path):
    fd = os.open(path, os.O_RDONLY)
    size = os.fstat(fd).st_size
    m = mmap.mmap(fd, size, prot=mmap.PROT_READ)
    total = 0
    for at in range(0, size, MIB):
        total += len(m[at:at + MIB])
    m.close()
    os.close(fd)
    return total / MIB


def random_direct(path, seconds=2, threads=8):
    out = subprocess.run(
        ["fio", "--name=r", f"--filename={path}", "--rw=randread", "--bs=4k",
         "--direct=1", f"--numjobs={threads}", "--thread", "--time_based",
         f"--runtime={seconds}", "--group_reporting", "--output-format=json",
         "--invalidate=0", "--allow_file_create=0", "--readonly"],
        check=True, capture_output=True)
    return json.loads(out.stdout)["jobs"][0]["read"]["iops"] * seconds


def read_small(names, readers):
    def some(part):
        for name in part:
            fd = os.open(name, os.O_RDONLY)
            os.fstat(fd)
            while os.read(fd, MIB):
                pass
            os.close(fd)
    if readers == 1:
        some(names)
        return len(names)
    children = []
    for i in range(readers):
        pid = os.fork()
        if pid == 0:
            try:
                some(names[i::readers])
            finally:
                os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    return len(names)


def checkpoint(directory, size_mib):
    temp = os.path.join(directory, "ckpt.tmp")
    block = os.urandom(MIB)
    fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for _ in range(size_mib):
        os.write(fd, block)
    os.fsync(fd)
    os.fchmod(fd, 0o600)
    os.close(fd)
    os.rename(temp, os.path.join(directory, "ckpt"))
    return size_mib


def create(directory, count, processes, sync=False, spread=False):
    def some(i):
        sub = os.path.join(directory, str(i)) if spread else directory
        os.makedirs(sub, exist_ok=True)
        for n in range(i, count, processes):
            fd = os.open(os.path.join(sub, f"f{n}"),
                         os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            os.write(fd, b"x" * 4096)
            if sync:
                os.fsync(fd)
            os.close(fd)
    fork_all(some, processes)
    return count


def unlink_all(directory, processes):
    names = [os.path.join(d, f) for d, _, fs in os.walk(directory) for f in fs]
    return timed_fork(lambda i: [os.unlink(n) for n in names[i::processes]],
                      processes, len(names))


def ops(kind, directory, count, processes, pid=None):
    """tests/bench/ops.c: rates, and CPU time for each operation."""
    out = subprocess.run(
        [f"{BUILD}/tests/bench/ops", kind, directory, str(count),
         str(processes)] + ([str(pid)] if pid else []),
        check=True, capture_output=True)
    return json.loads(out.stdout)


def fork_all(fn, processes):
    children = []
    for i in range(processes):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                fn(i)
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    for pid in children:
        if os.waitpid(pid, 0)[1] != 0:
            raise RuntimeError("a worker of the benchmark failed")


def timed_fork(fn, processes, amount):
    start = time.monotonic()
    fork_all(fn, processes)
    return amount / (time.monotonic() - start)


def raw_get(port, paths, width):
    """GETs, whole or by range, over `width` kept-alive connections."""
    def some(part):
        c = http.client.HTTPConnection("127.0.0.1", port)
        total = 0
        for path, byte_range in part:
            head = {"x-ms-version": "2021-12-02"}
            if byte_range:
                head["Range"] = "bytes=%d-%d" % byte_range
            c.request("GET", path, headers=head)
            r = c.getresponse()
            while True:
                piece = r.read(MIB)
                if not piece:
                    break
                total += len(piece)
        c.close()
        return total
    with concurrent.futures.ThreadPoolExecutor(width) as pool:
        list(pool.map(some, [paths[i::width] for i in range(width)]))
    return 0


# ---- the figures ----

class Bench:
    def __init__(self, args):
        self.args = args
        self.samples = {}
        self.notes = {}

    def add(self, figure, who, value):
        self.samples.setdefault(figure, {}).setdefault(who, []).append(value)
        print(f"  {figure:34s} {who:8s} {value:12.1f}", flush=True)

    def warm_reads(self, native, fore, small):
        big = "big"
        for _ in range(self.args.rounds):
            for who, top in (("native", native), ("forebay", fore)):
                path = os.path.join(top, big)
                drop_caches()
                self.add("warm seq read MiB/s", who, timed(read_seq, path))
                self.add("hot seq read MiB/s", who, timed(read_seq, path))
                drop_caches()
                self.add("warm seq O_DIRECT MiB/s", who,
                         timed(read_direct, path))
                drop_caches()
                self.add("warm mmap scan MiB/s", who, timed(scan_mmap, path))
                self.add("hot mmap scan MiB/s", who, timed(scan_mmap, path))
                self.add("random 4K O_DIRECT 8 thr op/s", who,
                         random_direct(path) / 2)
                names = [os.path.join(top, "small", n) for n in small]
                drop_caches()
                self.add("warm small 8 readers f/s", who,
                         timed(read_small, names, 8))
                for readers in (1, 2, 8):
                    self.add(f"hot small {readers} readers f/s", who,
                             timed(read_small, names, readers))

    def writes(self, native, fore, mount):
        n = 0
        for _ in range(self.args.rounds):
            for who, top in (("native", native), ("forebay", fore)):
                n += 1
                self.add("checkpoint MiB/s", who,
                         timed(checkpoint, top, self.args.ckpt_mib))
                if who == "forebay":
                    start = time.monotonic()
                    mount.flush()
                    self.add("  ... and in the store after s", who,
                             time.monotonic() - start)
                for label, procs, sync, spread in (
                        ("fsync'ed 4K creates 1 proc f/s", 1, True, False),
                        ("4K creates 4 procs one dir f/s", 4, False, False),
                        ("4K creates 4 procs 4 dirs f/s", 4, False, True)):
                    d = os.path.join(top, f"c{n}-{procs}{sync}{spread}")
                    os.mkdir(d)
                    count = self.args.creates // (4 if sync else 1)
                    self.add(label, who,
                             timed(create, d, count, procs, sync, spread))
                    if not sync:
                        self.add("unlink 4 procs f/s", who,
                                 unlink_all(d, 4))
                    shutil.rmtree(d)
                if who == "forebay":
                    mount.flush()

    def costs(self, native, fore, mount):
        """Small operations: rates, and what they cost the daemon."""
        steps = (("create", "a", 4), ("stat", "a", 4), ("read", "a", 1),
                 ("read", "a", 2), ("read", "a", 8), ("rename", "a", 4),
                 ("create-spread", "s", 4), ("create-fsync", "f", 1),
                 ("create", "a", 4), ("unlink", "a", 4))
        for r in range(self.args.rounds):
            for who, top in (("native", native), ("forebay", fore)):
                base = os.path.join(top, f"ops{r}")
                for sub in ("a", "s", "f"):
                    os.makedirs(os.path.join(base, sub))
                pid = mount.status()["worker_pid"]
                for kind, sub, procs in steps:
                    count = self.args.creates
                    if kind == "create-fsync":
                        count //= 10
                    got = ops(kind, os.path.join(base, sub), count, procs,
                              pid if who == "forebay" else None)
                    name = f"{kind} x{procs}"
                    self.add(f"{name} op/s", who, got["per_s"])
                    if who == "forebay":
                        self.add(f"  {name} daemon CPU us", who,
                                 got["daemon_us"])
                        mount.flush()
                shutil.rmtree(base)
        mount.flush()

    def cold_one(self, blobd, c, top, tag, kind):
        """One reader of small files, and one GET after the other."""
        cache = tempfile.mkdtemp(dir=top)
        m = Mount(f"{blobd.account}/{c}", top, "", os.path.basename(cache))
        try:
            one = os.path.join(m.point, "one")
            count = len(os.listdir(one))
            self.add(f"cold small 1 reader {kind} f/s{tag}", "forebay",
                     ops(kind, one, count, 1)["per_s"])
        finally:
            m.umount()
            shutil.rmtree(cache)

    def cold(self, top, latency_ms):
        blobd = Blobd(latency_ms)
        tag = f" {latency_ms}ms"
        try:
            for r in range(self.args.rounds):
                c = f"cold{r}"
                blobd.container(c)
                size = self.args.big_mib * MIB
                blobd.call("POST", f"/_/seed-large?container={c}&name=big"
                                   f"&size={size}")
                count = self.args.small
                blobd.call("POST", f"/_/seed?container={c}&prefix=small/"
                                   f"&count={count}&size={112 * 1024}")
                blobd.call("POST", f"/_/seed?container={c}&prefix=one/"
                                   f"&count={count // 4}&size={112 * 1024}")
                chunk = 8 * MIB
                paths = [(f"/devstoreaccount1/{c}/big",
                          (at, min(at + chunk, size) - 1))
                         for at in range(0, size, chunk)]
                start = time.monotonic()
                raw_get(blobd.port, paths, 16)
                self.add("cold seq read MiB/s" + tag, "raw",
                         self.args.big_mib / (time.monotonic() - start))
                small = [(f"/devstoreaccount1/{c}/small/f{i:07d}", None)
                         for i in range(count)]
                for width in (8, 32):
                    start = time.monotonic()
                    raw_get(blobd.port, small, width)
                    self.add(f"cold small {width} readers f/s{tag}", "raw",
                             count / (time.monotonic() - start))
                start = time.monotonic()
                raw_get(blobd.port, small[:count // 4], 1)
                raw_one = count // 4 / (time.monotonic() - start)
                for kind in ("read-all", "shuffle"):
                    self.add(f"cold small 1 reader {kind} f/s{tag}", "raw",
                             raw_one)
                    self.cold_one(blobd, c, top, tag, kind)
                for width in (8, 32):
                    self.cold_mount(blobd, c, top, tag, width)
        finally:
            blobd.stop()

    def cold_mount(self, blobd, c, top, tag, width):
        cache = tempfile.mkdtemp(dir=top)
        m = Mount(f"{blobd.account}/{c}", top, "", os.path.basename(cache))
        try:
            names = sorted(os.listdir(os.path.join(m.point, "small")))
            names = [os.path.join(m.point, "small", n) for n in names]
            self.add(f"cold small {width} readers f/s{tag}", "forebay",
                     timed(read_small, names, width))
            if width != 8:
                return
            big = os.path.join(m.point, "big")
            start = time.monotonic()
            fd = os.open(big, os.O_RDONLY)
            os.read(fd, 4096)
            self.add("  first byte ms" + tag, "forebay",
                     (time.monotonic() - start) * 1000)
            os.close(fd)
            self.add("cold seq read MiB/s" + tag, "forebay",
                     timed(read_seq, big))
            self.add("  peak resident MiB" + tag, "forebay", m.rss_mib())
        finally:
            m.umount()
            shutil.rmtree(cache)

    def new_files(self, top):
        blobd = Blobd(20)
        blobd.container("new")
        m = Mount(f"{blobd.account}/new", top, "", "cache-w")
        try:
            count = self.args.creates
            start = time.monotonic()
            create(m.point, count, 4)
            m.flush()
            self.add("new small files in store f/s 20ms", "forebay",
                     count / (time.monotonic() - start))
        finally:
            m.umount()
            blobd.stop()

    def rewrite(self, fore, mount):
        path = os.path.join(fore, "big")
        size = os.path.getsize(path)
        before = mount.status().get("sent_bytes", 0)
        rng = random.Random(1)
        fd = os.open(path, os.O_WRONLY)
        start = time.monotonic()
        for _ in range(100):
            os.pwrite(fd, os.urandom(4096),
                      rng.randrange(size // 4096) * 4096)
        os.fsync(fd)
        os.close(fd)
        mount.flush()
        self.add("rewrite 100 x 4K, in store s", "forebay",
                 time.monotonic() - start)
        self.add("  bytes uploaded MiB", "forebay",
                 (mount.status().get("sent_bytes", 0) - before) / MIB)

    def table(self):
        print(f"\n{'figure (medians)':36s} {'native':>10s} {'raw':>10s} "
              f"{'forebay':>10s} {'/native':>8s} {'/raw':>8s}")
        for figure, who in self.samples.items():
            med = {w: statistics.median(v) for w, v in who.items()}
            row = f"{figure:36s}"
            for w in ("native", "raw", "forebay"):
                row += f" {med[w]:10.1f}" if w in med else " " * 11
            for w in ("native", "raw"):
                ok = w in med and "forebay" in med and med[w]
                row += f" {med['forebay'] / med[w]:8.2f}" if ok else " " * 9
            print(row)


def make_data(args, native, fore):
    names = [f"s{i:05d}" for i in range(args.small)]
    for top in (native, fore):
        os.makedirs(os.path.join(top, "small"), exist_ok=True)
        block = os.urandom(MIB)
        with open(os.path.join(top, "big"), "wb") as f:
            for i in range(args.big_mib):
                f.write(i.to_bytes(8, "little") + block[8:])
        for n in names:
            with open(os.path.join(top, "small", n), "wb") as f:
                f.write(block[:112 * 1024])
    return names


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--big-mib", type=int, default=1024)
    p.add_argument("--ckpt-mib", type=int, default=1024)
    p.add_argument("--small", type=int, default=2000)
    p.add_argument("--creates", type=int, default=4000)
    p.add_argument("--latencies", default="0,5,20")
    p.add_argument("--only", choices=["warm", "write", "cold"])
    p.add_argument("--options", default="", help="of the mount")
    p.add_argument("--json")
    args = p.parse_args()
    if os.getuid() != 0:
        sys.exit("bench: needs root, to mount and to drop caches")
    bench = Bench(args)
    with contextlib.ExitStack() as stack:
        top = tempfile.mkdtemp(prefix="forebay-bench.", dir="/var/tmp")
        stack.callback(shutil.rmtree, top, ignore_errors=True)
        native = os.path.join(top, "native")
        os.mkdir(native)
        if args.only != "cold":
            blobd = Blobd()
            stack.callback(blobd.stop)
            blobd.container("bench")
            mount = Mount(f"{blobd.account}/bench", top, args.options)
            stack.callback(mount.umount)
            small = make_data(args, native, mount.point)
            mount.flush()
            if args.only != "write":
                bench.warm_reads(native, mount.point, small)
            if args.only != "warm":
                bench.writes(native, mount.point, mount)
                bench.costs(native, mount.point, mount)
                bench.rewrite(mount.point, mount)
        if args.only in (None, "cold"):
            sub = os.path.join(top, "cold")
            os.mkdir(sub)
            for ms in args.latencies.split(","):
                bench.cold(sub, int(ms))
            bench.new_files(sub)
    bench.table()
    if args.json:
        with open(args.json, "w") as f:
            json.dump(bench.samples, f, indent=1)


if __name__ == "__main__":
    main()
