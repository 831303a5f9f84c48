"""examples/signed signs and sends, and dkimpy (Debian's python3-dkim), which shares no code with it, verifies what arrived."""

import base64
import re

import dkim

from bench import Failure, run, same
from messages import MESSAGES, canonical, lines
from sink import Sink

DOMAIN = "client.example"
FROM = b"From: Anna <anna@client.example>\r\nDate: Thu, 01 Jan 2026 00:00:00 +0000\r\n"

# What the messages that every peer carries do not have.
MORE = {
    "lf-alone": (FROM + b"Subject: a\r\n b\r\n\r\nHello,\r\n\r\n\r\nworld.\r\n").replace(b"\r\n", b"\n"),
    "cr-alone": (FROM + b"Subject: a\r\n\r\nHello,\r\n\r\nworld.\r\n").replace(b"\r\n", b"\r"),
    "mixed-ends": FROM + b"\n\rHello\r\r\n\n\rworld\n\r\n\r",
    "header-alone": FROM + b"Subject: without an empty line\r\n",
    "only-empty-lines": FROM + b"\r\n" * 7,
    "folded": FROM + b"References: <a@b>\r\n\t<c@d>\r\n   <e@f>  \r\nCC:\r\n x@y.example\r\nX-Long: " + b"a b " * 200
    + b"\r\nSubject:" + b"\r\n  word" * 500 + b"\r\n\r\nHi\r\n",
    "other-case": b"FROM:anna@client.example\r\ndate:Thu, 01 Jan 2026 00:00:00 +0000\r\nsubject:  a   b\r\n\r\nHi\r\n",
    "duplicate-fields": FROM + lines(b"Subject: one", b"To: a@b.example", b"Subject: two", b"Received: x", b"To: c@d.example",
                                     b"Received: y", b"", b"Hi"),
    "eight-bit-header": FROM + lines(b"Subject: Gr\xc3\xbc\xc3\x9fe \xff", b"", b"\xff\xfe"),
    "white-space": FROM + lines(b"Subject:\t a \t b \t", b"", b" a\t\tb  ", b" \t ", b"\t", b" c ", b"  ", b" "),
    "list": FROM + lines(b"List-Unsubscribe: <https://client.example/>", b"List-Unsubscribe-Post: List-Unsubscribe=One-Click",
                         b"Resent-From: x@y.example", b"", b"Hi"),
}

KEYS = {"rsa": ("rsa",), "ed25519": ("ed25519",), "both": ("rsa", "ed25519")}


class Keys:
    """The keys of our domain, made by OpenSSL, and a DNS that has the records which examples/signed prints for them."""

    def __init__(self, bench, signed):
        self.bench, self.signed = bench, signed
        self.files = {"rsa": bench.path("dkim-rsa.pem"), "ed25519": bench.path("dkim-ed25519.pem")}
        run("openssl", "genrsa", "-out", self.files["rsa"], "2048")
        run("openssl", "genpkey", "-algorithm", "ed25519", "-out", self.files["ed25519"])
        self.zone = {}
        for line in run(signed, *self.flags("rsa", "ed25519"), "-records").splitlines():
            name, _, strings = line.partition(" IN TXT ")
            self.zone[name] = "".join(re.findall('"([^"]*)"', strings))

    def flags(self, *kinds):
        return [word for kind in kinds for word in ("-key", f"{DOMAIN}:{kind}:{self.files[kind]}")]

    def txt(self, name, timeout=None):
        return self.zone.get(name.decode() if isinstance(name, bytes) else name, "").encode()

    def send(self, kinds, message, keywords=("8BITMIME",), *flags):
        """Send a message to a sink, and return what arrived."""
        sink = Sink(self.bench, keywords)
        path = self.bench.write("signed.eml", message)
        run(self.signed, *self.flags(*kinds), *flags, f"smtp://127.0.0.1:{sink.port}?tls=none", "anna@" + DOMAIN,
            "bert@receive.example", path, timeout=60)
        (_, _, content), = sink.messages()
        return content

    def verified(self, message):
        """Return the algorithms of the signatures that dkimpy takes for good, and how many there are."""
        good = []
        count = len(re.findall(rb"(?im)^DKIM-Signature:", message))
        for i in range(count):
            d = dkim.DKIM(message)
            try:
                if d.verify(i, dnsfunc=self.txt):
                    good.append(d.signature_fields[b"a"].decode())
            except dkim.DKIMException:
                pass  # it counts as none
        return good, count

    def good(self, kinds, message):
        """Fail unless there is a good signature of each key, and no other."""
        good, count = self.verified(message)
        if good != [kind + "-sha256" for kind in kinds] or count != len(kinds):
            raise Failure(f"of {count} signatures these are good: {good}, in\n{message[:3000]!r}")


