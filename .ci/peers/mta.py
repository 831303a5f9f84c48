"""Mail software submits to examples/mta, and gets mail from it: by SMTP, LMTP, ETRN and ATRN, and as reports."""

import email
import os
import smtplib
import ssl

from bench import Failure, Maildir, await_listener, port, run, same_after, stop, until
from into import FROM, PASSWORD, TO, USER, by_curl, by_msmtp, by_nodemailer, by_swaks, relayed
from messages import MESSAGES, canonical
from sink import Sink
import dovecot
import exim
import postfix

ADDED = ("Return-Path", "Delivered-To", "Received")
ITSELF = "anna@mta.example"
WHICH = ("plain", "lone-dots", "eight-bit", "utf-8", "no-final-newline", "long-lines", "30MB")


class MTA:
    """An examples/mta, on ports that are known before it is started."""

    def __init__(self, bench, binary, name):
        self.bench, self.binary, self.name = bench, binary, name
        self.mx, self.smtp, self.smtps, self.odmr = port(), port(), port(), port()
        self.dir, self.proc, self.later = bench.mkdir(name), None, port()

    def start(self, *flags):
        at = "127.0.0.1:%d"
        self.proc = self.bench.start(
            self.name + "-run", self.binary, "-dir", self.dir, "-hostname", self.name + ".example", "-cert", self.bench.cert,
            "-key", self.bench.key, "-mx-addr", at % self.mx, "-submission-addr", at % self.smtp, "-submissions-addr",
            at % self.smtps, "-odmr-addr", at % self.odmr, "-user", f"{USER}:{PASSWORD}:{FROM},{ITSELF}", *flags)
        for p in (self.mx, self.smtp, self.smtps):
            await_listener(p, lambda: self.proc.poll() is None, self.tail)
        return self

    def tail(self):
        return self.bench.log(self.name + "-run.log")

    def trouble(self):
        return ""

    def box(self, address):
        """Return a Maildir, which forgets what is in it."""
        local, _, domain = address.partition("@")
        box = Maildir(f"{self.dir}/mail/{domain}/{local}", self)
        if os.path.isdir(box.path + "/new"):
            box.seen = {f"{box.path}/new/{name}" for name in os.listdir(box.path + "/new")}
        return box

    def submit(self, sender, to, message, rcpt=()):
        with smtplib.SMTP("127.0.0.1", self.smtp, local_hostname="client.example", timeout=60) as s:
            s.starttls(context=ssl.create_default_context(cafile=self.bench.cert))
            s.login(USER, PASSWORD)
            s.sendmail(sender, to, message, ["BODY=8BITMIME"], list(rcpt))


class Servers:
    """One for clients, and one each in front of Postfix, Exim and Dovecot. The mail systems have to know their ports."""

    def __init__(self, bench, binary):
        self.bench = bench
        self.local, self.postfix, self.exim, self.dovecot = (
            MTA(bench, binary, name) for name in ("mta", "mta-postfix", "mta-exim", "mta-dovecot"))

    def transports(self):
        return {"submit.mta.example": "submit:[127.0.0.1]:%d" % self.local.smtp}

    def start(self, systems, mailboxes):
        """Start all. The servers for queued.example are not there yet."""
        self.local.start("-domain", "receive.example", "-domain", "submit.mta.example", "-domain", "customer.example",
                         "-user", "bert:secret", "-user", "carla:secret")
        for mta, system, queue in ((self.postfix, systems["Postfix"], "sqlite"), (self.exim, systems["Exim"], "dir")):
            mta.start("-domain", "mta.example", "-queue", queue, "-route", "receive.example=127.0.0.1:%d" % system.chunking,
                      "-route", "queued.example=127.0.0.1:%d" % mta.later, "-on-demand", "customer.example=" + USER)
        self.dovecot.start("-domain", "mta.example", "-lmtp", "127.0.0.1:%d" % mailboxes.lmtp)


def lf(message):
    return canonical(message).replace(b"\r\n", b"\n")


def submitted(mta, send, which, to=TO, added=ADDED):
    """A client submits a message, which arrives in the Maildir of each recipient."""
    boxes = [mta.box(address) for address in to]
    send(which, MESSAGES[which])
    for box in boxes:
        same_after(added, box.next(), lf(MESSAGES[which]))


def received(mta, system, which, added, to=TO[:1]):
    """A mail system gets a message from the queue."""
    system.log.mark()
    mta.submit(FROM, to, MESSAGES[which])
    try:
        same_after(added, system.inbox.next(), lf(MESSAGES[which]))
    except Failure as e:
        raise Failure(f"{e}\n{mta.tail()}") from None


