"""Mail software sends to examples/receive; every message has to be on its disk as it was sent."""

import glob
import json
import os
import re
import smtplib
import socket
import ssl

from bench import Failure, await_listener, port, run, same, same_after, stop, until
from messages import MESSAGES, canonical, stuffed
import exim
import postfix

USER, PASSWORD = "anna", "correct horse battery"
FROM, TO = "anna@client.example", ["bert@receive.example", "carla@receive.example"]
REJECT = [word for domain in ("receive.example", "smtp.relay.example", "submit.relay.example", "lmtp.relay.example")
          for word in ("-reject", "refused@" + domain)]
HERE = os.path.dirname(os.path.abspath(__file__))


class Receive:
    """A running examples/receive, on a port of each kind."""

    def __init__(self, bench, name, *flags):
        self.bench, self.name, self.seen = bench, name, set()
        self.dir = bench.mkdir(name)
        self.smtp, self.smtps, self.lmtp = port(), port(), port()
        at = "127.0.0.1:%d"
        self.proc = bench.start(
            name + "-run", bench.receive, "-addr", at % self.smtp, "-tls-addr", at % self.smtps,
            "-lmtp-addr", at % self.lmtp, "-cert", bench.cert, "-key", bench.key, "-hostname", "receive.example",
            "-user", f"{USER}:{PASSWORD}", "-user", "other:secret", "-max-size", str(64 << 20),
            *REJECT, "-dir", self.dir, *flags)
        for p in (self.smtp, self.smtps, self.lmtp):
            await_listener(p, lambda: self.proc.poll() is None, self.log)

    def log(self):
        return self.bench.log(self.name + "-run.log")

    def mark(self):
        """Forget what arrived so far, late messages of a case that failed included."""
        self.seen = set(glob.glob(self.dir + "/*.json"))

    def take(self, log=None):
        """Wait for exactly one more message; return its facts and its octets. log is that of a sender who queues."""

        def new():
            return set(glob.glob(self.dir + "/*.json")) - self.seen

        names = until(lambda: "receive to write a message:\n" + (log.tail() if log else self.log()), new,
                      trouble=log.trouble if log else str)
        self.seen |= names
        if len(names) > 1:
            raise Failure(f"{len(names)} messages arrived where one was sent")
        name = names.pop()
        with open(name) as f:
            facts = json.load(f)
        with open(name.removesuffix(".json") + ".eml", "rb") as f:
            return facts, f.read()

    def expect(self, want, added=(), to=None, log=None, tls=False, auth=""):
        """Take the next message and compare it, its envelope, and what is known of its sender."""
        facts, got = self.take(log)
        facts["tls"] = bool(facts["tls"])
        right = {"from": FROM, "to": to or TO, "tls": tls, "auth": auth}
        if facts | right != facts:
            raise Failure(f"the facts are {facts}, not {right}")
        if added:
            same_after(added, got, want)
        else:
            same(got, want)
        return facts

    def close(self):
        """End it with SIGTERM while a connection idles: that one is told 421, and receive succeeds."""
        with socket.create_connection(("127.0.0.1", self.smtp), 10) as s, s.makefile("rb") as r:
            r.readline()
            status = stop(self.proc)
            last = r.readline()
        if status != 0:
            raise Failure(f"receive ended with {status} on SIGTERM:\n{self.log()}")
        if not last.startswith(b"421 "):
            raise Failure(f"receive said {last!r} before it closed, not 421")
        left = [f for f in os.listdir(self.dir) if not f.endswith((".eml", ".json"))]
        if left:
            raise Failure(f"receive left {left} behind")


def each(report, name, receive, send, want=canonical, messages=MESSAGES, **kw):
    """Let a peer send every message, and compare what arrives. send returns an error text or None."""
    for which, message in messages.items():

        def once(which=which, message=message):
            receive.mark()
            if "log" in kw:
                kw["log"].mark()
            send(which, message)
            receive.expect(want(message), **kw)

        report.case(f"into/{name}/{which}", once)


# Python's smtplib.

def by_smtplib(bench, receive, kind, mechanism, to=TO):
    trust = ssl.create_default_context(cafile=bench.cert)

    def send(_, message):
        if kind == "tls":
            client = smtplib.SMTP_SSL("127.0.0.1", receive.smtps, timeout=60, context=trust)
        elif kind == "lmtp":
            client = smtplib.LMTP("127.0.0.1", receive.lmtp)
        else:
            client = smtplib.SMTP("127.0.0.1", receive.smtp, timeout=60)
        with client as s:
            if kind == "starttls":
                s.starttls(context=trust)
            s.ehlo_or_helo_if_needed()
            if mechanism:
                s.user, s.password = USER, PASSWORD
                s.auth(mechanism, s.auth_plain if mechanism == "PLAIN" else s.auth_login)
            refused = s.sendmail(FROM, to, message, ["BODY=8BITMIME"])
        if refused:
            raise Failure(f"refused: {refused}")

    return send


