"""The extensions other than AUTH: software that has them talks to our server, and what that saw is what it was told."""

import json
import os
import re
import smtplib
import socket
import ssl

from bench import Failure, port, run, same, same_after, until
from into import FROM, HERE, PASSWORD, USER, by_swaks
from messages import MESSAGES
from ours import Ours, check, has
import exim
import haproxy
import postfix

TO = ["bert@receive.example", "picky@receive.example"]
PLAIN = MESSAGES["plain"]
KEPT = "S: 250 2.0.0 kept"
ELSEWHERE = "192.0.2.0/24"  # where no proxy of ours is


def only(address, **params):
    return [{"address": address, "params": params}]


class Ends:
    """Our server for mail systems and clients, and one that trusts nobody here."""

    def __init__(self, bench):
        user = ("-user", USER, "-password", PASSWORD)
        self.open = Ours(bench, "ours", *user)
        self.wary = Ours(bench, "ours-wary", "-trusted", ELSEWHERE)
        self.odmr = Ours(bench, "ours-odmr", *user, "-insecure-auth")  # RFC 2645 section 5.1.2 has CRAM-MD5 without TLS
        self.checked = Ours(bench, "ours-checked")
        self.limited = Ours(bench, "ours-limited", "-max-rcpts", "2", "-mail-max", "1", "-domain-max", "1")
        self.haproxy = haproxy.HAProxy(bench, self.open.proxied, self.checked.proxied)
        self.later = port()  # where there is no server yet

    def transports(self):
        at = "ours:[127.0.0.1]:%d"
        open_ = at % self.open.smtp
        return {"ours.example": open_, "notify.example": open_, postfix.QUEUED: at % self.later,
                "limited.example": at % self.limited.smtp}

    def routes(self):
        return [("ours.example", self.open.smtp, False), ("notify.example", self.open.smtp, False)]


# What a mail system's log says.

def begin(system):
    """Forget what the log has had of failures, and return where it ends."""
    system.log.mark()
    return len(system.log.text())


def logged(system, known, *patterns):
    for pattern in patterns:
        until(lambda: f"{pattern} in the log:\n" + system.log.tail(),
              lambda: re.search(pattern, system.log.text()[known:]))


# Clients.

def arrives(server, peer, **facts):
    """Let a client send the plain message, and return it and the record of its connection."""
    server.mark()
    peer("plain", PLAIN)
    message, record = server.message()
    same(message["content"], PLAIN)
    check(record, **facts)
    return message, record


def xclient(bench, ends):
    """swaks speaks for another client."""
    _, record = arrives(ends.open, by_swaks(
        bench, ends.open.smtp, "--xclient-addr", "192.0.2.9", "--xclient-port", "4711", "--xclient-name", "far.example",
        "--xclient-login", "carla", "--xclient-helo", "said.example", "--xclient-proto", "ESMTP"),
        remote="192.0.2.9:4711", hello="client.example")
    if not record["peer"].startswith("127.0.0.1:"):
        raise Failure(f"the peer is {record['peer']}")
    origin = {"Addr": "192.0.2.9", "Port": "4711", "Name": "far.example", "Login": "carla", "Hello": "said.example",
              "Protocol": "ESMTP"}
    check(record["origin"], **origin)
    has(record["dialogue"], "C: XCLIENT ", "S: 220 ours.example ")


def xclient_refused(bench, ends):
    """A client that is not in the list is not offered XCLIENT, and refused if it insists."""
    ends.wary.mark()
    out = run("swaks", "--server", f"127.0.0.1:{ends.wary.smtp}", "--ehlo", "client.example", "--from", FROM, "--to",
              TO[0], "--xclient-addr", "192.0.2.9", status=33)
    has(out, "Host did not advertise XCLIENT")
    check(ends.wary.take(), messages=None)
    with smtplib.SMTP("127.0.0.1", ends.wary.smtp, timeout=60) as s:  # swaks does not insist, whatever its options
        s.ehlo("client.example")
        code, text = s.docmd("XCLIENT ADDR=192.0.2.9")
    if code != 550:
        raise Failure(f"{code} {text}")
    record = ends.wary.take()
    check(record, remote=record["peer"], origin=None, messages=None)


