"""Authentication: every mechanism with an implementation that is not ours, by the right secret and by a wrong one."""

import json
import os
import re
import smtplib
import ssl
import subprocess

from bench import WAIT, Failure, until
from into import FROM, HERE, PASSWORD, USER, by_swaks
from messages import MESSAGES
from ours import Ours, check, has, send
from sink import Sink
import gsasl
import postfix

TOKEN = "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg"  # of the example in RFC 7628 section 4.1
WRONG = "wrong"
TO = "bert@receive.example"
CREDENTIALS = ("-user", USER, "-password", PASSWORD, "-token", TOKEN)
TOKENS = ("OAUTHBEARER", "XOAUTH2")


def secret_for(mechanism):
    return TOKEN if mechanism in TOKENS else PASSWORD


class Servers:
    """Servers of ours, each with one mechanism, so that a client who got in has used that one."""

    def __init__(self, bench):
        self.bench, self.by_mechanism = bench, {}

    def of(self, mechanism):
        if mechanism not in self.by_mechanism:
            self.by_mechanism[mechanism] = Ours(
                self.bench, "ours-" + mechanism, "-mechanisms", mechanism, "-require-auth", "-client-ca",
                self.bench.client_cert, *CREDENTIALS)
        return self.by_mechanism[mechanism]


def logged_in(record, mechanism, tls="TLS 1.3", user=USER):
    check(record, identity=user, tls=tls)
    has(record["dialogue"], f"\nAUTH {mechanism}\n", f"C: AUTH {mechanism}\nS: 235 2.7.0 ")


def kept_out(record, mechanism, told="\nS: 535 5.7.8 "):
    check(record, identity="", messages=None)
    has(record["dialogue"], f"\nAUTH {mechanism}\n", f"C: AUTH {mechanism}" + told)


# Clients. Each returns a function of server, mechanism and secret, which returns the status and what was said.

def ran(*argv, **kw):
    kw.setdefault("stdin", None if "input" in kw else subprocess.DEVNULL)
    if kw["stdin"] is None:
        del kw["stdin"]
    p = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=WAIT, **kw)
    return p.returncode, p.stdout.decode(errors="replace")


def with_msmtp(bench):
    def attempt(server, mechanism, secret):
        config = bench.write("msmtp-auth", f"""
            account default
            host 127.0.0.1
            port {server.smtp}
            domain client.example
            from {FROM}
            tls on
            tls_trust_file {bench.cert}
            tls_host_override peer.example
            auth {mechanism.lower()}
            user {USER}
            password {secret}
        """)
        os.chmod(config, 0o600)
        if mechanism == "EXTERNAL" and secret != WRONG:
            with open(config, "a") as f:
                f.write(f"tls_cert_file {bench.client_cert}\ntls_key_file {bench.client_key}\n")
        return ran("msmtp", "--file", config, "--", TO, input=MESSAGES["plain"].replace(b"\r\n", b"\n"))

    return attempt


def with_gsasl(bench, *flags):
    """Use gsasl, which logs in and leaves."""

    def attempt(server, mechanism, secret):
        words = ["gsasl", "--smtp", "--connect", f"127.0.0.1:{server.smtp}", "--hostname", "peer.example",
                 "--x509-ca-file", bench.cert, "--authentication-id", USER, "--password", secret, *flags]
        if mechanism == "EXTERNAL":
            words += ["--authorization-id", USER]
            if secret != WRONG:
                words += ["--x509-cert-file", bench.client_cert, "--x509-key-file", bench.client_key]
        return ran(*words, *(("--mechanism", mechanism) if mechanism else ()))

    return attempt


def with_curl(bench):
    def attempt(server, mechanism, secret):
        words = ["curl", "--silent", "--show-error", "--url", f"smtp://127.0.0.1:{server.smtp}/client.example",
                 "--ssl-reqd", "--cacert", bench.cert, "--login-options", "AUTH=" + mechanism, "--mail-from", FROM, "--mail-rcpt", TO,
                 "--upload-file", bench.path("plain.eml")]
        if mechanism in TOKENS:
            words += ["--user", USER + ":", "--oauth2-bearer", secret]
        elif mechanism == "EXTERNAL":
            words += ["--user", USER + ":"]
            if secret != WRONG:
                words += ["--cert", bench.client_cert, "--key", bench.client_key]
        else:
            words += ["--user", f"{USER}:{secret}"]
        return ran(*words)

    return attempt