def reported(mta):
    """What a mail system refuses comes back, in a form that Python's email package reads."""
    box = mta.box(ITSELF)
    mta.submit(ITSELF, ["nobody@receive.example"], MESSAGES["plain"])
    report = email.message_from_bytes(box.next())
    if (report.get_content_type(), report.get_param("report-type")) != ("multipart/report", "delivery-status"):
        raise Failure(f"the report is {report}")
    status = next(part for part in report.walk() if part.get_content_type() == "message/delivery-status")
    of_message, of_recipient = status.get_payload()[:2]
    for fields, name, want in (
        (of_message, "Reporting-MTA", f"dns; {mta.name}.example"),
        (of_recipient, "Final-Recipient", "rfc822; nobody@receive.example"),
        (of_recipient, "Action", "failed"),
    ):
        if fields.get(name, "").replace(";", "; ").replace("  ", " ") != want:
            raise Failure(f"{name} is {fields.get(name)!r}, not {want!r}:\n{status}")
    if not of_recipient["Status"].startswith("5.") or "550" not in of_recipient["Diagnostic-Code"]:
        raise Failure(f"the recipient has {of_recipient}")
    original = next(part for part in report.walk() if part.get_content_type() in ("message/rfc822", "text/rfc822-headers"))
    if "plain.1@client.example" not in original.as_string():
        raise Failure(f"the message is not returned:\n{report}")


FETCHMAIL = """
poll 127.0.0.1 with proto {proto} service {port}
  {options}
  fetchdomains {domain}
  smtphost 127.0.0.1/{to}
"""


def fetch(mta, status, **how):
    config = mta.bench.write("fetchmailrc-mta", FETCHMAIL.format(**how))
    os.chmod(config, 0o600)
    return run("fetchmail", "--fetchmailrc", config, "--nosyslog", "--nodetach", "-v", "--pidfile",
               mta.bench.path("fetchmail.pid"), "--idfile", mta.bench.path("fetchmail.ids"), status=status)


def etrn(servers, mta):
    """fetchmail has the mail for a server sent that was not there before."""
    mta.submit(FROM, ["bert@queued.example"], MESSAGES["plain"])
    until("an attempt that finds no server", lambda: "to=<bert@queued.example>" in mta.tail())
    sink = Sink(servers.bench, ("8BITMIME",), at=("127.0.0.1", mta.later))
    out = fetch(mta, 0, proto="ETRN", port=mta.mx, options="", domain="queued.example", to=servers.local.mx)
    if "ETRN< 253 " not in out:
        raise Failure(f"fetchmail said {out}")
    messages = until(lambda: "the message that waits:\n" + mta.tail(), lambda: [m for s in sink.sessions for m in s.messages])
    sink.listener.close()
    if messages[0][1] != ["bert@queued.example"]:
        raise Failure(f"the server has got {messages}")


def atrn(servers, mta):
    """fetchmail fetches by ATRN what came for a customer from strangers, and hands it to a server of the customer's."""
    box = servers.local.box("bert@customer.example")
    with smtplib.SMTP("127.0.0.1", mta.mx, local_hostname="client.example", timeout=60) as s:
        s.sendmail(FROM, ["bert@customer.example"], MESSAGES["plain"])
    fetch(mta, 0, proto="ODMR", port=mta.odmr, options=f'user "{USER}" with password "{PASSWORD}"',
          domain="customer.example", to=servers.local.mx)
    same_after(ADDED, box.next(), lf(MESSAGES["plain"]))


def ended(mta):
    """SIGTERM ends it, and it succeeds."""
    status = stop(mta.proc)
    if status != 0:
        raise Failure(f"it ended with {status}:\n{mta.tail()}")


def all_peers(report, bench, servers, systems, mailboxes):
    servers.start(systems, mailboxes)
    local = servers.local
    tls = ("--tls", "--tls-verify", "--auth-user", USER, "--auth-password", PASSWORD, "--auth")
    clients = {
        "swaks": by_swaks(bench, local.smtp, *tls, "PLAIN"),
        "msmtp-starttls": by_msmtp(bench, local, "starttls", "PLAIN"),
        "msmtp-tls-scram": by_msmtp(bench, local, "tls", "SCRAM-SHA-256"),
        "nodemailer-starttls": by_nodemailer(bench, local, "starttls"),
        "nodemailer-tls": by_nodemailer(bench, local, "tls"),
        "curl": by_curl(bench, local, "tls", "PLAIN"),
    }
    for name, send in clients.items():
        for which in WHICH:
            report.case(f"mta/submit-{name}/{which}", submitted, local, send, which)
    to = [a.replace("receive.example", "submit.mta.example") for a in TO]
    send = relayed(systems["Postfix"].chunking, "submit.mta.example")
    for which in WHICH:
        report.case(f"mta/submit-postfix/{which}", submitted, local, send, which, to)
        report.case(f"mta/receive-postfix/{which}", received, servers.postfix, systems["Postfix"], which, postfix.DELIVERED)
        report.case(f"mta/receive-exim/{which}", received, servers.exim, systems["Exim"], which, exim.DELIVERED)
        report.case(f"mta/receive-dovecot/{which}", received, servers.dovecot, mailboxes, which, dovecot.DELIVERED, [ITSELF])
    for mta in (servers.postfix, servers.exim):
        report.case(f"mta/report-{mta.name}/refused", reported, mta)
        report.case(f"mta/etrn-fetchmail/{mta.name}", etrn, servers, mta)
        report.case(f"mta/atrn-fetchmail/{mta.name}", atrn, servers, mta)
    for mta in (local, servers.postfix, servers.exim, servers.dovecot):
        report.case(f"mta/shutdown/{mta.name}", ended, mta)
