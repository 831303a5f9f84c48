"""Mail software sends to examples/mx, a server for port 25, whose names come from a small DNS of our own."""

import glob
import re
import smtplib
import socket
import struct
import threading

from bench import Failure, Maildir, await_listener, port, run, same_after, until
from into import FROM, TO
from messages import MESSAGES, canonical, stuffed

DOMAIN = "mx.example"
RECIPIENTS = ["bert@receive.example", "carla@receive.example", "dora@" + DOMAIN]
ADDED = ("Return-Path", "Delivered-To", "Received")
LISTED, ANSWERS = "9.9.9.9", {"2.0.0.127.bl.example": "127.0.0.2", "9.9.9.9.bl.example": "127.0.0.3"}
DELAY = 2  # seconds that greylisting puts off


class Names:
    """A DNS that has the addresses in ANSWERS, and says of all other names that they do not exist."""

    def __init__(self, bench):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()
        bench.closers.append(self.close)

    def serve(self):
        while True:
            query, client = self.socket.recvfrom(4096)
            if not query:
                return
            self.socket.sendto(answer(query), client)

    def close(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.sendto(b"", ("127.0.0.1", self.port))


def answer(query):
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode("latin-1"))
        at += 1 + query[at]
    question = query[12:at + 5]
    kind, = struct.unpack("!H", query[at + 1:at + 3])
    address = ANSWERS.get(".".join(labels).lower())
    found = address is not None and kind == 1
    code = 0 if address is not None else 3
    head = query[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, found, 0, 0)
    record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + socket.inet_aton(address) if found else b""
    return head + question + record


class MX:
    """A running examples/mx."""

    def __init__(self, bench, binary, names, name, *flags):
        self.bench, self.name, self.dir, self.port = bench, name, bench.mkdir(name), port()
        recipients = bench.write(name + "/recipients", "\n".join(RECIPIENTS) + "\n")
        self.proc = bench.start(
            name + "-run", binary, "-addr", "127.0.0.1:%d" % self.port, "-hostname", "mx.example", "-cert", bench.cert,
            "-key", bench.key, "-domain", "receive.example", "-domain", DOMAIN, "-recipients", recipients, "-mail",
            self.dir + "/mail", "-greylist", self.dir + "/greylist", "-delay", f"{DELAY}s", "-resolver",
            "127.0.0.1:%d" % names.port, "-dnsbl", "bl.example", *flags)
        await_listener(self.port, lambda: self.proc.poll() is None, self.tail)

    def tail(self):
        return self.bench.log(self.name + "-run.log")

    def inbox(self, address):
        """Return the Maildir of a recipient, which forgets what is in it."""
        local, _, domain = address.partition("@")
        box = Maildir(f"{self.dir}/mail/{domain}/{local}", self)
        box.seen = set(glob.glob(box.path + "/new/*"))
        return box

    def trouble(self):
        return ""


class Servers:
    """One for clients that connect to it, and two behind a proxy, which swaks plays; the last takes little mail."""

    def __init__(self, bench, binary):
        names = Names(bench)
        self.direct = MX(bench, binary, names, "mx-direct", "-rate", "600")
        self.proxied = MX(bench, binary, names, "mx-proxied", "-proxy", "127.0.0.0/8", "-rate", "600")
        self.strict = MX(bench, binary, names, "mx-strict", "-proxy", "127.0.0.0/8", "-rate", "3")

    def transports(self):
        return {DOMAIN: "smtp:[127.0.0.1]:%d" % self.direct.port}


def swaks(bench, mx, source, message, *flags, to=TO, status=0):
    """Send a message from a source address. Return what swaks tells."""
    data = bench.write("swaks.mx", stuffed(message)[:-2])
    return run("swaks", "--server", f"127.0.0.1:{mx.port}", "--ehlo", "client.example", "--from", FROM, "--to",
               ",".join(to), "--data", "@" + data, "--no-data-fixup", "--hide-informational", "--tls-ca-path", bench.cert,
               "--proxy-version", "1", "--proxy-family", "TCP4", "--proxy-source", source, "--proxy-source-port", "4711",
               "--proxy-dest", "192.0.2.25", "--proxy-dest-port", "25", *flags, status=status)