def with_nodemailer(bench):
    def attempt(server, mechanism, secret):
        more = {"auth": {"type": "OAuth2", "user": USER, "accessToken": secret}} if mechanism in TOKENS else {}
        env = dict(os.environ, NODE_PATH="/usr/share/nodejs", NODE_EXTRA_CA_CERTS=bench.cert, TRANSPORT=json.dumps(more))
        return ran("/usr/bin/node", HERE + "/nodemailer.js", str(server.smtp), "starttls", USER, secret,
                   bench.path("plain.eml"), FROM, TO, env=env)

    return attempt


def with_swaks(bench):
    def attempt(server, mechanism, secret):
        try:
            by_swaks(bench, server.smtp, "--tls", "--tls-verify", "--auth-user", USER, "--auth-password", secret,
                     "--auth", mechanism, "--to", TO)("plain", MESSAGES["plain"])
        except Failure as e:
            return 1, str(e)
        return 0, ""

    return attempt


def with_smtplib(bench):
    def attempt(server, mechanism, secret):
        with smtplib.SMTP("127.0.0.1", server.smtp, timeout=60) as s:
            s.starttls(context=ssl.create_default_context(cafile=bench.cert))
            s.ehlo()
            s.user, s.password = USER, secret
            try:
                s.auth(mechanism, s.auth_cram_md5)
            except smtplib.SMTPAuthenticationError as e:
                return 1, str(e)
            s.sendmail(FROM, [TO], MESSAGES["plain"])
        return 0, ""

    return attempt


def into_ours(report, servers, name, attempt, mechanisms, tls="TLS 1.3", denied="535 5.7.8 ", told="\nS: 535 5.7.8 "):
    """Let a client use each mechanism. denied is what it says when the secret is wrong, and told what it waits for."""
    for mechanism in mechanisms:
        def right(mechanism=mechanism):
            server = servers.of(mechanism)
            server.mark()
            status, said = attempt(server, mechanism, secret_for(mechanism))
            if status != 0:
                raise Failure(f"the client ended with {status}: {said}")
            logged_in(server.take(), mechanism, tls, "guest" if mechanism == "ANONYMOUS" else USER)

        def wrong(mechanism=mechanism):
            server = servers.of(mechanism)
            server.mark()
            status, said = attempt(server, mechanism, WRONG)
            if status == 0:
                raise Failure(f"the client takes it for a success: {said}")
            has(said, denied)
            kept_out(server.take(), mechanism, told)

        report.case(f"into/auth-{name}/{mechanism.lower()}", right)
        if mechanism not in ("ANONYMOUS", "EXTERNAL"):
            report.case(f"into/auth-{name}/{mechanism.lower()}-wrong", wrong)


def without_certificate(servers, attempt):
    """Without a certificate a client is not offered EXTERNAL, and gets nowhere."""
    server = servers.of("EXTERNAL")
    server.mark()
    attempt(server, "EXTERNAL", WRONG)
    record = server.take()
    check(record, identity="", messages=None)
    if "\nAUTH" in "\n".join(record["dialogue"]):
        raise Failure(f"AUTH was offered: {record}")


def best(bench, server):
    """gsasl takes the strongest of all mechanisms; SCRAM would have told had somebody hidden a stronger one."""
    server.mark()
    status, said = with_gsasl(bench)(server, "", PASSWORD)
    if status != 0:
        raise Failure(f"gsasl ended with {status}: {said}")
    has(said, "AUTH SCRAM-SHA-256-PLUS\n")
    check(server.take(), identity=USER)


def bound(servers, bench, mechanism, change):
    """Bind by tls-unique with gsasl's library; change makes of the data of the connection what the client claims."""
    server = servers.of(mechanism)
    server.mark()
    context = ssl.create_default_context(cafile=bench.cert)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with smtplib.SMTP("127.0.0.1", server.smtp, timeout=60) as s:
        s.starttls(context=context)
        s.ehlo()
        session = gsasl.client(mechanism, USER, PASSWORD, change(s.sock.get_channel_binding("tls-unique")))
        try:
            code, text = s.docmd("AUTH " + mechanism)
            while code == 334:
                response, _ = session.step(text.decode())
                code, text = s.docmd(response)
        finally:
            session.close()
        return code, server


def right_binding(servers, bench, mechanism):
    code, server = bound(servers, bench, mechanism, bytes)
    if code != 235:
        raise Failure(f"the reply is {code}")
    logged_in(server.take(), mechanism, "TLS 1.2")


def wrong_binding(servers, bench, mechanism):
    """Claim the data of another connection, as somebody in between would: a right password does not help."""
    code, server = bound(servers, bench, mechanism, lambda data: bytes(len(data)))
    if code != 535:
        raise Failure(f"the reply is {code}")
    kept_out(server.take(), mechanism)


# Mail systems as clients. Postfix uses Cyrus SASL, and Exim has its own.

