"""examples/send sends to mail software; every message has to arrive as it was, and every outcome has to be told."""

import logging
import ssl
import subprocess
import sys
import threading

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult

from bench import Failure, port, same, same_after
from into import FROM, PASSWORD, USER, Receive, logged
from messages import MESSAGES, canonical
from sink import Sink
import dovecot
import exim
import postfix

TO = "bert@receive.example"
FULL = ("PIPELINING", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "SIZE 67108864")
CHUNKS = ("CHUNKING",)

# The exit status of send, from sysexits.h where it has a name for it.
SOME_REFUSED, BAD_DATA, REFUSED, TEMPORARY, PROTOCOL, SECURITY = 1, 65, 69, 75, 76, 77


def send(bench, at, *flags, file, to=(TO,), status=0, sender=FROM, stdin=b"", tls="none"):
    """Run send, check its exit status, and return its lines: one for each recipient on standard output, and the rest."""
    args = [bench.send, "-server", f"127.0.0.1:{at}", "-tls", tls, "-ca", bench.cert, "-server-name", "peer.example",
            "-helo", "client.example", "-timeout", "30s", "-from", sender]
    for address in to:
        args += ["-to", address]
    p = subprocess.run([*args, *flags, file], input=stdin, capture_output=True, timeout=120)
    out, err = p.stdout.decode(errors="replace"), p.stderr.decode(errors="replace")
    if p.returncode != status:
        raise Failure(f"send ended with {p.returncode}, not {status}:\n{out}{err[-1500:]}")
    return out.splitlines(), err


def each(report, bench, name, at, arrived, *flags, messages=MESSAGES, want=canonical, added=(), log=None, **kw):
    """Send every message, and compare it with what arrived, asked after each, returns."""
    for which in messages:

        def once(which=which, message=messages[which]):
            if log:
                log.mark()
            send(bench, at, *flags, file=bench.path(which + ".eml"), **kw)
            got = arrived()
            if added:
                same_after(added, got, want(message))
            else:
                same(got, want(message))

        report.case(f"out-of/{name}/{which}", once)


def mailbox(message):
    """Return a message in the LF lines of a mailbox."""
    return canonical(message).replace(b"\r\n", b"\n")


def latest(sink):
    """Read the one message that came since the last call."""
    seen = len(sink.messages())

    def arrived():
        nonlocal seen
        new = sink.messages()[seen:]
        seen += len(new)
        if len(new) != 1:
            raise Failure(f"{len(new)} messages arrived where one was sent")
        sender, to, octets = new[0]
        if (sender, to) != (FROM, [TO]):
            raise Failure(f"the envelope was {sender} {to}")
        return octets

    return arrived


# Python's servers.

class Keep:
    """The handler of aiosmtpd and, through process_message, of the old smtpd: it keeps the last message."""

    def __init__(self):
        self.got = []

    async def handle_DATA(self, server, session, envelope):
        self.got.append(envelope.content)
        return "250 2.0.0 kept"

    def take(self):
        if len(self.got) != 1:
            raise Failure(f"{len(self.got)} messages arrived where one was sent")
        return self.got.pop()


def aiosmtpd(bench, keep):
    logging.getLogger("mail.log").setLevel(logging.ERROR)  # it warns of its own API at each AUTH
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(bench.cert, bench.key)

    def authenticate(server, session, envelope, mechanism, data):
        good = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=good, handled=good)

    class Quiet(Controller):
        def factory(self):
            return SMTP(keep, tls_context=context, require_starttls=True, auth_required=True, authenticator=authenticate,
                        data_size_limit=64 << 20, hostname="aiosmtpd.example")

    controller = Quiet(keep, hostname="127.0.0.1", port=port())
    controller.start()
    bench.closers.append(controller.stop)
    return controller.port


def smtpd(bench, keep):
    """Start the server of Python's standard library, which had one until 3.11; its content has no last CRLF."""
    import asyncore
    import smtpd as old

    class Server(old.SMTPServer):
        def process_message(self, peer, mailfrom, rcpttos, data, **_):
            keep.got.append(data.replace(b"\n", b"\r\n") + b"\r\n")

    server = Server(("127.0.0.1", 0), None, data_size_limit=64 << 20)
    threading.Thread(target=asyncore.loop, args=(0.05,), daemon=True).start()
    return server.socket.getsockname()[1]


# One sender, refused in every way.

