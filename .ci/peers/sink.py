"""A small, strict SMTP server on a socket: it keeps what it is sent, answers as it is told, and forgives nothing.

It exists beside the real servers for what they cannot show: which octets were on the wire, over how many connections,
and what the sender does when each of its commands is refused.
"""

import base64
import re
import socket
import ssl
import threading

from bench import Failure, port
from messages import unstuffed
import gsasl


class Sink:
    """Listens on a loopback port, or at another address and port.

    keywords are the lines of its EHLO reply; tls is "starttls", "implicit" or empty; users maps names to passwords;
    replies maps the beginning of a command to the reply it gets in place of the usual one, with "CONNECT" for the
    greeting and "." for the end of the content, and an empty reply hangs up. sasl makes the server side of a mechanism
    from its name and the connection, as gsasl.server does; without it, the users log in by PLAIN and LOGIN. handshake
    is what the server does with the connection behind its 220 to STARTTLS in place of TLS, before it hangs up. pair has
    the files of its certificate and key, in place of the bench's.
    """

    def __init__(self, bench, keywords=(), tls="", users=None, replies=None, sasl=None, at=None, handshake=None,
                 pair=None):
        self.bench, self.keywords, self.tls = bench, keywords, tls
        self.users, self.replies, self.sasl = users or {}, replies or {}, sasl
        self.handshake, self.sessions = handshake, []
        host, self.port = at or ("127.0.0.1", port())
        self.listener = socket.create_server((host, self.port))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*(pair or (bench.cert, bench.key)))
        bench.closers.append(self.listener.close)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            session = Session(self, conn)
            self.sessions.append(session)
            threading.Thread(target=session.serve, daemon=True).start()


    def messages(self):
        """Return what all sessions received as (from, to, octets); a sender that broke a rule is a Failure."""
        for s in self.sessions:
            s.done.wait(10)
            if s.wrong:
                raise Failure(f"the sender broke the protocol: {s.wrong}")
        return [m for s in self.sessions for m in s.messages]

    def commands(self):
        return [c for s in self.sessions for c in s.commands]