def proxied(bench, ends, version, family, source, dest):
    """swaks sends the header of a proxy."""
    flags = ("--proxy-version", version, "--proxy-family", family, "--proxy-source", source, "--proxy-source-port",
             "4711", "--proxy-dest", dest, "--proxy-dest-port", "25")
    literal = "[%s]:%d" if ":" in source else "%s:%d"
    arrives(ends.open, by_swaks(bench, ends.open.proxied, *flags),
            remote=literal % (source, 4711), local=literal % (dest, 25))


def checked_by_haproxy(ends):
    """HAProxy checks whether the server is there, for itself: then it is the client."""
    record = ends.checked.take()
    check(record, remote=record["peer"], error="")
    has(record["dialogue"], "C: EHLO " + haproxy.HELLO, "C: QUIT")


def by_haproxy(ends, version):
    """HAProxy tells who has connected to it, told apart by a loopback address of its own."""
    ends.open.mark()
    with smtplib.SMTP("127.0.0.1", ends.haproxy.ports[version], timeout=60, source_address=("127.0.0.9", 0)) as s:
        remote = "%s:%d" % s.sock.getsockname()
        s.sendmail(FROM, TO[:1], PLAIN, ["BODY=8BITMIME"])
    _, record = ends.open.message()
    check(record, remote=remote, local=f"127.0.0.1:{ends.haproxy.ports[version]}")


def bad_header(ends, data):
    """What is no header of a proxy ends the connection without a word."""
    ends.open.mark()
    with socket.create_connection(("127.0.0.1", ends.open.proxied), 60) as s:
        s.sendall(data)
        try:
            answer = s.recv(100)
        except ConnectionResetError:
            answer = b""
    if answer:
        raise Failure(f"the answer is {answer!r}")
    record = ends.open.take()
    check(record, dialogue=None, messages=None)
    has(record["error"], "PROXY: ")


def header_of_a_stranger(ends):
    """To a server that does not trust the proxy the header is a command it does not know, and changes nothing."""
    ends.wary.mark()
    with socket.create_connection(("127.0.0.1", ends.wary.proxied), 60) as s, s.makefile("rb") as r:
        s.sendall(b"PROXY TCP4 192.0.2.9 192.0.2.25 4711 25\r\nQUIT\r\n")
        codes = [line[:3].decode() for line in r]
        name = "%s:%d" % s.getsockname()
    if codes != ["220", "500", "221"]:
        raise Failure(f"the replies are {codes}")
    check(ends.wary.take(), remote=name, peer=name)


def prdr_by_swaks(bench, ends):
    """swaks asks for an answer for each recipient."""
    message, record = arrives(ends.open, by_swaks(bench, ends.open.smtp, "--prdr", "--to", ",".join(TO)))
    check(message, to=only(TO[0]))
    check(message["params"], PRDR="")
    has(record["dialogue"], "S: 353 ", KEPT + "\nS: 550 5.7.0 Not that content\nS: 250 ")


def dsn_by_nodemailer(bench, ends):
    """nodemailer says what to notify of."""
    dsn = {"id": "QQ+314=159", "return": "headers", "notify": ["failure", "delay"], "recipient": "bert@old.example"}

    def peer(which, _):
        env = dict(os.environ, NODE_PATH="/usr/share/nodejs", NODE_EXTRA_CA_CERTS=bench.cert,
                   MESSAGE=json.dumps({"dsn": dsn}))
        run("/usr/bin/node", HERE + "/nodemailer.js", str(ends.open.smtp), "starttls", USER, PASSWORD,
            bench.path(which + ".eml"), FROM, TO[0], env=env)

    message, _ = arrives(ends.open, peer)
    check(message["params"], RET="HDRS", ENVID="QQ+2B314+3D159")
    check(message, to=only(TO[0], NOTIFY="FAILURE,DELAY", ORCPT="rfc822;bert@old.example"))


