"""The bench that the peer tests stand on: results, processes, ports, certificates, files."""

import glob
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

WAIT = 20  # seconds for anything a peer has to do, 30 MB included


class Failure(Exception):
    """A case went wrong; the text says how."""


class Report:
    """Runs cases by name and counts them.

    A case listed in the exemptions file runs all the same and has to fail: an exemption that is no longer needed is
    itself a failure, so the list never outlives its reasons.
    """

    def __init__(self, exemptions, only):
        self.exempt = read_exemptions(exemptions)
        self.only = re.compile(only)
        self.seen, self.groups = set(), {}
        self.passed, self.failed, self.exempted = 0, 0, 0

    def case(self, name, fn, *args):
        self.seen.add(name)
        if not self.only.search(name):
            return
        group = name.rsplit("/", 1)[0]
        self.groups.setdefault(group, 0)
        start = time.monotonic()
        problem = None
        try:
            fn(*args)
        except Failure as e:
            problem = str(e)
        except (OSError, subprocess.SubprocessError, AssertionError, ValueError, KeyError, EOFError) as e:
            problem = "".join(traceback.format_exception_only(type(e), e)).strip()
        except Exception:  # a peer written in Python raises exceptions of its own
            problem = traceback.format_exc().strip()
        self.judge(name, problem, time.monotonic() - start)
        self.groups[group] += 1

    def judge(self, name, problem, seconds):
        if name in self.exempt:
            if problem:
                self.exempted += 1
                print(f"exempt {name}: {self.exempt[name]}", flush=True)
                return
            problem = "passes, so its line in the exemptions file has to go"
        if problem:
            self.failed += 1
            print(f"FAIL   {name} ({seconds:.2f}s)\n       " + problem.replace("\n", "\n       "), flush=True)
        else:
            self.passed += 1
            print(f"ok     {name} ({seconds:.2f}s)", flush=True)

    def close(self):
        """Print the totals and return whether everything that had to run did, and passed."""
        for name in sorted(set(self.exempt) - self.seen):
            self.failed += 1
            print(f"FAIL   {name}: exempted, but there is no such case", flush=True)
        if not self.passed:
            print("FAIL   no peer case passed", flush=True)
        print(f"peers: {self.passed} passed, {self.failed} failed, {self.exempted} exempt", flush=True)
        return self.passed > 0 and not self.failed


def read_exemptions(path):
    exempt = {}
    with open(path) as f:
        for line in f:
            if line.strip() and not line.startswith("#"):
                name, _, reason = line.strip().partition(" ")
                if not reason.strip():
                    raise SystemExit(f"{path}: {name} is exempted without a reason")
                exempt[name] = reason.strip()
    return exempt


class Bench:
    """A directory, a certificate and the processes of one run. Closing it ends and removes all of them."""

    def __init__(self, receive, send, ours):
        self.receive, self.send, self.ours = receive, send, ours
        self.dir = tempfile.mkdtemp(prefix="smtpkit-peers-")
        os.chmod(self.dir, 0o755)  # mail systems drop root and still have to reach their queues
        self.closers = []
        self.cert, self.key = self.certificate()
        # GnuTLS shows no certificate with a signature of the kind that RSA keys make by default.
        self.client_cert, self.client_key = self.certificate(
            "client-", "anna", ("ec", "-pkeyopt", "ec_paramgen_curve:P-256"))

    def certificate(self, prefix="", name="peer.example", kind=("rsa:2048",)):
        """Make a certificate that signs itself, for a name and the address 127.0.0.1."""
        cert, key = self.path(prefix + "cert.pem"), self.path(prefix + "key.pem")
        names = f"subjectAltName=DNS:localhost,DNS:{name},IP:127.0.0.1"
        run("openssl", "req", "-x509", "-newkey", *kind, "-nodes", "-days", "2", "-subj", "/CN=" + name,
            "-addext", names, "-keyout", key, "-out", cert)
        os.chmod(key, 0o644)  # a key for one run, read by servers under several users
        return cert, key

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def mkdir(self, *parts, user=None):
        path = self.path(*parts)
        os.makedirs(path)
        if user:
            shutil.chown(path, user)
        return path

    def write(self, name, content):
        path = self.path(name)
        with open(path, "wb") as f:
            f.write(content if isinstance(content, bytes) else content.encode())
        return path

    def start(self, name, *argv, **kw):
        """Start a program whose output goes to name.log, to be killed when the bench closes."""
        log = open(self.path(name + ".log"), "ab")
        with log:
            proc = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **kw)
        self.closers.append(lambda: stop(proc))
        return proc

    def log(self, name):
        with open(self.path(name), errors="replace") as f:
            return "".join(f.readlines()[-20:])

    def close(self):
        while self.closers:
            try:
                self.closers.pop()()
            except Exception:  # the others have to be ended whatever happens to one
                traceback.print_exc()
        left = self.running()
        shutil.rmtree(self.dir, ignore_errors=True)
        for pid in left:
            print(f"FAIL   process {pid} was left running and is killed: {cmdline(pid)}", flush=True)
            os.kill(pid, signal.SIGKILL)
        return not left

    def running(self):
        """List the processes other than this one that work in the bench's directory."""
        pids = [int(p) for p in os.listdir("/proc") if p.isdigit() and int(p) != os.getpid()]
        return [p for p in pids if self.dir in cmdline(p)]


