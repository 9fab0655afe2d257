"""Issue 5, must-hold 7: applied-but-unanswered requests, mixed with another
writer's changes: lost_answers.py TIMES SEED

A second host writes the same names, and a tool edits metadata, before and
after the request whose answer is lost.  After each change the store, this
host and the number of conflicts are what they must be; in the end every
version that was not replaced on purpose is somewhere.
"""
import random
import subprocess
import sys

from wb import *  # noqa: F403

TIMES, SEED = int(sys.argv[1]), int(sys.argv[2])
OTHER = os.environ["MNT2"]
rng = random.Random(SEED)
shown = {}  # name -> bytes that everybody must see
beside = []  # bytes of conflict copies
number = 0
log = Log()


def version(who):
    global number
    number += 1
    data = b"%s %d\n" % (who.encode(), number)
    # Sometimes in blocks: proven by their list.
    return data + os.urandom(LARGE) if rng.randrange(60) == 0 else data * 5


LARGE = BLOCK + 1000


def lose(op, name, count=1):
    fault("reset-after", op=op, name=name, count=count)


def write_here(name, data):
    """The answer to its request will be lost."""
    lose("commit" if len(data) > BLOCK else "put", name)
    write(name, data)


def flush_while_asleep(meanwhile, name):
    """The request is applied; before this host knows, somebody else acts."""
    hook(op="head", name=name, count=1)
    release_while_asleep(meanwhile)


def release_while_asleep(meanwhile):
    flushing = subprocess.Popen([FOREBAY, "flush", MNT])
    is_held()
    meanwhile()
    release()
    eq("flush", flushing.wait(60), 0)


def write_there(name, data):
    write(name, data, mnt=OTHER)
    flush(OTHER)


def any_name():
    return "n%02d" % rng.randrange(12)


def alone(name):
    data = version("ours")
    write_here(name, data)
    flush()
    shown[name] = data


def superseded(name):
    ours, theirs = version("ours"), version("theirs")

    def meanwhile():
        eq("what the other reads", read(name, OTHER), ours)
        write_there(name, theirs)

    write_here(name, ours)
    flush_while_asleep(meanwhile, name)
    shown[name] = theirs


def key_dropped(name):
    data = version("ours")
    write_here(name, data)
    flush_while_asleep(lambda: set_meta(name, note="tool"), name)
    shown[name] = data


def overtaken(name):
    """They were first: our request is refused, theirs is shown, ours stays."""
    ours, theirs = version("ours"), version("theirs")
    with open(path(name), "wb") as f:
        f.write(ours)
        write_there(name, theirs)
    lose("put", "*.conflict-*")
    flush()
    shown[name] = theirs
    beside.append(ours)


def both_there(name):
    """They were first, and their answer is lost."""
    ours, theirs = version("ours"), version("theirs")
    with open(path(name), "wb") as f:
        f.write(ours)
        lose("commit" if len(theirs) > BLOCK else "put", name)
        write_there(name, theirs)
    flush()
    shown[name] = theirs
    beside.append(ours)


def same_bytes(name):
    data = version("both")
    with open(path(name), "wb") as f:
        f.write(data)
        write_there(name, data)
    lose("put", name)
    flush()
    faults_off()
    shown[name] = data


def chmod(name):
    lose("setmeta", name)
    os.chmod(path(name), rng.choice([0o600, 0o640, 0o644, 0o755]))
    flush()
    faults_off()


def rename(name):
    to = any_name()
    if to == name:
        return
    for op in ("copy", "put"):
        lose(op, to)
    lose("delete", name)
    os.rename(path(name), path(to))
    flush()
    faults_off()
    shown[to] = shown.pop(name)


def unlink(name):
    lose("delete", name)
    os.unlink(path(name))
    flush()
    del shown[name]


def made_again(name):
    """Deleted, no answer, and there again by somebody else."""
    theirs = version("theirs")
    lose("delete", name)
    hook(op="delete", name=name, count=1)  # it does not wait for a flush
    os.unlink(path(name))
    is_held()
    hook(op="head", name=name, count=1)
    release(count=1, keep=1)
    wait("the deletion", lambda: log.nr(name, "delete"))
    log.mark()
    release_while_asleep(lambda: write_there(name, theirs))
    shown[name] = theirs


def check(name, what):
    if name in shown:
        true("%s %s: the store" % (what, name), get(name) == shown[name])
        true("%s %s: here" % (what, name), read(name) == shown[name])
    else:
        eq("%s %s: the store" % (what, name), head(name), None)
        true("%s %s: here" % (what, name), not os.path.exists(path(name)))
    eq("%s %s: conflicts" % (what, name), conflicts(), len(beside))


@claim("%d lost answers among another writer's changes, seed %d" % (TIMES, SEED))
def _():
    new = [alone, superseded, key_dropped]
    old = new + [overtaken, both_there, same_bytes, chmod, rename, unlink,
                 made_again]
    mount(OTHER, CACHE + ".2", "freshness=0")
    while json.loads(ctl("GET", "counts"))["faults"] < TIMES:
        name = any_name()
        # Few conflicts a name: there is a limit.
        change = rng.choice(old if name in shown else new)
        if change in (overtaken, both_there) and rng.randrange(4):
            change = superseded
        try:
            change(name)
        except (OSError, Failed) as e:
            raise Failed("%s %s: %s" % (change.__name__, name, e)) from e
        faults_off()
        check(name, change.__name__)


@claim("no version is lost, here, there and in the store")
def _():
    for mnt in (MNT, OTHER):
        files = os.listdir(mnt)
        names = sorted(n for n in files if ".conflict-" not in n)
        eq("names", names, sorted(shown))
        for name in names:
            true("%s in %s" % (name, mnt), read(name, mnt) == shown[name])
        copies = sorted(read(n, mnt) for n in files if ".conflict-" in n)
        true("conflict copies in %s: %d of %d" % (mnt, len(copies), len(beside)),
             copies == sorted(beside))
    eq("set aside", status("set_aside"), 0)
    print("  %d answers lost, %d changes, %d true conflicts" % (
        json.loads(ctl("GET", "counts"))["faults"], number, len(beside)))
    umount(OTHER)


run()
