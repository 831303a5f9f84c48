"""The extensions other than AUTH: our client uses them with mail systems, and their logs and mailboxes show it."""

import email
import json
import re

from bench import Failure, same_after
from extensions import PLAIN, TO, begin, logged, only
from into import FROM
from ours import Ours, check, has, send
from sink import Sink
import exim
import postfix


def delivered(system, added):
    """Take the one message that a mail system has put into the maildir."""
    same_after(added, system.inbox.next(), PLAIN.replace(b"\r\n", b"\n"))


def notification(bench, ends, system, added, envid):
    """Ask a mail system to notify of success, and get the notification."""
    ends.open.mark()
    system.log.mark()
    send(bench, system.chunking, "-tls", "none", "-from", "anna@notify.example", "-envid", envid, "-ret", "HDRS",
         "-notify", "SUCCESS,FAILURE", "-orcpt", file=bench.path("plain.eml"))
    delivered(system, added)
    message, _ = ends.open.message(system.log)
    check(message, **{"from": "", "to": message["to"]})
    if message["to"][0]["address"] != "anna@notify.example":
        raise Failure(f"the notification went to {message['to']}")
    report = email.message_from_bytes(message["content"])
    if report.get_content_type() != "multipart/report":
        raise Failure(f"the notification is {message['content']!r}")
    status = next(part for part in report.walk() if part.get_content_type() == "message/delivery-status")
    of_message, of_recipient = status.get_payload()[:2]
    for fields, name, want in (
        (of_message, "Original-Envelope-Id", envid),
        (of_recipient, "Original-Recipient", "rfc822;bert@receive.example"),
        (of_recipient, "Action", "delivered"),
    ):
        if fields.get(name, "").replace("; ", ";") != want:
            raise Failure(f"{name} is {fields.get(name)!r}, not {want!r}:\n{status}")
    if PLAIN.splitlines()[-1] in message["content"]:
        raise Failure("RET=HDRS, and the body was returned")


def notify_never(bench, ends, system):
    """Ask a mail system for silence: a message that cannot be delivered is not reported."""
    ends.open.mark()
    known = begin(system)
    send(bench, system.chunking, "-tls", "none", "-from", "anna@notify.example", "-to", "refused@ours.example", "-notify",
         "NEVER", file=bench.path("plain.eml"))
    logged(system, known, r"refused@ours\.example.* 550 ", r"(?m)( removed| Completed)$")
    record = ends.open.take()
    check(record, messages=None)
    if len(ends.open.all()) != ends.open.seen:
        raise Failure("there is a notification")


def xclient_out(bench, system):
    """Speak for another client: Postfix believes it, its log shows."""
    known = begin(system)
    outcome = send(bench, system.trusting, "-xclient", json.dumps({
        "Addr": "192.0.2.9", "Port": "4711", "Name": "far.example", "Login": "carla", "Hello": "said.example",
        "Protocol": "ESMTP"}), file=bench.path("plain.eml"))
    has(outcome["dialogue"], "C: XCLIENT ", "S: 220 postfix.example ")
    delivered(system, postfix.DELIVERED)
    logged(system, known, r"client=far\.example\[192\.0\.2\.9\], sasl_method=XCLIENT, sasl_username=carla",
           r"disconnect from .* xclient=\d")


def xclient_not_offered(bench, system):
    outcome = send(bench, system.chunking, "-xclient", '{"Addr": "192.0.2.9"}', error="the server does not")
    if any(line.startswith("C: XCLIENT") for line in outcome["dialogue"]):
        raise Failure(f"{outcome}")


def xforward_out(bench, system):
    known = begin(system)
    send(bench, system.trusting, "-xforward", json.dumps({
        "Addr": "192.0.2.9", "Port": "4711", "Name": "far.example", "Hello": "said.example", "Protocol": "ESMTP",
        "Ident": "ORIGINAL1", "Source": "REMOTE"}), file=bench.path("plain.eml"))
    delivered(system, postfix.DELIVERED)
    logged(system, known, r"client=.*\[127\.0\.0\.1\], orig_queue_id=ORIGINAL1, orig_client=far\.example\[192\.0\.2\.9\]")


def proxy_out(bench, system, version, client, shown):
    known = begin(system)
    send(bench, system.proxied, "-proxy", version, "-proxy-client", client, file=bench.path("plain.eml"))
    delivered(system, postfix.DELIVERED)
    logged(system, known, rf"client=.*\[{re.escape(shown)}\]", r"disconnect from .* bdat=1 ")


def proxy_missing(bench, system):
    """Without the header, Postfix does not answer as a server of SMTP does."""
    check(send(bench, system.proxied, error="421"), code=421)


