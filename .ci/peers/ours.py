"""The two ends of .ci/peers/ours, which have every extension, and what they say of each connection."""

import base64
import json
import subprocess

from bench import Failure, await_listener, port, stop, until


class Ours:
    """A running server of ours. SMTP is on its port smtp, over TLS on smtps, and behind the PROXY protocol on proxied."""

    def __init__(self, bench, name, *flags, smtp=None):
        self.name, self.bench, self.seen = name, bench, 0
        self.smtp, self.smtps, self.proxied = smtp or port(), port(), port()
        self.records = bench.path(name + ".records")
        at = "127.0.0.1:%d"
        self.proc = bench.start(
            name, bench.ours, "serve", "-addr", at % self.smtp, "-tls-addr", at % self.smtps, "-proxy-addr",
            at % self.proxied, "-cert", bench.cert, "-key", bench.key, "-records", self.records, *flags)
        for p in (self.smtp, self.smtps, self.proxied):
            await_listener(p, lambda: self.proc.poll() is None, lambda: bench.log(name + ".log"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        stop(self.proc)

    def all(self):
        """Return what is known of the connections that ended, without those on which nobody said a word."""
        with open(self.records) as f:
            lines = f.read().split("\n")[:-1]
        records = [json.loads(line) for line in lines]
        return [r for r in records if any(said.startswith("C: ") for said in r["dialogue"] or ())
                or r["error"].startswith("PROXY:") and r["error"] != "PROXY: EOF"]

    def mark(self):
        """Forget the connections so far."""
        self.seen = len(self.all())

    def take(self, wanted=lambda r: True, log=None):
        """Wait for the record of one more connection, of the kind that is wanted, and return it."""

        def new():
            return [r for r in self.all()[self.seen:] if wanted(r)]

        def missing():
            return f"a record of {self.name}; it has {self.all()[self.seen:]}\n" + (log.tail() if log else "")

        record = until(missing, new, 30, trouble=log.trouble if log else str)[0]
        self.mark()
        return record

    def message(self, log=None):
        """Wait for a connection with one message; return the message and the record of the connection."""
        record = self.take(lambda r: r["messages"], log)
        if len(record["messages"]) != 1:
            raise Failure(f"{len(record['messages'])} messages arrived where one was sent: {record}")
        message = record["messages"][0]
        message["content"] = base64.b64decode(message["content"])
        return message, record


def send(bench, at, *flags, file="", error=None):
    """Run our client and return what it says came of it. error is what its error has to contain; None: there is none."""
    words = [bench.ours, "send", "-server", f"127.0.0.1:{at}", "-ca", bench.cert, *flags] + ([file] if file else [])
    p = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    if p.returncode != 0:
        raise Failure(f"our client ended with {p.returncode}: {p.stderr.decode(errors='replace')}")
    outcome = json.loads(p.stdout)
    said = outcome["error"]
    if (error is None and said) or (error is not None and error not in said) or (error == "" and not said):
        raise Failure(f"the error is {said!r}, where {'none' if error is None else repr(error)} was due: {outcome}")
    return outcome


def check(facts, **right):
    """Fail unless the facts, of a record or an outcome, are these."""
    for name, want in right.items():
        if facts[name] != want:
            raise Failure(f"{name} is {facts[name]!r}, not {want!r}: {facts}")


def has(what, *words):
    """Fail unless all of words are in a text, or in the lines of a dialogue."""
    text = what if isinstance(what, str) else "\n".join(what or ())
    for word in words:
        if word not in text:
            raise Failure(f"there is no {word!r} in\n{text}")