# A socket, for what no peer on Debian 12 sends: chunks of any size, and a whole session in one write.

def converse(receive, data):
    """Write data at once, read until the server closes, and return the codes of the replies."""
    with socket.create_connection(("127.0.0.1", receive.smtp), 60) as s, s.makefile("rb") as r:
        s.sendall(data)
        return [line[:3].decode() for line in r if line[3:4] == b" "]


def transaction(message, size):
    """Build MAIL, RCPT and the message in chunks of size octets, the last one empty (RFC 3030 section 4.2)."""
    envelope = f"MAIL FROM:<{FROM}> BODY=8BITMIME\r\n" + "".join(f"RCPT TO:<{to}>\r\n" for to in TO)
    chunks = [message[i:i + size] for i in range(0, len(message), size)]
    return envelope.encode() + b"".join(b"BDAT %d\r\n%s" % (len(c), c) for c in chunks) + b"BDAT 0 LAST\r\n", len(chunks)


def by_chunks(receive, size):
    def send(_, message):
        octets, n = transaction(message, max(size, len(message) // 500))
        codes = converse(receive, b"EHLO client.example\r\n" + octets + b"QUIT\r\n")
        want = ["220"] + ["250"] * (5 + n) + ["221"]
        if codes != want:
            raise Failure(f"replies {codes[:10]}…, not {want[:10]}…")

    return send


def two_in_one_write(receive):
    """Send two messages, the second right behind the first one's last chunk, and everything in one write."""
    first, second = MESSAGES["lone-dots"], MESSAGES["no-final-newline-dot"]
    one, n = transaction(first, 1)
    two, m = transaction(second, 7)
    codes = converse(receive, b"EHLO client.example\r\n" + one + two + b"QUIT\r\n")
    if codes != ["220"] + ["250"] * (1 + 4 + n + 4 + m) + ["221"]:
        raise Failure(f"replies {codes}")
    names = sorted(until("two messages", lambda: found(receive, 2)))
    receive.seen |= set(names)
    for name, want in zip(names, (first, second)):
        with open(name.removesuffix(".json") + ".eml", "rb") as f:
            same(f.read(), want)


def found(receive, n):
    new = set(glob.glob(receive.dir + "/*.json")) - receive.seen
    return new if len(new) >= n else None


# Command line clients.

def by_curl(bench, receive, kind, mechanism):
    url = f"smtps://127.0.0.1:{receive.smtps}" if kind == "tls" else f"smtp://127.0.0.1:{receive.smtp}"

    def send(which, _):
        to = [word for address in TO for word in ("--mail-rcpt", address)]
        run("curl", "--silent", "--show-error", "--url", url + "/client.example", "--ssl-reqd", "--cacert", bench.cert,
            "--user", f"{USER}:{PASSWORD}", "--login-options", "AUTH=" + mechanism, "--mail-from", FROM, *to,
            "--upload-file", bench.path(which + ".eml"))

    return send


def by_swaks(bench, at, *flags):
    def send(which, message):
        # swaks edits what it is given unless told not to, and then wants the content as it goes over the wire, up to
        # the dot and without the CRLF behind it.
        data = bench.write("swaks.data", stuffed(message)[:-2])
        run("swaks", "--server", f"127.0.0.1:{at}", "--ehlo", "client.example", "--from", FROM, "--to", ",".join(TO),
            "--data", "@" + data, "--no-data-fixup", "--hide-all", "--tls-ca-path", bench.cert, *flags)

    return send


MSMTP = """
account default
host 127.0.0.1
port {port}
domain client.example
from {sender}
tls on
tls_starttls {starttls}
tls_trust_file {cert}
tls_host_override peer.example
auth {mechanism}
user {user}
password {password}
set_from_header off
set_date_header off
set_msgid_header off
undisclosed_recipients off
"""


def by_msmtp(bench, receive, kind, mechanism):
    config = bench.write(f"msmtp-{kind}-{mechanism}", MSMTP.format(
        port=receive.smtps if kind == "tls" else receive.smtp, starttls="off" if kind == "tls" else "on", sender=FROM,
        cert=bench.cert, mechanism=mechanism.lower(), user=USER, password=PASSWORD))
    os.chmod(config, 0o600)

    def send(_, message):
        # msmtp reads the lines of a Unix file and writes those of SMTP.
        run("msmtp", "--file", config, "--", *TO, input=message.replace(b"\r\n", b"\n"))

    return send


def by_nodemailer(bench, receive, kind):
    def send(which, _):
        env = dict(os.environ, NODE_PATH="/usr/share/nodejs", NODE_EXTRA_CA_CERTS=bench.cert)
        run("/usr/bin/node", HERE + "/nodemailer.js", str(receive.smtps if kind == "tls" else receive.smtp), kind, USER,
            PASSWORD, bench.path(which + ".eml"), FROM, *TO, env=env)

    return send


# Mail systems that relay.

def relayed(at, domain):
    """Hand a message to a mail system for two recipients behind it, as one of its own clients would."""

    def send(_, message):
        with smtplib.SMTP("127.0.0.1", at, timeout=60) as s:
            s.sendmail(FROM, [a.replace("receive.example", domain) for a in TO], message, ["BODY=8BITMIME"])

    return send


def one_refused(system, receive, via):
    """Let a mail system relay to a recipient that is refused and one that is not: it has to hear so of the right one."""
    domain = via + ".relay.example"
    good, bad = "bert@" + domain, "refused@" + domain
    receive.mark()
    known = len(system.log.text())
    with smtplib.SMTP("127.0.0.1", system.chunking, timeout=60) as s:
        s.sendmail(FROM, [bad, good], MESSAGES["lone-dots"])
    facts, octets = receive.take()
    if facts["to"] != [good] or not octets.endswith(MESSAGES["lone-dots"]):
        raise Failure(f"{facts} and {octets!r} arrived")
    sent, refused = system.outcomes
    for address, outcome in ((good, sent), (bad, refused)):
        until(lambda: f"{address} to be reported:\n" + system.log.tail(),
              lambda: re.search(outcome % re.escape(address), system.log.text()[known:]))


def logged(system, pattern):
    """Check in a mail system's log that it did what the cases with it are about."""
    if not re.search(pattern, system.log.text()):
        raise Failure(f"nothing in the log matches {pattern!r}:\n{system.log.tail()}")


SUBMITTED = {"tls": True, "auth": USER}


def all_peers(report, bench, exim_binary, dovecot, transports, routes):
    """Run the cases and return the mail systems. They ask dovecot, and have more transports and routes than those here."""
    for which, message in MESSAGES.items():
        bench.write(which + ".eml", message)
    submission = Receive(bench, "submission", "-require-auth")
    relay = Receive(bench, "relay")
    mta = {
        "Postfix": postfix.Postfix(bench, USER, PASSWORD, {
            "smtp.relay.example": f"smtp:[127.0.0.1]:{relay.smtp}",
            "submit.relay.example": f"submit:[127.0.0.1]:{submission.smtp}",
            "lmtp.relay.example": f"lmtp:inet:[127.0.0.1]:{relay.lmtp}"} | transports, dovecot),
        "Exim": exim.Exim(bench, exim_binary, USER, PASSWORD, relay, submission, routes),
    }
    from_clients(report, bench, submission, relay)
    from_systems(report, mta, submission, relay)
    report.case("into/exim-smtp/in-chunks", logged, mta["Exim"], r"=> bert@smtp\.relay\.example .* K ")
    for server in (submission, relay):
        report.case(f"into/shutdown/{server.name}", server.close)
    return mta


def from_clients(report, bench, submission, relay):
    each(report, "smtplib-clear", relay, by_smtplib(bench, relay, "clear", None))
    # Python's LMTP reads one reply to the content, however many recipients there are (Python 3.11).
    each(report, "smtplib-lmtp", relay, by_smtplib(bench, relay, "lmtp", None, TO[:1]), to=TO[:1])
    each(report, "swaks-lmtp", relay, by_swaks(bench, relay.lmtp, "--protocol", "LMTP"))
    for size in (1, 1000, 1 << 20):
        each(report, f"chunks-{size}", relay, by_chunks(relay, size), want=bytes)
    report.case("into/chunks/two-in-one-write", two_in_one_write, relay)

    def submit(name, send):
        each(report, name, submission, send, **SUBMITTED)

    for kind in ("starttls", "tls"):
        for mechanism in ("PLAIN", "LOGIN"):
            way = f"{kind}-{mechanism.lower()}"
            submit("smtplib-" + way, by_smtplib(bench, submission, kind, mechanism))
            submit("curl-" + way, by_curl(bench, submission, kind, mechanism))
            submit("msmtp-" + way, by_msmtp(bench, submission, kind, mechanism))
        submit("nodemailer-" + kind, by_nodemailer(bench, submission, kind))
    tls = ("--tls", "--tls-verify", "--auth-user", USER, "--auth-password", PASSWORD, "--auth")
    submit("swaks-starttls-plain", by_swaks(bench, submission.smtp, *tls, "PLAIN"))
    submit("swaks-pipeline-login", by_swaks(bench, submission.smtp, "--pipeline", *tls, "LOGIN"))


def from_systems(report, mta, submission, relay):
    for name, system in mta.items():
        added = (postfix if name == "Postfix" else exim).RELAYED
        for via, server, facts in (("smtp", relay, {}), ("submit", submission, SUBMITTED), ("lmtp", relay, {})):
            domain = via + ".relay.example"
            to = [a.replace("receive.example", domain) for a in TO]
            send = relayed(system.chunking, domain)
            report.case(f"into/{name.lower()}-{via}/one-refused", one_refused, system, server, via)
            each(report, f"{name.lower()}-{via}", server, send, added=added, to=to, log=system.log, **facts)