def requiretls(bench, ends, secure):
    """No peer of Debian's sends REQUIRETLS, so Python's smtplib is told to; in clear it is not on offer."""
    server = ends.open
    server.mark()
    with smtplib.SMTP("127.0.0.1", server.smtp, timeout=60) as s:
        if secure:
            s.starttls(context=ssl.create_default_context(cafile=bench.cert))
        s.ehlo("client.example")
        if s.has_extn("requiretls") != secure:
            raise Failure(f"offered: {s.esmtp_features}")
        code, text = s.mail(FROM, ["REQUIRETLS"])
        if code != (250 if secure else 555):
            raise Failure(f"{code} {text}")
        s.rset()
        if secure:
            s.sendmail(FROM, TO[:1], PLAIN, ["REQUIRETLS"])
    if secure:
        message, _ = server.message()
        check(message["params"], REQUIRETLS="")
    else:
        has(server.take()["dialogue"], "S: 555 5.5.4")


def limits(ends):
    """No peer of Debian's knows LIMITS: to one that asks for more than there is, the replies say so."""
    ends.limited.mark()
    with smtplib.SMTP("127.0.0.1", ends.limited.smtp, timeout=60) as s:
        s.ehlo("client.example")
        if s.esmtp_features.get("limits") != "RCPTMAX=2 MAILMAX=1 RCPTDOMAINMAX=1":
            raise Failure(f"offered: {s.esmtp_features}")
        refused = s.sendmail(FROM, ["bert@receive.example", "bert@other.example"], PLAIN)
        if {a: code for a, (code, _) in refused.items()} != {"bert@other.example": 452}:
            raise Failure(f"refused: {refused}")
        code, text = s.mail(FROM)
        if code != 421 or not text.startswith(b"4.7.0 "):
            raise Failure(f"{code} {text}")
    message, record = ends.limited.message()  # which the next case must not take for its own
    check(message, to=only("bert@receive.example"))
    has(record["dialogue"], "S: 452 4.5.3", "S: 421 4.7.0")


def limits_by_postfix(ends, system):
    """Postfix keeps the recipient for whom there is no room."""
    known = begin(system)
    to = [f"{name}@limited.example" for name in ("bert", "carla", "dora")]
    ends.limited.mark()
    with smtplib.SMTP("127.0.0.1", system.chunking, timeout=60) as s:
        s.sendmail(FROM, to, PLAIN)
    message, _ = ends.limited.message()
    if [one["address"] for one in message["to"]] != to[:2]:
        raise Failure(f"{message}")
    logged(system, known, r"to=<carla@limited\.example>.* status=sent",
           r"to=<dora@limited\.example>.* status=deferred .* said: 452 4\.5\.3 ")


def mail_auth(bench, ends):
    """curl passes on that nobody is known to have submitted the message (RFC 4954 section 5)."""

    def peer(which, _):
        run("curl", "--silent", "--show-error", "--url", f"smtp://127.0.0.1:{ends.open.smtp}/client.example",
            "--ssl-reqd", "--cacert", bench.cert, "--user", f"{USER}:{PASSWORD}", "--mail-auth", "", "--mail-from", FROM,
            "--mail-rcpt", TO[0], "--upload-file", bench.path(which + ".eml"))

    message, _ = arrives(ends.open, peer, identity=USER)
    check(message["params"], AUTH="<>")


def asked(ends, want, *flags):
    """curl asks for a mailbox or a list."""
    ends.open.mark()
    url = f"smtp://127.0.0.1:{ends.open.smtp}/client.example"
    has(run("curl", "--silent", "--show-error", "--url", url, *flags), *want)
    check(ends.open.take(), error="")


FETCHMAIL = """
poll 127.0.0.1 with proto {proto} service {port}
  {options}
  fetchdomains {domain}
  smtphost 127.0.0.1/{to}
"""


