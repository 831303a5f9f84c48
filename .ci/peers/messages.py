"""The messages that every peer carries, octet for octet.

Each is a header block and a body in CRLF lines, since that is what SMTP carries (RFC 5321 section 2.3.8); they
differ in what software on the way is known to damage. The header has every field that a mail system would otherwise
add, so that whatever is put in front of a message on the way can be told from the message.
"""

import random

CRLF = b"\r\n"


def header(name):
    return (
        "From: Anna <anna@client.example>\r\n"
        "To: Bert <bert@receive.example>\r\n"
        "Date: Thu, 01 Jan 2026 00:00:00 +0000\r\n"
        f"Message-ID: <{name}.1@client.example>\r\n"
        f"Subject: peer test {name}\r\n"
        "\r\n"
    ).encode()


def large(size):
    """Build size octets of lines of every length, some of them dotted and some not ASCII, the same at each run."""
    rng = random.Random(5321)
    octets = bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))
    lines = [bytes(rng.choices(octets, k=rng.choice((0, 1, 2, 40, 76, 76, 76, 200, 996, 998)))) for _ in range(500)]
    lines += [b".", b"..", b". end", b"." * 998]
    out, n = [], 0
    while n < size:
        line = rng.choice(lines)[: max(0, size - n - 2)]
        out.append(line + CRLF)
        n += len(line) + 2
    return b"".join(out)


def lines(*each):
    return b"".join(line + CRLF for line in each)


BODIES = {
    "plain": lines(b"Hello,", b"", b"one line and another."),
    "empty": b"",
    "lone-dots": lines(b".", b".", b"between", b".", b"..", b"...", b"."),
    "leading-dots": lines(*[b"." + b"x" * n for n in range(80)], b". QUIT", b".MAIL FROM:<mallory@client.example>"),
    "no-final-newline": lines(b"the last line has no end") + b"here",
    "no-final-newline-dot": lines(b"the last line is a dot without an end") + b".",
    "eight-bit": lines(bytes(range(0x80, 0x100)), b"." + bytes(range(0x80, 0x100)), bytes(range(0xFF, 0x7F, -1)) * 3),
    "controls": lines(bytes(b for b in range(0x01, 0x20) if b not in b"\r\n") + b"\x7f", b"\tTab", b"\x0b.\x0c."),
    "utf-8": lines("Grüße, \u4f60\u597d, \U0001f4ec".encode(), ".\u00fc".encode()),
    "empty-lines": CRLF * 5 + lines(b"text") + CRLF * 5,
    "blanks": lines(b" leading", b"trailing ", b" ", b"\t", b". ", b" ."),
    "long-lines": lines(b"a" * 998, b"." * 998, b"." + b"b" * 997, b"c" * 996),
    "smuggling": lines(b"MAIL FROM:<mallory@client.example>", b"RCPT TO:<bert@receive.example>", b"DATA", b"QUIT"),
    "30MB": large(30 << 20),
}

MESSAGES = {name: header(name) + body for name, body in BODIES.items()}

# The first octet of this one is a dot that has to be doubled, and it has no header to hide behind.
MESSAGES["headerless"] = lines(b".first", b".", b"", b".", b"..")


def canonical(message):
    """Return the message as DATA can carry it: its last line always ends in CRLF (RFC 5321 section 4.1.1.4)."""
    return message if message.endswith(CRLF) else message + CRLF


def stuffed(message):
    """Return what follows DATA's 354: the dots doubled and the end of data (RFC 5321 section 4.5.2)."""
    message = canonical(message).replace(b"\r\n.", b"\r\n..")
    return (b"." if message.startswith(b".") else b"") + message + b".\r\n"


def unstuffed(content):
    """Undo stuffed for a server: content is everything up to, and without, the lone dot's line."""
    if content.startswith(b"."):
        content = content[1:]
    return content.replace(b"\r\n.", b"\r\n")