def outcomes(report, bench):
    """Check the exit status and the lines of every outcome that a server can cause."""
    good, bad = "good@receive.example", "bad@receive.example"
    both = (good, bad)
    cases = {
        "all-accepted": (0, both, {}),
        "one-refused": (SOME_REFUSED, both, {f"RCPT TO:<{bad}>": "550 5.1.1 nobody here"}),
        "one-deferred": (SOME_REFUSED, both, {f"RCPT TO:<{bad}>": "450 4.2.1 not now"}),
        "all-refused": (REFUSED, both, {"RCPT": "550 5.1.1 nobody here"}),
        "all-deferred": (TEMPORARY, both, {"RCPT": "450 4.2.1 not now"}),
        "sender-refused": (REFUSED, (good,), {"MAIL": "550 5.7.1 not you"}),
        "sender-deferred": (TEMPORARY, (good,), {"MAIL": "451 4.7.1 later"}),
        "data-refused": (REFUSED, (good,), {"DATA": "554 5.7.1 no"}),
        "content-refused": (REFUSED, (good,), {".": "554 5.6.0 not that"}),
        "content-deferred": (TEMPORARY, (good,), {".": "452 4.3.1 no room"}),
        "greeting-421": (TEMPORARY, (good,), {"CONNECT": "421 4.3.2 closing"}),
        "greeting-not-smtp": (PROTOCOL, (good,), {"CONNECT": "SSH-2.0-OpenSSH_9.2"}),
        "reply-not-smtp": (PROTOCOL, (good,), {"MAIL": "okay"}),
        "hang-up-in-mail": (TEMPORARY, (good,), {"MAIL": ""}),
        "hang-up-before-reply": (TEMPORARY, (good,), {".": ""}),
    }
    for keywords, kind in ((FULL, "pipelined"), ((), "lock-step"), (FULL + CHUNKS, "chunked")):
        for name, (status, to, replies) in cases.items():
            if kind == "chunked" and name in ("data-refused",):
                continue  # there is no DATA to refuse
            report.case(f"out-of/outcome-{kind}/{name}", outcome, bench, keywords, status, to, replies)


def outcome(bench, keywords, status, to, replies):
    sink = Sink(bench, keywords, replies=replies)
    out, err = send(bench, sink.port, file=bench.path("plain.eml"), to=to, status=status)
    kept = sink.messages()
    if len(kept) != (1 if status in (0, SOME_REFUSED) else 0):
        raise Failure(f"the server kept {len(kept)} messages")
    if status in (PROTOCOL,) or "CONNECT" in replies or "" in replies.values():
        if not err.strip():
            raise Failure("nothing on standard error said what was wrong")
        return
    for address in to:
        code = "250"
        for prefix, reply in replies.items():
            if not prefix.startswith("RCPT TO:") or address in prefix:
                code = reply[:3]
        line = [one for one in out if address in one]
        if len(line) != 1 or code not in line[0]:
            raise Failure(f"one line for {address} with the code {code} was due, but send printed\n" + "\n".join(out))


def security(report, bench):
    """Check what is said in clear and what is not, and the status where the security asked for cannot be had."""
    auth = ("-user", USER, "-pass", PASSWORD)
    users = {USER: PASSWORD}

    def case(name, status, kind, mode, *flags, keywords=FULL, check=lambda sink: True, garbled=False):
        def once():
            sink = Sink(bench, keywords, kind, users)
            send(bench, sink.port, *flags, file=bench.path("plain.eml"), status=status, tls=mode)
            if not garbled:
                sink.messages()
            if any(c.startswith("MAIL") for c in sink.commands()) != (status == 0):
                raise Failure(f"commands: {sink.commands()}")
            if not check(sink):
                raise Failure(f"commands: {sink.commands()}, TLS: {[s.secure for s in sink.sessions]}")

        report.case("out-of/security/" + name, once)

    def secure(sink):
        return all(s.secure for s in sink.sessions)

    def secret(sink):
        return not any(c.startswith("AUTH") for c in sink.commands())

    offer = FULL + ("AUTH PLAIN LOGIN",)
    case("required-without-starttls", SECURITY, "", "required")
    case("required", 0, "starttls", "required", check=secure)
    case("implicit", 0, "implicit", "implicit", check=secure)
    case("opportunistic-with-starttls", 0, "starttls", "opportunistic", check=secure)
    case("opportunistic-without-starttls", 0, "", "opportunistic")
    case("if-offered-with-starttls", 0, "starttls", "if-offered", check=secure)
    case("if-offered-without-starttls", 0, "", "if-offered")
    case("if-offered-certificate-of-another-name", SECURITY, "starttls", "if-offered", "-server-name", "other.example")
    case("if-offered-auth-not-in-clear", SECURITY, "", "if-offered", *auth, keywords=offer, check=secret)
    case("none-with-starttls", 0, "starttls", "none", check=lambda sink: not secure(sink))
    case("certificate-of-another-name", SECURITY, "starttls", "required", "-server-name", "other.example")
    case("certificate-of-another-authority", SECURITY, "starttls", "required", "-ca",
         bench.certificate("other-")[0])
    case("implicit-to-a-clear-port", SECURITY, "", "implicit", garbled=True)
    case("wrong-password", SECURITY, "starttls", "required", "-user", USER, "-pass", "wrong", keywords=offer)
    case("no-auth-offered", SECURITY, "starttls", "required", *auth)
    case("auth-not-in-clear", SECURITY, "", "opportunistic", *auth, keywords=offer, check=secret)