def by_fetchmail(bench, ends, status, **how):
    config = bench.write("fetchmailrc", FETCHMAIL.format(to=ends.wary.smtp, **how))
    os.chmod(config, 0o600)
    return run("fetchmail", "--fetchmailrc", config, "--nosyslog", "--nodetach", "-v", "--pidfile",
               bench.path("fetchmail.pid"), "--idfile", bench.path("fetchmail.ids"), status=status)


def fetched(bench, ends, status, password):
    """Run fetchmail in clear: over TLS, it loses sight of what came in one record with what it has just passed on."""
    ends.odmr.mark()
    by_fetchmail(bench, ends, status, proto="ODMR", port=ends.odmr.smtp, domain="receive.example",
                 options=f'user "{USER}" with password "{password}"')
    return ends.odmr.take()


def atrn(bench, ends):
    """fetchmail fetches what waits for it: it authenticates, and then gets a client's commands on its connection."""
    ends.wary.mark()
    record = fetched(bench, ends, 0, PASSWORD)
    check(record, identity=USER)
    has(record["dialogue"], "C: AUTH CRAM-MD5\nS: 235 ", "C: ATRN receive.example\nS: 250 ")
    message, _ = ends.wary.message()
    check(message, **{"from": FROM, "to": only(TO[0])})
    same(message["content"], b"Subject: on demand\r\n\r\nThis waited.\r\n")


def atrn_refused(bench, ends):
    record = fetched(bench, ends, 128, "wrong")
    check(record, identity="")
    has(record["dialogue"], "C: AUTH CRAM-MD5\nS: 535 5.7.8 ")


def etrn(bench, ends, domain, reply):
    """fetchmail has the queue for a domain started."""
    ends.open.mark()
    out = by_fetchmail(bench, ends, 0 if reply.startswith("253") else 3, proto="ETRN", port=ends.open.smtp, options="",
                       domain=domain)
    has(out, "ETRN< " + reply)
    has(ends.open.take()["dialogue"], f"C: ETRN {domain}\nS: {reply}")


# Mail systems.

def relayed(ends, system, to, sender=FROM, mail=(), rcpt=(), message=PLAIN):
    """Hand a message to a mail system that relays it to us; return what we got, and our record."""
    ends.open.mark()
    system.log.mark()
    with smtplib.SMTP("127.0.0.1", system.chunking, local_hostname="client.example", timeout=60) as s:
        s.ehlo()
        s.sendmail(sender, to, message, list(mail), list(rcpt))
    got, record = ends.open.message(system.log)
    same_after(("Received",), got["content"], message)
    return got, record


def dsn_by_system(ends, system):
    """What a client asks of a mail system for notifications reaches us as it was."""
    message, record = relayed(ends, system, ["bert@ours.example"], mail=["RET=HDRS", "ENVID=QQ+2B314+3D159"],
                              rcpt=["NOTIFY=SUCCESS,DELAY", "ORCPT=rfc822;b+2Bert@old.example"])
    check(message["params"], RET="HDRS", ENVID="QQ+2B314+3D159")
    check(message, to=only("bert@ours.example", NOTIFY="SUCCESS,DELAY", ORCPT="rfc822;b+2Bert@old.example"))
    if system.__class__ is exim.Exim:
        has(record["dialogue"], "C: BDAT ")


def utf8_by_system(ends, system):
    """A message with addresses in UTF-8 comes as one."""
    message, _ = relayed(ends, system, ["bjørn@ours.example"], "änne@client.example", ["SMTPUTF8", "BODY=8BITMIME"],
                         message=MESSAGES["utf-8"])
    has(" ".join(message["params"]), "SMTPUTF8")
    check(message, **{"from": "änne@client.example"})
    if message["to"][0]["address"] != "bjørn@ours.example":
        raise Failure(f"{message}")