class Maillog:
    """Reads the log of a mail system, and finds in it that a message could not be delivered."""

    def __init__(self, path, pattern):
        self.path, self.pattern, self.known = path, pattern, 0

    def problems(self):
        return re.findall(self.pattern, self.text(), re.M)

    def text(self):
        if not os.path.exists(self.path):
            return ""
        with open(self.path, errors="replace") as f:
            return f.read()

    def mark(self):
        """Forget the failures so far."""
        self.known = len(self.problems())

    def trouble(self):
        """Return what failed since the mark, or nothing."""
        return "\n".join(self.problems()[self.known:])

    def tail(self):
        return "\n".join(self.text().splitlines()[-15:])


class Maildir:
    """Hands out the messages that a mail system puts into a maildir."""

    def __init__(self, path, log):
        self.path, self.log, self.seen = path, log, set()

    def next(self):
        """Wait for one more message and return its octets, in the LF lines of a mailbox."""
        return self.take(1)[0]

    def take(self, n):
        """Wait for n more messages and return their octets."""

        def new():
            names = set(glob.glob(self.path + "/new/*")) - self.seen
            return names if len(names) >= n else None

        names = until(lambda: f"{n} deliveries:\n" + self.log.tail(), new, trouble=self.log.trouble)
        self.seen |= names
        if len(names) > n:
            raise Failure(f"{len(names)} messages were delivered where {n} were sent")
        messages = []
        for name in names:
            with open(name, "rb") as f:
                messages.append(f.read())
        return messages


def cmdline(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return f.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def stop(proc):
    """End a process politely, then not."""
    if proc.poll() is None:
        proc.terminate()
        try:
            return proc.wait(10)
        except subprocess.TimeoutExpired:
            proc.kill()
    return proc.wait()


def run(*argv, status=0, **kw):
    """Run a program to its end and return its output; any other status than the one given is a Failure."""
    kw.setdefault("timeout", WAIT)
    kw.setdefault("stdin", None if "input" in kw else subprocess.DEVNULL)
    if kw["stdin"] is None:
        del kw["stdin"]
    p = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **kw)
    out = p.stdout.decode(errors="replace")
    if p.returncode != status:
        raise Failure(f"{os.path.basename(argv[0])} ended with {p.returncode}, not {status}:\n{out[-2000:]}")
    return out


ports = iter(range(20000 + os.getpid() % 10000, 32000))


def port():
    """Find a free loopback port below those the kernel hands to clients, so that none of them takes it first."""
    for p in ports:
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", p))
                return p
            except OSError:
                continue
    raise Failure("no free port between 20000 and 32000")


def until(what, fn, seconds=WAIT, trouble=lambda: ""):
    """Ask fn until it returns something, and return that. It is a Failure when trouble returns something before."""
    deadline = time.monotonic() + seconds
    while True:
        value = fn()
        if value:
            return value
        if trouble():
            raise Failure(trouble())
        if time.monotonic() > deadline:
            raise Failure(f"waited {seconds}s for {what() if callable(what) else what}")
        time.sleep(0.01)


def await_listener(p, alive=lambda: True, log=lambda: "", host="127.0.0.1"):
    """Wait until something accepts connections on a port."""

    def connects():
        if not alive():
            raise SystemExit(f"the server for port {p} did not start:\n{log()}")
        try:
            socket.create_connection((host, p), 5).close()
            return True
        except OSError:
            return False

    try:
        until(f"port {p}", connects, 20)
    except Failure as e:
        raise SystemExit(f"{e}:\n{log()}")


def same(got, want):
    """Fail, showing the first octets that differ, unless both are equal."""
    if got == want:
        return
    n = min(len(got), len(want))
    at = n if got[:n] == want[:n] else next(i for i in range(n) if got[i] != want[i])
    lo = max(0, at - 20)
    raise Failure(
        f"{len(got)} octets arrived where {len(want)} were sent; they differ from octet {at} on:\n"
        f"got  {got[lo:at + 40]!r}\nwant {want[lo:at + 40]!r}"
    )


def same_after(added, got, want):
    """Like same, where the peer puts header fields of the given names in front, as trace fields are meant to be."""
    end = len(got) - len(want)
    field = rb"(?:(?:%s):[^\n]*\n(?:[ \t][^\n]*\n)*)*" % "|".join(added).encode()
    # A peer that has to put a field in front of a message without a header ends the header it has begun.
    if end > 0 and re.fullmatch(field + rb"(?:\r?\n)?", got[:end], re.I):
        return same(got[end:], want)
    m = re.match(field, got, re.I)
    same(got[m.end():], want)


def die(text):
    sys.exit(f"peers: {text}")