def domain_of(mechanism, wrong=False):
    return mechanism.lower() + ("-wrong" if wrong else "") + ".auth.example"


SYSTEMS = {"Postfix": tuple(m.upper() for m in postfix.MECHANISMS), "Exim": ("CRAM-MD5", "EXTERNAL")}


class Relays:
    """Where mail systems authenticate: a server for each mechanism, and one where the user has another password."""

    def __init__(self, bench, servers):
        self.all = Ours(bench, "ours-all", *CREDENTIALS)
        self.other = Ours(bench, "ours-other-password", "-mechanisms", "CRAM-MD5,SCRAM-SHA-1,SCRAM-SHA-256",
                          "-require-auth", "-client-ca", bench.client_cert, "-user", USER, "-password", PASSWORD + WRONG)
        self.servers = servers

    def transports(self):
        """Return the transports of Postfix."""
        pairs = {}
        for mechanism in SYSTEMS["Postfix"]:
            at = f"{mechanism.lower()}:[127.0.0.1]:%d"
            pairs[domain_of(mechanism)] = at % self.servers.of(mechanism).smtp
            pairs[domain_of(mechanism, True)] = at % self.other.smtp
        return pairs

    def routes(self):
        """Return the routes of Exim."""
        routes = [(domain_of(m), self.servers.of(m).smtp, True) for m in SYSTEMS["Exim"]]
        return routes + [(domain_of("CRAM-MD5", True), self.other.smtp, True)]


def submit(system, to):
    with smtplib.SMTP("127.0.0.1", system.chunking, timeout=60) as s:
        s.sendmail(FROM, [to], MESSAGES["plain"])


def by_system(system, server, mechanism):
    server.mark()
    system.log.mark()
    submit(system, "bert@" + domain_of(mechanism))
    message, record = server.message(system.log)
    logged_in(record, mechanism)
    if message["to"][0]["address"] != "bert@" + domain_of(mechanism):
        raise Failure(f"the message is {message}")


def by_system_wrong(system, server, mechanism, deferred):
    """Have a mail system fail: it hears 535, and keeps the message for later."""
    server.mark()
    known = len(system.log.text())
    submit(system, "bert@" + domain_of(mechanism, True))
    until(lambda: "the log to tell of it:\n" + system.log.tail(), lambda: re.search(deferred, system.log.text()[known:]))
    record = server.take()
    check(record, identity="", messages=None)
    has(record["dialogue"], f"C: AUTH {mechanism}\nS: 535 5.7.8 ")


# Servers.

def to_dovecot(report, bench, system):
    """Log in to Postfix, which asks Dovecot, and find in its log by which mechanism and as whom."""
    flags = ("-user", USER)

    def login(name, mechanism, secret, *more, right=True):
        def once():
            known = len(system.log.text())
            outcome = send(bench, system.sasl, *flags, *secret, *more, file=bench.path("plain.eml"),
                           error=None if right else "535")
            wanted = rf"sasl_method={mechanism}, sasl_username={USER}$" if right else \
                rf"SASL {mechanism} authentication failed"
            until(lambda: f"{wanted} in the log:\n" + system.log.tail(),
                  lambda: re.search(wanted, system.log.text()[known:], re.M))
            if not right:
                return check(outcome, code=535, recipients=None)
            check(outcome, identity=USER)
            system.log.mark()
            system.inbox.next()

        report.case("out-of/auth-dovecot/" + name, once)

    for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5", "PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2"):
        flag = "-token" if mechanism in TOKENS else "-password"
        login(mechanism.lower(), mechanism, (flag, secret_for(mechanism)), "-mechanism", mechanism)
        login(mechanism.lower() + "-wrong", mechanism, (flag, WRONG), "-mechanism", mechanism, right=False)
    login("best-for-a-password", "SCRAM-SHA-256", ("-password", PASSWORD))
    login("best-for-a-token", "OAUTHBEARER", ("-token", TOKEN))


def to_gsasl(report, bench):
    """Log in to a server whose mechanisms are those of gsasl's library."""

    def login(name, mechanism, *credentials, binding=lambda data: data, right=True):
        def start(chosen, conn):
            unique = binding(conn.get_channel_binding("tls-unique")) if chosen.endswith("-PLUS") else b""
            return gsasl.server(chosen, USER, PASSWORD, unique)

        def once():
            sink = Sink(bench, ("AUTH " + mechanism,), "starttls", sasl=start)
            # The library of Python knows no binding of TLS 1.3.
            outcome = send(bench, sink.port, "-max-tls", "1.2", *credentials, file=bench.path("plain.eml"),
                           error=None if right else "535")
            kept = sink.messages()
            has(sink.commands(), "AUTH " + mechanism)
            check(outcome, code=0 if right else 535)
            if len(kept) != right:
                raise Failure(f"the server kept {len(kept)} messages")

        report.case("out-of/auth-gsasl/" + name, once)

    for mechanism in ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5"):
        user = ("-mechanism", mechanism, "-user", USER, "-password")
        login(mechanism.lower(), mechanism, *user, PASSWORD)
        login(mechanism.lower() + "-wrong", mechanism, *user, WRONG, right=False)
        if mechanism.endswith("-PLUS"):
            login(mechanism.lower() + "-wrong-binding", mechanism, *user, PASSWORD, right=False,
                  binding=lambda data: bytes(len(data)))
    login("anonymous", "ANONYMOUS", "-guest", USER)


