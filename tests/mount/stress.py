"""A storm of calls by several processes, each checked against what it knows.

stress.py DIRECTORY SECONDS PROCESSES SEED

Every process has a directory of its own there and a model of what is in it:
temp-and-rename, overwrite, append, mmap stores after the close, unlink,
truncate, rename, rewrite in place, read back, list.  Exit 0: all as expected.
"""
import mmap
import multiprocessing
import os
import random
import sys
import time


class Wrong(Exception):
    pass


class Worker:
    def __init__(self, top, seed):
        self.rng = random.Random(seed)
        self.top = top
        self.files = {}
        os.makedirs(top, exist_ok=True)

    def path(self, name):
        return os.path.join(self.top, name)

    def bytes(self, most):
        return self.rng.randbytes(self.rng.randrange(1, most))

    def temp_and_rename(self, name):
        temp = self.path(name) + ".tmp"
        data = self.bytes(60000)
        flags = self.rng.choice([os.O_WRONLY, os.O_RDWR])
        fd = os.open(temp, flags | os.O_CREAT | os.O_TRUNC, 0o644)
        os.write(fd, data)
        if self.rng.random() < 0.2:
            os.fsync(fd)
        os.close(fd)
        os.rename(temp, self.path(name))
        self.files[name] = data

    def overwrite(self, name):
        self.files[name] = self.bytes(30000)
        with open(self.path(name), "wb") as f:
            f.write(self.files[name])

    def append(self, name):
        more = self.bytes(200)
        with open(self.path(name), "ab") as f:
            f.write(more)
        self.files[name] = self.files.get(name, b"") + more

    def store_by_mapping(self, name):
        data = self.files.get(name, b"")
        if len(data) < 100:
            return
        fd = os.open(self.path(name), os.O_RDWR)
        m = mmap.mmap(fd, 0)
        os.close(fd)
        at = self.rng.randrange(len(data) - 50)
        new = self.rng.randbytes(50)
        m[at:at + 50] = new
        m.close()
        self.files[name] = data[:at] + new + data[at + 50:]

    def unlink(self, name):
        if name in self.files:
            os.unlink(self.path(name))
            del self.files[name]

    def truncate(self, name):
        if name in self.files:
            size = self.rng.randrange(70000)
            os.truncate(self.path(name), size)
            self.files[name] = self.files[name][:size].ljust(size, b"\0")

    def rename(self, name):
        other = "f%d" % self.rng.randrange(12)
        if name in self.files and other != name:
            os.rename(self.path(name), self.path(other))
            self.files[other] = self.files.pop(name)

    def rewrite(self, name):
        if name in self.files:
            with open(self.path(name), "r+b") as f:
                f.seek(10)
                f.write(b"0123456789")
            data = self.files[name].ljust(20, b"\0")
            self.files[name] = data[:10] + b"0123456789" + data[20:]

    def read(self, name):
        if name not in self.files:
            if os.path.exists(self.path(name)):
                raise Wrong(f"{name} is there")
            return
        with open(self.path(name), "rb") as f:
            if f.read() != self.files[name]:
                raise Wrong(f"{name} has other bytes")
        if os.stat(self.path(name)).st_size != len(self.files[name]):
            raise Wrong(f"{name} has another size")

    def run(self, seconds):
        calls = [self.temp_and_rename, self.temp_and_rename, self.overwrite,
                 self.append, self.store_by_mapping, self.unlink,
                 self.truncate, self.rename, self.rewrite, self.read,
                 self.read]
        end = time.monotonic() + seconds
        count = 0
        while time.monotonic() < end:
            self.rng.choice(calls)("f%d" % self.rng.randrange(12))
            count += 1
        for name in list(self.files):
            self.read(name)
        if sorted(os.listdir(self.top)) != sorted(self.files):
            raise Wrong("the listing is another")
        return count


def main():
    top, seconds = sys.argv[1], float(sys.argv[2])
    processes, seed = int(sys.argv[3]), int(sys.argv[4])

    def one(i):
        count = Worker(os.path.join(top, f"w{i}"), seed + i).run(seconds)
        print(f"process {i}: {count} calls")

    children = [multiprocessing.Process(target=one, args=(i,))
                for i in range(processes)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    sys.exit(any(child.exitcode for child in children))


main()