def connections(bench):
    """-count N sends the message N times over one connection."""
    for keywords in (FULL, FULL + CHUNKS, ()):
        sink = Sink(bench, keywords)
        send(bench, sink.port, "-count", "5", file=bench.path("lone-dots.eml"))
        got = sink.messages()
        if len(got) != 5 or len(sink.sessions) != 1:
            raise Failure(f"{len(got)} messages over {len(sink.sessions)} connections")
        for _, _, octets in got:
            same(octets, MESSAGES["lone-dots"])


def stream(bench, system, at):
    """Send many messages over one connection to a mail system that reads them its own way."""
    system.log.mark()
    send(bench, at, "-count", "50", file=bench.path("lone-dots.eml"), tls="required")
    for octets in system.inbox.take(50):
        if not octets.endswith(mailbox(MESSAGES["lone-dots"])):
            raise Failure(f"one of the messages is {octets!r}")


def many_recipients(bench, receive):
    """Name hundreds of recipients, every tenth of them refused: the lines have to tell them apart."""
    to = [f"user{n}@receive.example" if n % 10 else "refused@receive.example" for n in range(1, 501)]
    out, _ = send(bench, receive.smtp, file=bench.path("plain.eml"), to=to, status=SOME_REFUSED)
    receive.expect(MESSAGES["plain"], to=[address for address in to if not address.startswith("refused")])
    if len(out) != len(to):
        raise Failure(f"{len(out)} lines for {len(to)} recipients")
    for address, line in zip(to, out):
        code = "550" if address.startswith("refused") else "250"
        if address not in line or code not in line:
            raise Failure(f"the line for {address} is {line!r}")


def bad_input(report, bench):
    """Refuse what cannot be sent before anything is said to the server."""

    def case(name, **kw):
        def once():
            sink = Sink(bench, FULL)
            send(bench, sink.port, **{"file": bench.path("plain.eml"), "status": BAD_DATA, **kw})
            sink.messages()
            if any(c.startswith(("MAIL", "RCPT")) for c in sink.commands()):
                raise Failure(f"commands: {sink.commands()}")

        report.case("out-of/bad-input/" + name, once)

    case("recipient-without-domain", to=("bert@",))
    case("recipient-with-a-command", to=("bert@receive.example>\r\nRCPT TO:<mallory@receive.example",))
    case("sender-with-a-space", sender="an na@client.example")
    case("sender-with-a-command", sender="anna@client.example>\r\nDATA")


def refusals(bench, receive):
    """Check the lines and status for examples/receive itself: a refused recipient beside a good one, and alone."""
    receive.mark()
    bad = "refused@receive.example"
    out, _ = send(bench, receive.smtp, file=bench.path("plain.eml"), to=(TO, bad), status=SOME_REFUSED)
    receive.expect(MESSAGES["plain"], to=[TO])
    if not any(bad in line and "550" in line for line in out) or not any(TO in line and "250" in line for line in out):
        raise Failure("send printed\n" + "\n".join(out))
    send(bench, receive.smtp, file=bench.path("plain.eml"), to=(bad,), status=REFUSED)
    send(bench, receive.lmtp, "-lmtp", file=bench.path("plain.eml"), to=(bad, TO), status=SOME_REFUSED)
    receive.expect(MESSAGES["plain"], to=[TO])


def from_stdin(bench, receive):
    """Send what is read from standard input."""
    for which in ("lone-dots", "30MB"):
        send(bench, receive.smtp, file="-", stdin=MESSAGES[which])
        receive.expect(MESSAGES[which], to=[TO])
    # A file of a Unix system has LF lines, and goes out in CRLF ones.
    send(bench, receive.smtp, file="-", stdin=mailbox(MESSAGES["leading-dots"]))
    receive.expect(MESSAGES["leading-dots"], to=[TO])