def to_exim(report, bench, system):
    def login(name, log, *flags, right=True):
        def once():
            known = len(system.log.text())
            outcome = send(bench, system.chunking, *flags, file=bench.path("plain.eml"), error=None if right else "535")
            until(lambda: f"{log} in the log:\n" + system.log.tail(), lambda: re.search(log, system.log.text()[known:]))
            check(outcome, code=0 if right else 535)
            if right:
                system.log.mark()
                system.inbox.next()

        report.case("out-of/auth-exim/" + name, once)

    user = ("-mechanism", "CRAM-MD5", "-user", USER, "-password")
    login("cram-md5", rf"<= {FROM} .* A=cram_md5:{USER} ", *user, PASSWORD)
    login("cram-md5-wrong", r"cram_md5 authenticator failed .*: 535 ", *user, WRONG, right=False)
    login("external", rf"<= {FROM} .* A=external:{USER} ", "-external", "-cert", bench.client_cert, "-key",
          bench.client_key)


def all_peers(report, bench, mta, servers, relays):
    into_ours(report, servers, "msmtp", with_msmtp(bench),
              ("SCRAM-SHA-256", "SCRAM-SHA-1", "OAUTHBEARER", "XOAUTH2", "CRAM-MD5", "EXTERNAL"))
    into_ours(report, servers, "gsasl", with_gsasl(bench),
              ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "CRAM-MD5", "PLAIN", "LOGIN", "EXTERNAL"))
    into_ours(report, servers, "gsasl-guest", with_gsasl(bench, "--anonymous-token", "tracer"), ("ANONYMOUS",))
    into_ours(report, servers, "gsasl-tls-1.2", with_gsasl(bench, "--priority", "NORMAL:-VERS-TLS1.3"),
              ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS"), "TLS 1.2")
    into_ours(report, servers, "gsasl-unbound", with_gsasl(bench, "--no-cb"), ("SCRAM-SHA-256", "SCRAM-SHA-1"))
    into_ours(report, servers, "curl", with_curl(bench), ("OAUTHBEARER", "CRAM-MD5", "EXTERNAL"), denied="Login denied")
    # It hangs up when it hears what is wrong with the token, which comes before the reply.
    into_ours(report, servers, "curl", with_curl(bench), ("XOAUTH2",), denied="Login denied", told="")
    into_ours(report, servers, "nodemailer", with_nodemailer(bench), ("XOAUTH2", "CRAM-MD5"), denied="EAUTH")
    into_ours(report, servers, "swaks", with_swaks(bench), ("CRAM-MD5",), denied="ended with 28")
    into_ours(report, servers, "smtplib", with_smtplib(bench), ("CRAM-MD5",), denied="(535, b'5.7.8 ")
    for name, attempt in (("msmtp", with_msmtp(bench)), ("gsasl", with_gsasl(bench))):
        report.case(f"into/auth-{name}/external-without", without_certificate, servers, attempt)
    report.case("into/auth-gsasl/best", best, bench, relays.all)
    for mechanism in ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS"):
        report.case(f"into/auth-binding/{mechanism.lower()}", right_binding, servers, bench, mechanism)
        report.case(f"into/auth-binding/{mechanism.lower()}-of-another", wrong_binding, servers, bench, mechanism)
    deferred = {"Postfix": r"status=deferred \(SASL authentication failed; .* 535 5\.7\.8 ",
                "Exim": r"cram_md5 authenticator failed .* 535 5\.7\.8 "}
    for name, mechanisms in SYSTEMS.items():
        for mechanism in mechanisms:
            at = f"into/auth-{name.lower()}/{mechanism.lower()}"
            report.case(at, by_system, mta[name], servers.of(mechanism), mechanism)
            if mechanism != "EXTERNAL":
                report.case(at + "-wrong", by_system_wrong, mta[name], relays.other, mechanism, deferred[name])
    to_dovecot(report, bench, mta["Postfix"])
    to_gsasl(report, bench)
    to_exim(report, bench, mta["Exim"])