def xforward_by_postfix(ends, system):
    """Postfix tells where the message came from."""
    message, _ = relayed(ends, system, ["bert@ours.example"])
    check(message["origin"], Addr="127.0.0.1", Hello="client.example", Protocol="ESMTP", Source="REMOTE")
    if f": {message['origin']['Ident'] or 'nothing'}: from=<{FROM}>" not in system.log.text():
        raise Failure(f"no queue of Postfix has {message['origin']}")


def prdr_by_exim(ends, system):
    """Exim learns that one of two recipients does not want the content."""
    known = begin(system)
    message, record = relayed(ends, system, ["bert@ours.example", "picky@ours.example"], sender="")
    check(message, to=only("bert@ours.example"))
    check(message["params"], PRDR="")
    has(record["dialogue"], KEPT + "\nS: 550 5.7.0 Not that content\nS: 250 ")
    logged(system, known, r"=> bert@ours\.example .* PRDR", r"\*\* picky@ours\.example .*550 5\.7\.0 Not that content")


def all_peers(report, bench, mta, ends):
    case = report.case
    case("into/xclient-swaks/trusted", xclient, bench, ends)
    case("into/xclient-swaks/not-listed", xclient_refused, bench, ends)
    for version, family in (("1", "TCP4"), ("2", "AF_INET")):
        case(f"into/proxy-swaks/v{version}-ipv4", proxied, bench, ends, version, family, "192.0.2.9", "192.0.2.25")
    for version, family in (("1", "TCP6"), ("2", "AF_INET6")):
        case(f"into/proxy-swaks/v{version}-ipv6", proxied, bench, ends, version, family, "2001:db8::9", "2001:db8::25")
    for version in ("v1", "v2"):
        case(f"into/proxy-haproxy/{version}", by_haproxy, ends, version)
    case("into/proxy-haproxy/v2-local", checked_by_haproxy, ends)
    for name, data in (("malformed-v1", b"PROXY TCP4 192.0.2.9 nowhere 4711 25\r\n"),
                       ("no-header", b"EHLO client.example\r\n"),
                       ("malformed-v2", b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c" + bytes(12))):
        case("into/proxy-refused/" + name, bad_header, ends, data)
    case("into/proxy-refused/not-trusted", header_of_a_stranger, ends)
    case("into/prdr-swaks/one-refused", prdr_by_swaks, bench, ends)
    case("into/dsn-nodemailer/all-parameters", dsn_by_nodemailer, bench, ends)
    case("into/requiretls-smtplib/over-tls", requiretls, bench, ends, True)
    case("into/requiretls-smtplib/in-clear", requiretls, bench, ends, False)
    case("into/limits-smtplib/all", limits, ends)
    case("into/limits-postfix/recipients", limits_by_postfix, ends, mta["Postfix"])
    case("into/mail-auth-curl/nobody", mail_auth, bench, ends)
    case("into/vrfy-curl/known", asked, ends, ["250 2.1.5 Bert <bert@receive.example>"], "--mail-rcpt", "bert")
    case("into/expn-curl/list", asked, ends, ["250-2.1.5 Bert <", "250 2.1.5 Bert <"], "--mail-rcpt", "list",
         "--request", "EXPN")
    case("into/atrn-fetchmail/fetched", atrn, bench, ends)
    case("into/atrn-fetchmail/wrong-password", atrn_refused, bench, ends)
    case("into/etrn-fetchmail/waiting", etrn, bench, ends, "queued.example", "253 ")
    case("into/etrn-fetchmail/not-yours", etrn, bench, ends, "other.example", "459 ")
    for name, system in mta.items():
        case(f"into/dsn-{name.lower()}/all-parameters", dsn_by_system, ends, system)
        case(f"into/smtputf8-{name.lower()}/addresses", utf8_by_system, ends, system)
    case("into/xforward-postfix/told", xforward_by_postfix, ends, mta["Postfix"])
    case("into/prdr-exim/one-refused", prdr_by_exim, ends, mta["Exim"])