def all_peers(report, bench, mta, server):
    to_python(report, bench)
    to_dovecot(report, bench, server)
    to_sinks(report, bench)
    to_receive(report, bench)
    for name, system in mta.items():
        added = (postfix if name == "Postfix" else exim).DELIVERED
        for way, at in (("chunking", system.chunking), ("data", system.data)):
            each(report, bench, f"{name.lower()}-{way}", at, system.inbox.next, tls="required", want=mailbox, added=added,
                 log=system.log)
            report.case(f"out-of/{name.lower()}-{way}/stream", stream, bench, system, at)
    report.case("out-of/postfix-chunking/in-chunks", logged, mta["Postfix"], r" mail=\d+ rcpt=\d+ bdat=\d")
    report.case("out-of/postfix-data/in-lines", logged, mta["Postfix"], r" mail=(\d+) rcpt=\1 data=\1 quit=1")
    report.case("out-of/exim-chunking/in-chunks", logged, mta["Exim"], r"<= anna@client\.example .* K ")
    outcomes(report, bench)
    security(report, bench)
    bad_input(report, bench)
    report.case("out-of/count/one-connection", connections, bench)


def to_python(report, bench):
    keep = Keep()
    auth = ("-user", USER, "-pass", PASSWORD)
    each(report, bench, "aiosmtpd", aiosmtpd(bench, keep), keep.take, *auth, tls="required")
    if sys.version_info < (3, 12):
        each(report, bench, "smtpd", smtpd(bench, keep), keep.take)


def to_sinks(report, bench):
    auth = ("-user", USER, "-pass", PASSWORD)
    users = {USER: PASSWORD}
    seven = {which: message for which, message in MESSAGES.items() if message.isascii()}
    for name, keywords, kind, flags, messages in (
        ("data", FULL, "", (), MESSAGES),
        ("chunking", FULL + CHUNKS, "", (), MESSAGES),
        ("starttls-plain", FULL + ("AUTH PLAIN",), "starttls", auth, MESSAGES),
        ("implicit-login", FULL + CHUNKS + ("AUTH LOGIN",), "implicit", auth, MESSAGES),
        ("bare", (), "", (), seven),
    ):
        sink = Sink(bench, keywords, kind, users)
        tls = {"": "none", "starttls": "required", "implicit": "implicit"}[kind]
        each(report, bench, "sink-" + name, sink.port, latest(sink), *flags, messages=messages, tls=tls,
             want=bytes if "CHUNKING" in keywords else canonical)
    sink = Sink(bench, replies={"EHLO": "502 5.5.1 not known here"})
    each(report, bench, "sink-helo", sink.port, latest(sink), messages=seven)


def to_dovecot(report, bench, server):
    """Deliver into Dovecot's mailboxes by LMTP, and be told of each recipient whether he has one."""
    to = f"{USER}@receive.example"

    def in_lines(message):  # Dovecot takes chunks, which carry a last line without an end as it is
        return message.replace(b"\r\n", b"\n")

    each(report, bench, "dovecot-lmtp", server.lmtp, server.inbox.next, "-lmtp", want=in_lines,
         added=dovecot.DELIVERED, log=server.log, to=(to,))

    def refused():
        server.log.mark()
        out, _ = send(bench, server.lmtp, "-lmtp", file=bench.path("plain.eml"), to=("nobody@receive.example", to),
                      status=SOME_REFUSED)
        same_after(dovecot.DELIVERED, server.inbox.next(), mailbox(MESSAGES["plain"]))
        if not any("nobody@" in line and "550 5.1.1" in line for line in out):
            raise Failure("send printed\n" + "\n".join(out))

    report.case("out-of/dovecot-lmtp/one-refused", refused)


def to_receive(report, bench):
    auth = ("-user", USER, "-pass", PASSWORD)
    open_, closed = Receive(bench, "open"), Receive(bench, "closed", "-require-auth")

    def taken(server):
        def arrived():
            facts, octets = server.take()
            if (facts["from"], facts["to"]) != (FROM, [TO]):
                raise Failure(f"the envelope was {facts}")
            return octets

        return arrived

    # Chunks carry a message as it is, one whose last line has no end included (RFC 3030 section 4.1).
    each(report, bench, "receive-clear", open_.smtp, taken(open_), want=bytes)
    each(report, bench, "receive-starttls", closed.smtp, taken(closed), *auth, tls="required", want=bytes)
    each(report, bench, "receive-implicit", closed.smtps, taken(closed), *auth, tls="implicit", want=bytes)
    each(report, bench, "receive-lmtp", open_.lmtp, taken(open_), "-lmtp", want=bytes)
    report.case("out-of/receive/refusals", refusals, bench, open_)
    report.case("out-of/receive/many-recipients", many_recipients, bench, open_)
    report.case("out-of/receive/standard-input", from_stdin, bench, open_)
    for server in (open_, closed):
        report.case(f"out-of/shutdown/{server.name}", server.close)