def published(keys):
    """OpenSSL and examples/signed have to mean the same public keys."""
    rsa = run("sh", "-c", f"openssl rsa -in {keys.files['rsa']} -pubout -outform DER 2>/dev/null | base64 -w0")
    ed25519 = run("sh", "-c", f"openssl pkey -in {keys.files['ed25519']} -pubout -outform DER | tail -c 32 | base64 -w0")
    for kind, public in (("rsa", rsa), ("ed25519", ed25519)):
        want = f"v=DKIM1; k={kind}; p={public}"
        got = keys.zone.get(f"{kind}._domainkey.{DOMAIN}.")
        if got != want:
            raise Failure(f"the record is {got!r}, not {want!r}")
        base64.b64decode(public, validate=True)


def arrives(keys, kinds, message, keywords):
    """The signatures are good, and what is behind them is the message as it would have been transmitted without them."""
    content = keys.send(kinds, message, keywords)
    keys.good(kinds, content)
    text = re.sub(rb"\r\n|\r|\n", b"\r\n", message)
    end = re.match(rb"(?:DKIM-Signature:[^\n]*\n(?:[ \t][^\n]*\n)*)*", content).end()
    same(content[end:], text if "CHUNKING" in keywords and not content.endswith(b"\r\n") else canonical(text))


def breaks(keys, kinds, change):
    """A message that was changed on the way has no good signature."""
    content = keys.send(kinds, MESSAGES["plain"])
    keys.good(kinds, content)
    changed = change(content)
    if changed == content:
        raise Failure("the case changes nothing")
    good, _ = keys.verified(changed)
    if good:
        raise Failure(f"these signatures are good still: {good}, in\n{changed!r}")


def passes(keys, kinds, change):
    """A message to which systems on the way have added what they add keeps its signatures."""
    keys.good(kinds, change(keys.send(kinds, MESSAGES["plain"])))


def expires(keys, kinds):
    """The signature is taken while it is valid, and says until when."""
    content = keys.send(kinds, MESSAGES["plain"], ("8BITMIME",), "-expiry", "1h")
    keys.good(kinds, content)
    for t, x in zip(re.findall(rb" t=(\d+);", content), re.findall(rb" x=(\d+);", content), strict=True):
        if not 3600 <= int(x) - int(t) + 1 <= 3602:
            raise Failure(f"t={t} and x={x}")


def foreign(keys):
    """Mail of a domain without keys is not signed, and refused if it has to be."""
    message = MESSAGES["plain"].replace(b"anna@client.example>\r\nTo", b"anna@other.example>\r\nTo")
    same(keys.send(("rsa",), message), message)
    sink = Sink(keys.bench)
    out = run(keys.signed, *keys.flags("rsa"), "-required", f"smtp://127.0.0.1:{sink.port}?tls=none", "anna@" + DOMAIN,
              "bert@receive.example", keys.bench.write("foreign.eml", message), status=1)
    if "no key for other.example" not in out or sink.sessions:
        raise Failure(out)


def all_peers(report, bench, signed):
    keys = Keys(bench, signed)
    report.case("signatures/dkimpy/records", published, keys)
    messages = {name: m for name, m in MESSAGES.items() if m.startswith(b"From: ")} | MORE
    for name, message in messages.items():
        for which, kinds in KEYS.items():
            if name == "30MB" and which != "both":
                continue
            for how, keywords in (("data", ("8BITMIME",)), ("bdat", ("8BITMIME", "CHUNKING", "PIPELINING"))):
                report.case(f"signatures/dkimpy/{which}-{how}/{name}", arrives, keys, kinds, message, keywords)
    changes = {
        "body-octet": lambda m: m.replace(b"one line", b"one lime"),
        "body-longer": lambda m: m + b"more\r\n",
        "from": lambda m: m.replace(b"Anna <", b"Anne <"),
        "added-from": lambda m: b"From: mallory@client.example\r\n" + m,
        "added-from-below": lambda m: m.replace(b"\r\n\r\n", b"\r\nFrom: mallory@client.example\r\n\r\n", 1),
        "added-subject": lambda m: b"Subject: another\r\n" + m,
        "added-reply-to": lambda m: b"Reply-To: mallory@client.example\r\n" + m,
        "added-content-type": lambda m: b"Content-Type: text/html\r\n" + m,
        "signed-domain": lambda m: m.replace(b"d=client.example", b"d=other.example"),
    }
    for name, change in changes.items():
        report.case(f"signatures/dkimpy/broken/{name}", breaks, keys, KEYS["both"], change)
    for name, field in {"received": b"Received: from x by y; Thu, 01 Jan 2026 00:00:00 +0000\r\n", "return-path":
                        b"Return-Path: <a@b.example>\r\n", "resent": b"Resent-From: x@y.example\r\n"}.items():
        report.case(f"signatures/dkimpy/kept/{name}", passes, keys, KEYS["both"], lambda m, f=field: f + m)
    report.case("signatures/dkimpy/expiry", expires, keys, KEYS["both"])
    report.case("signatures/dkimpy/foreign", foreign, keys)