def has(text, *parts):
    for part in parts:
        if part not in text:
            raise Failure(f"no {part!r} in:\n{text}")


def greylisted(bench, mx, which, source, *flags):
    """The first attempt is put off, also for each of the recipients; a later one is delivered, with its trace."""
    message = MESSAGES[which]
    boxes = [mx.inbox(to) for to in TO]
    has(swaks(bench, mx, source, message, *flags, status=24), "451 4.7.1 ")
    # What comes too early is put off again, so this may take several attempts, and no message comes twice.
    accepted = []

    def again():
        try:
            accepted.append(swaks(bench, mx, source, message, *flags))
        except Failure:
            return None
        return accepted

    until(lambda: "mx to accept an attempt that comes later:\n" + mx.tail(), again, trouble=str)
    protocol = "ESMTPS" if flags else "ESMTP"
    for to, box in zip(TO, boxes):
        got = box.take(1)[0]
        same_after(ADDED, got, canonical(message).replace(b"\r\n", b"\n"))
        head = re.sub(rb"\s+", b" ", got[:2000]).decode("latin-1")
        has(head, f"Return-Path: <{FROM}>", f"Delivered-To: {to}",
            f"Received: from client.example ([{source}]) by mx.example with {protocol} ")


def refused(bench, mx, source, to, reply):
    has(swaks(bench, mx, source, MESSAGES["plain"], to=[to], status=24), reply)


def too_many(bench, mx):
    """The fourth message of a minute is put off, whatever the others were for."""
    for _ in range(3):
        refused(bench, mx, "203.0.113.9", "nobody@" + DOMAIN, "550 5.1.1 ")
    has(swaks(bench, mx, "203.0.113.9", MESSAGES["plain"], to=["nobody@" + DOMAIN], status=23), "450 4.7.1 ")
    refused(bench, mx, "203.0.113.10", "nobody@" + DOMAIN, "550 5.1.1 ")  # another client


def relayed(bench, mx, postfix):
    """Postfix is put off, keeps the message in its queue, and delivers it when the queue runs again."""
    box, known = mx.inbox("dora@" + DOMAIN), len(postfix.log.text())
    with smtplib.SMTP("127.0.0.1", postfix.data, timeout=60) as s:
        s.sendmail(FROM, ["dora@" + DOMAIN], MESSAGES["plain"], ["BODY=8BITMIME"])

    def log(pattern):
        """What the log says of this message: a queue that runs has others too."""
        return lambda: re.search(r"to=<dora@mx\.example>.* " + pattern, postfix.log.text()[known:])

    until(lambda: "Postfix to be put off:\n" + postfix.log.tail(), log(r"status=deferred .* said: 451 4\.7\.1 "))

    def again():
        run("postqueue", "-c", postfix.dir + "/etc", "-f")
        return log(r"status=sent \(250 2\.0\.0 ")()

    until(lambda: "Postfix to deliver the message:\n" + postfix.log.tail(), again)
    same_after(ADDED + ("Received",), box.take(1)[0], canonical(MESSAGES["plain"]).replace(b"\r\n", b"\n"))


def all_peers(report, bench, servers, postfix):
    proxied = servers.proxied
    for n, which in enumerate(MESSAGES):
        report.case(f"mx-server/swaks/{which}", greylisted, bench, proxied, which, f"198.51.{100 + n}.7")
    report.case("mx-server/swaks/starttls", greylisted, bench, proxied, "plain", "198.51.200.7", "--tls", "--tls-verify")
    report.case("mx-server/swaks/unknown", refused, bench, proxied, "192.0.2.1", "nobody@" + DOMAIN, "550 5.1.1 ")
    report.case("mx-server/swaks/relay", refused, bench, proxied, "192.0.2.2", "x@client.example", "550 5.7.1 ")
    report.case("mx-server/swaks/listed", refused, bench, proxied, LISTED, TO[0], "554 5.7.1 9.9.9.9 is listed by bl.example")
    report.case("mx-server/swaks/rate", too_many, bench, servers.strict)
    report.case("mx-server/postfix", relayed, bench, servers.direct, postfix)