class Session:
    """One connection. After it ended, commands, messages, secure and user say what went on in it."""

    def __init__(self, sink, conn):
        self.sink, self.conn, self.buffer = sink, conn, b""
        self.commands, self.messages, self.wrong = [], [], ""
        self.secure, self.user = False, ""
        self.done = threading.Event()
        self.sender, self.to, self.chunks = None, [], []

    def serve(self):
        self.conn.settimeout(60)
        try:
            if self.sink.tls == "implicit":
                self.wrap()
            if self.reply("220 sink.example ESMTP", "CONNECT")[0]:
                while self.command(self.line()):
                    pass
        except (OSError, EOFError):
            pass  # the sender may hang up whenever it likes; what it did before is on record
        except ValueError as e:
            self.wrong = str(e)
        finally:
            self.conn.close()
            self.done.set()

    def wrap(self):
        self.conn = self.sink.context.wrap_socket(self.conn, server_side=True)
        self.secure = True

    def more(self):
        data = self.conn.recv(1 << 20)
        if not data:
            raise EOFError
        self.buffer += data

    def line(self):
        while b"\n" not in self.buffer:
            self.more()
        line, _, self.buffer = self.buffer.partition(b"\n")
        if not line.endswith(b"\r") or b"\r" in line[:-1]:
            raise ValueError(f"line not ended by CRLF alone: {line!r}")
        if len(line) > 511:
            raise ValueError(f"line of {len(line) + 1} octets: {line[:60]!r}")
        return line[:-1].decode()

    def reply(self, usual, command):
        """Answer a command; return whether the connection goes on, and whether the command succeeded."""
        text = usual
        for prefix, other in self.sink.replies.items():
            if command.upper().startswith(prefix.upper()):
                text = other
        if text:
            self.conn.sendall((text + "\r\n").encode())
        return text != "" and not text.startswith(("221", "421")), text.startswith(("2", "3"))

    def command(self, line):
        self.commands.append(line)
        verb = line.split(" ", 1)[0].upper()
        handle = getattr(self, "do_" + verb.lower(), None)
        if handle:
            return handle(line)
        return self.reply("500 5.5.1 not known here", line)[0]

    def do_ehlo(self, line):
        self.forget()
        words = list(self.sink.keywords)
        if self.sink.tls == "starttls" and not self.secure:
            words.append("STARTTLS")
        first = ["sink.example"] + words
        text = "\r\n".join(f"250{'-' if i < len(first) - 1 else ' '}{w}" for i, w in enumerate(first))
        return self.reply(text, line)[0]

    do_lhlo = do_ehlo

    def do_helo(self, line):
        self.forget()
        return self.reply("250 sink.example", line)[0]

    def do_starttls(self, line):
        on, ok = self.reply("220 2.0.0 go ahead", line)
        if ok:
            if self.buffer:
                raise ValueError(f"octets behind STARTTLS: {self.buffer[:60]!r}")
            if self.sink.handshake:
                self.sink.handshake(self.conn)
                return False
            self.wrap()
            self.forget()
        return on

    def do_auth(self, line):
        _, mechanism, *initial = line.split(" ")
        if self.sink.sasl:
            return self.exchange(line, self.sink.sasl(mechanism, self.conn), *initial)
        if mechanism.upper() == "PLAIN":
            _, user, password = decode(initial[0] if initial else self.ask("")).split("\0")
        else:
            user = decode(initial[0] if initial else self.ask("Username:"))
            password = decode(self.ask("Password:"))
        if password and self.sink.users.get(user) == password:
            self.user = user
            return self.reply("235 2.7.0 welcome", line)[0]
        return self.reply("535 5.7.8 wrong user or password", line)[0]

    def exchange(self, line, server, response=""):
        """Carry on an exchange until the mechanism is content; what it says last is a challenge (RFC 4954 section 4)."""
        try:
            more = True
            while more:
                challenge, more = server.step(response)
                if more or challenge:
                    response = self.ask_encoded(challenge)
            server.verify()
        except gsasl.Refused:
            return self.reply("535 5.7.8 refused", line)[0]
        finally:
            server.close()
        return self.reply("235 2.7.0 welcome", line)[0]

    def ask(self, challenge):
        return self.ask_encoded(base64.b64encode(challenge.encode()).decode())

    def ask_encoded(self, challenge):
        self.conn.sendall(f"334 {challenge}\r\n".encode())
        return self.line()

    def do_mail(self, line):
        on, ok = self.reply("250 2.1.0 sender", line)
        if ok:
            self.sender = path(line)
        return on

    def do_rcpt(self, line):
        if self.sender is None:
            return self.reply("503 5.5.1 no sender", "")[0]
        on, ok = self.reply("250 2.1.5 recipient", line)
        if ok:
            self.to.append(path(line))
        return on

    def do_data(self, line):
        if not self.to:
            return self.reply("503 5.5.1 no recipients", "")[0]
        on, ok = self.reply("354 go ahead", line)
        if not ok or not on:
            return on
        parts, tail = [], b"\r\n"  # the CRLF of the DATA line can be the first half of the end
        while True:
            if not self.buffer:
                self.more()
            window = tail + self.buffer
            at = window.find(b"\r\n.\r\n")
            if at >= 0:
                break
            parts.append(self.buffer)
            tail, self.buffer = window[-4:], b""
        used = at + 5 - len(tail)
        parts.append(self.buffer[:used])
        self.buffer = self.buffer[used:]
        content = b"".join(parts)[:-3]
        if re.search(rb"(?<!\r)\n|\r(?!\n)", content):
            raise ValueError("a bare CR or LF in the content")
        return self.end(unstuffed(content))

    def do_bdat(self, line):
        _, size, *last = line.split(" ")
        while len(self.buffer) < int(size):
            self.more()
        self.chunks.append(self.buffer[: int(size)])
        self.buffer = self.buffer[int(size):]
        if not self.to:
            return self.reply("503 5.5.1 no recipients", "")[0]
        if last:
            return self.end(b"".join(self.chunks))
        return self.reply(f"250 2.0.0 {size} octets", line)[0]

    def end(self, content):
        on, ok = self.reply("250 2.0.0 kept", ".")
        if ok:
            self.messages.append((self.sender, self.to, content))
        self.forget()
        return on

    def forget(self):
        self.sender, self.to, self.chunks = None, [], []

    def do_rset(self, line):
        self.forget()
        return self.reply("250 2.0.0 forgotten", line)[0]

    def do_noop(self, line):
        return self.reply("250 2.0.0 fine", line)[0]

    def do_quit(self, line):
        self.reply("221 2.0.0 bye", line)
        return False


def decode(text):
    return base64.b64decode(text, validate=True).decode() if text != "=" else ""


def path(line):
    return re.search("<(.*)>", line).group(1)