def etrn_out(bench, ends, system):
    """Have Postfix send what waits for a host that was not there before."""
    known = begin(system)
    submit = ("-tls", "none", "-to", "bert@" + postfix.QUEUED)
    send(bench, system.chunking, *submit, file=bench.path("plain.eml"))
    logged(system, known, r"to=<bert@queued\.example>.* status=deferred \(connect to 127\.0\.0\.1")
    with Ours(bench, "ours-later", smtp=ends.later) as server:
        system.log.mark()
        outcome = send(bench, system.chunking, "-tls", "none", "-etrn", postfix.QUEUED)
        has(outcome["dialogue"], f"C: ETRN {postfix.QUEUED}\nS: 250 ")
        check(outcome, pending=-1)  # it does not say how many
        message, _ = server.message(system.log)
        check(message, to=only("bert@" + postfix.QUEUED, ORCPT="rfc822;bert@" + postfix.QUEUED))


def etrn_refused(bench, system):
    outcome = send(bench, system.chunking, "-tls", "none", "-etrn", "other.example", error="459")
    check(outcome, code=459)


def command_out(bench, system, command, code, *flags):
    outcome = send(bench, system.chunking, "-tls", "none", "-do", command, *flags)
    has(outcome["done"], code)


def prdr_out(bench, system):
    """Exim refuses the content for one of two recipients, and says so of that one."""
    known = begin(system)
    outcome = send(bench, system.chunking, "-tls", "none", "-to", ",".join(TO), file=bench.path("plain.eml"), error="550")
    has(outcome["dialogue"], " PRDR", "C: BDAT ", "S: 353 ")
    if [(r["ok"], r["reply"][:3]) for r in outcome["recipients"]] != [(True, "250"), (False, "550")]:
        raise Failure(f"{outcome}")
    delivered(system, exim.DELIVERED)
    logged(system, known, r"picky@receive\.example")
    if re.search(r"=> picky", system.log.text()[known:]):
        raise Failure("Exim has delivered to the one who did not want it:\n" + system.log.tail())


def prdr_out_by_data(bench, system):
    """The same by DATA."""
    begin(system)
    outcome = send(bench, system.data, "-tls", "none", "-to", ",".join(reversed(TO)), file=bench.path("plain.eml"),
                   error="550")
    has(outcome["dialogue"], " PRDR", "C: DATA")
    if [(r["ok"], r["reply"][:3]) for r in outcome["recipients"]] != [(False, "550"), (True, "250")]:
        raise Failure(f"{outcome}")
    delivered(system, exim.DELIVERED)


def requiretls(bench, system):
    """No peer of Debian's offers REQUIRETLS: the message stays here, for it must not go on without."""
    outcome = send(bench, system.chunking, "-requiretls", file=bench.path("plain.eml"), error="REQUIRETLS")
    if any(line.startswith("C: MAIL") for line in outcome["dialogue"]):
        raise Failure(f"{outcome}")


def requiretls_offered(bench):
    sink = Sink(bench, ("8BITMIME", "REQUIRETLS"), "starttls")
    send(bench, sink.port, "-requiretls", file=bench.path("plain.eml"))
    sink.messages()
    has(sink.commands(), f"MAIL FROM:<{FROM}> REQUIRETLS")


def not_offered(bench, system, words):
    """Check that the peer still has none of what this says it has not: when it has, there is a case to be written."""
    offered = [word.upper() for word in send(bench, system.chunking)["offered"]]
    for word in words:
        if word in offered:
            raise Failure(f"the peer offers {word} now: write a case for it")


def all_peers(report, bench, mta, ends):
    case = report.case
    for name, system in mta.items():
        # Exim 4.96 puts the xtext of ENVID into its notifications as it is.
        added, envid = (postfix.DELIVERED, "QQ+314=159") if name == "Postfix" else (exim.DELIVERED, "QQ314159")
        case(f"out-of/dsn-{name.lower()}/success", notification, bench, ends, system, added, envid)
        case(f"out-of/dsn-{name.lower()}/never", notify_never, bench, ends, system)
        case(f"out-of/requiretls-{name.lower()}/not-offered", requiretls, bench, system)
        case(f"out-of/{name.lower()}/offers-no-more", not_offered, bench, system, ("REQUIRETLS", "LIMITS"))
    case("out-of/requiretls-sink/offered", requiretls_offered, bench)
    system = mta["Postfix"]
    case("out-of/xclient-postfix/trusted", xclient_out, bench, system)
    case("out-of/xclient-postfix/not-offered", xclient_not_offered, bench, system)
    case("out-of/xforward-postfix/told", xforward_out, bench, system)
    for version in ("v1", "v2"):
        case(f"out-of/proxy-postfix/{version}", proxy_out, bench, system, version, "192.0.2.7:4321", "192.0.2.7")
    case("out-of/proxy-postfix/missing", proxy_missing, bench, system)
    case("out-of/etrn-postfix/started", etrn_out, bench, ends, system)
    case("out-of/etrn-postfix/not-yours", etrn_refused, bench, system)
    case("out-of/vrfy-postfix/known", command_out, bench, system, "VRFY bert@receive.example", "252 2.0.0 ")
    case("out-of/vrfy-postfix/unknown", command_out, bench, system, "VRFY nobody@receive.example", "550 5.1.1 ")
    system = mta["Exim"]
    case("out-of/prdr-exim/one-refused", prdr_out, bench, system)
    case("out-of/prdr-exim/one-refused-data", prdr_out_by_data, bench, system)
