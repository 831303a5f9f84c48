"""examples/direct delivers by MX: a signed DNS and policies over HTTPS say how, and Postfix and Exim get the mail."""

import re
import subprocess

from bench import Failure, run, same, same_after, until
from into import FROM
from messages import MESSAGES
from outof import BAD_DATA, REFUSED, SECURITY, SOME_REFUSED, TEMPORARY, mailbox
import exim
import mxdomains
import postfix
from mxhosts import Hosts
from mxsts import PATH, Policies
from mxzones import Names


def names(report, hosts, dns):
    """Check that the resolver answers as the cases count on. This is asked by dig, not by us."""
    tlsa = f"_{hosts.smtp}._tcp.h.%s.example"
    cases = {
        "signed": ("ee.example", "MX", "NOERROR", True, 1),
        "tlsa": (tlsa % "ee", "TLSA", "NOERROR", True, 1),
        "bogus-mx": ("bogus-mx.example", "MX", "SERVFAIL", False, 0),
        "bogus-address": ("h.bogus-a.example", "A", "SERVFAIL", False, 0),
        "bogus-tlsa": (tlsa % "bogus-tlsa", "TLSA", "SERVFAIL", False, 0),
        "bogus-tlsa-good-address": ("h.bogus-tlsa.example", "A", "NOERROR", True, 1),
        "bogus-text": ("_mta-sts.bogus-text.example", "TXT", "SERVFAIL", False, 0),
        "expired-mx": ("expired.example", "MX", "SERVFAIL", False, 0),
        "expired-tlsa": (tlsa % "expired-tlsa", "TLSA", "SERVFAIL", False, 0),
        "expired-tlsa-good-address": ("h.expired-tlsa.example", "A", "NOERROR", True, 1),
        "lame": ("lame.example", "MX", "SERVFAIL", False, 0),
        "lame-tlsa": (tlsa % "lame-tlsa", "TLSA", "SERVFAIL", False, 0),
        "lame-text": ("_mta-sts.text-lame.plain.example", "TXT", "SERVFAIL", False, 0),
        "nodata": (tlsa % "nodata", "TLSA", "NOERROR", True, 0),
        "no-name": (tlsa % "no-name", "TLSA", "NXDOMAIN", True, 0),
        "wildcard": (tlsa % "wild", "TLSA", "NOERROR", True, 1),
        "alias-of-host": ("h.alias.example", "A", "NOERROR", True, 1),
        "alias-of-tlsa": (tlsa % "tlsa-alias", "TLSA", "NOERROR", True, 1),
        "unsigned": ("mx.plain.example", "A", "NOERROR", False, 1),
        "unsigned-tlsa": (f"_{hosts.smtp}._tcp.tlsa.plain.example", "TLSA", "NOERROR", False, 1),
        "null-mx": ("null.example", "MX", "NOERROR", True, 1),
        "no-such-domain": ("nosuch.example", "MX", "NXDOMAIN", True, 0),
        "not-the-internet": ("com", "NS", "NXDOMAIN", True, 0),
    }
    for name, case in cases.items():
        report.case("routes/names/" + name, dns.is_so, *case)


def fetched(hosts, domain, status, *words):
    """Fetch a policy as curl does, which has to end with a status and to show words."""
    host = "mta-sts." + domain
    out = run("curl", "--silent", "--show-error", "--include", "--cacert", hosts.authority.ca, "--resolve",
              f"{host}:443:{hosts.addresses['policies']}", f"https://{host}{PATH}", status=status)
    for word in words:
        if word not in out:
            raise Failure(f"there is no {word!r} in\n{out}")


def policies(report, hosts):
    """Check that the policy hosts do what the cases count on. This is asked by curl, not by us."""
    for name, status, *words in (
            ("enforce-mx", 0, " 200 ", "mode: enforce\r\nmx: mx.plain.example\r\nmax_age: 86400"),
            ("https-404", 0, " 404 "),
            ("https-redirect", 0, " 301 ", "elsewhere.txt"),
            ("https-expired", 60, "certificate has expired"),
            ("https-name", 60, "no alternative certificate subject name matches"),
            ("https-stranger", 60, "self-signed certificate in certificate chain"),
            ("https-hangs-up", 52, "Empty reply")):
        report.case("routes/policies/" + name, fetched, hosts, name + ".plain.example", status, *words)


def shown(hosts, where, name, verdict, *flags):
    """Look at the certificate of a host as OpenSSL does, which has to come to a verdict."""
    p = subprocess.run(
        ["openssl", "s_client", "-starttls", "smtp", "-connect", f"{hosts.addresses[where]}:{hosts.smtp}", "-CAfile",
         hosts.authority.ca, "-verify_hostname", name, "-servername", name, *flags],
        input=b"QUIT\r\n", capture_output=True, timeout=20)
    said = (p.stdout + p.stderr).decode(errors="replace")
    if verdict not in said:
        raise Failure(f"there is no {verdict!r} in\n{said[-1500:]}")


def certificates(report, hosts):
    """Check that the hosts and their TLSA records are what the cases count on. This is asked by OpenSSL, not by us."""
    good, plain = "Verify return code: 0 (ok)", ".plain.example"
    for where, verdict in (
            ("good", good), ("exim", good), ("self", "Verify return code: 18 (self-signed certificate)"),
            ("late", "Verify return code: 10 (certificate has expired)"), ("other", "Verify return code: 62 (hostname"),
            ("clear", "Didn't find STARTTLS in server response"), ("exim-clear", "Didn't find STARTTLS"),
            ("broken", "wrong version number")):
        name = ("mx" if where == "good" else where) + plain
        report.case("routes/certificates/" + where, shown, hosts, where, name, verdict)
    verdicts = {"ta-other": "Verify return code: 62 (hostname", "ta-late": "Verify return code: 10 (certificate has ",
                "wrong": "Verify return code: 65 (no matching DANE TLSA records)"}
    for label, where, records in mxdomains.dane(hosts):
        usable = [r for r in records if r[0] in "23" and r[4] in "012"]
        if usable and where in hosts.certs and not label.startswith("unusable"):
            flags = [word for r in usable for word in ("-dane_tlsa_rrdata", r)]
            base = ("" if label == "next-hop" else "h.") + label + ".example"
            report.case("routes/certificates/tlsa-" + label, shown, hosts, where, base, verdicts.get(label, good),
                        "-dane_ee_no_namechecks", "-dane_tlsa_domain", base, *flags)


class Ways:
    """Runs examples/direct, and looks at what it says and at what arrives where."""

    def __init__(self, bench, program, hosts, dns):
        self.bench, self.program, self.hosts, self.dns = bench, program, hosts, dns
        self.seen = {}

    def send(self, *to, status=0, flags=(), which="plain"):
        """Send a message and return the lines, one for each recipient, in their order."""
        self.mark()
        words = [word for address in to for word in ("-to", address)]
        p = subprocess.run(
            [self.program, "-resolver", self.dns.resolver, "-port", str(self.hosts.smtp), "-helo", "client.example",
             "-ca", self.hosts.authority.ca, "-timeout", "30s", "-v", "-from", FROM, *words, *flags,
             self.bench.path(which + ".eml")], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        out, err = p.stdout.decode(errors="replace"), p.stderr.decode(errors="replace")
        if p.returncode != status:
            raise Failure(f"direct ended with {p.returncode}, not {status}:\n{out}{err[-2000:]}")
        if ("there is no DANE" in err) != ("-resolver" in flags):
            raise Failure(err[-2000:])
        lines = out.splitlines()
        if status != BAD_DATA and [line.partition(": ")[0] for line in lines] != list(to):
            raise Failure(f"these are not the lines of {to}:\n{out}{err[-2000:]}")
        return lines

    def mark(self):
        """Forget what arrived so far."""
        self.seen = {name: len(got) for name, got in self.arrived().items()}

    def arrived(self):
        """Return what was accepted by each system, as it says itself, sooner or later."""
        hosts = self.hosts
        return {"postfix": re.findall(r"smtpd\[\d+\]: \w+: client=.*", hosts.postfix.log.text()),
                "exim": re.findall(r"<= .*", hosts.exim.log.text())} | {
                    name: sink.messages() for name, sink in hosts.sinks.items()}

    def new(self):
        return {name: got[self.seen[name]:] for name, got in self.arrived().items()}

    def delivered(self, to, where, tls, policy, flags=(), which="plain"):
        """Check that a message gets to a host, with or without TLS and by a policy, and that all of it does."""
        line, = self.send(to, flags=flags, which=which)
        self.says(line, where, tls, policy)
        self.got(where, tls, which)

    def says(self, line, where, tls, policy):
        at, version = self.hosts.addresses[where], "TLS 1.3" if tls else "no TLS"
        how = f"[{at}]:{self.hosts.smtp}, {version}, policy {policy}: 250 "
        if how not in line:
            raise Failure(f"{where}: {how!r} was due, but direct says\n{line}")

    def got(self, where, tls, which="plain"):
        """Check that the host, and no other, got one message, all of it, and with or without TLS."""
        name = "exim" if where.startswith("exim") else where if where in self.hosts.sinks else "postfix"
        until(lambda: f"a message at {where}", lambda: self.new()[name])  # a log may be late
        if {k: len(v) for k, v in self.new().items() if v} != {name: 1}:
            raise Failure(f"one message was due at {where}, but there are {self.new()}")
        if name in self.hosts.sinks:
            session = [s for s in self.hosts.sinks[name].sessions if s.messages][-1]
            if session.secure != tls:
                raise Failure(f"the session of {where} had TLS: {session.secure}")
            same(session.messages[-1][2], MESSAGES[which])
            return
        octets = getattr(self.hosts, name).inbox.next()
        same_after((postfix if name == "postfix" else exim).DELIVERED, octets, mailbox(MESSAGES[which]))
        by = "exim.example" if name == "exim" else where + ".postfix.example"
        protocol = "ESMTPS" if tls else "ESMTP"
        if not re.search(rf"\sby {re.escape(by)} .*with {protocol}\s".encode(), octets, re.I | re.S):
            raise Failure(f"no Received field has {by} and {protocol}:\n{octets[:1000]}")

    def kept(self, to, status, word, flags=()):
        """Check that nobody gets a message, and why."""
        line, = self.send(to, status=status, flags=flags)
        if any(self.new().values()):
            raise Failure(f"the message was accepted: {self.new()}, and direct says\n{line}")
        if word not in line:
            raise Failure(f"there is no {word!r} in\n{line}")


def by_dane(report, ways):
    """RFC 7672: the host whose certificate matches gets the message, whatever else is wrong with it."""
    for name, where, policy in (
            ("ee", "self", "DANE"), ("ee-late", "late", "DANE"), ("ee-other", "other", "DANE"),
            ("ee-512", "exim", "DANE"), ("ee-whole", "good", "DANE"), ("ta", "good", "DANE"),
            ("ta-exim", "exim", "DANE"),
            ("next-hop", "good", "DANE"), ("wrong-and-right", "good", "DANE"), ("unusable", "self", "DANE"),
            ("unusable-matching", "self", "DANE"), ("no-name", "self", "none"), ("nodata", "self", "none"),
            ("wild", "good", "DANE"), ("alias", "self", "DANE"), ("alias-own", "self", "DANE"),
            ("tlsa-alias", "good", "DANE"), ("second", "self", "DANE"), ("bogus-second", "self", "DANE"),
            ("unsigned-host", "self", "none"), ("implicit-dane", "self", "DANE"), ("dane-and-sts", "self", "DANE")):
        report.case("routes/dane/" + name, ways.delivered, f"bert@{name}.example", where, True, policy)
    credulous = ("-resolver", ways.dns.credulous)
    for name, where in (("ee", "self"), ("wrong", "good")):  # what is not proved is not believed
        report.case(f"routes/dane/{name}-not-validated", ways.delivered, f"bert@{name}.example", where, True, "none",
                    credulous)
    for name in ("via-tlsa", "tlsa-domain"):
        where = "good" if name == "via-tlsa" else "self"
        report.case("routes/dane/unsigned-" + name, ways.delivered, f"bert@{name}.plain.example", where, True, "none")
    for name in ("ta-other", "ta-late", "wrong", "unusable-clear", "unusable-and-wrong", "no-starttls", "broken-tls",
                 "refused-tls", "alias-wrong", "wrong-and-sts"):
        report.case("routes/dane/" + name, ways.kept, f"bert@{name}.example", SECURITY, ": 4.7.")
    for name in ("bogus-tlsa", "bogus-mx", "bogus-a", "expired-tlsa", "expired", "lame-tlsa", "lame", "bogus-and-sts"):
        report.case("routes/dane/" + name, ways.kept, f"bert@{name}.example", TEMPORARY, ": 4.")


def by_sts(report, ways, served):
    """RFC 8461: enforced, tested, given up, and not to be had for each reason there is."""
    hosts = (("mx", "good", True), ("exim", "exim", True), ("self", "self", True), ("late", "late", True),
             ("other", "other", True), ("clear", "clear", False), ("broken", "broken", False),
             ("refusing", "refusing", False))
    for mx, where, tls in hosts:
        for mode in ("testing", "none"):
            to = f"bert@{mode}-{mx}.plain.example"
            report.case(f"routes/sts/{mode}-{mx}", ways.delivered, to, where, tls, "none")
        to = f"bert@enforce-{mx}.plain.example"
        if mx in ("mx", "exim"):
            report.case("routes/sts/enforce-" + mx, ways.delivered, to, where, True, "STS")
        else:
            report.case("routes/sts/enforce-" + mx, ways.kept, to, SECURITY, ": 4.7.")
    for mode in ("testing", "none"):
        report.case(f"routes/sts/{mode}-mismatch", ways.delivered, f"bert@{mode}-mismatch.plain.example", "good", True,
                    "none")
    for name, where in (("enforce-second", "exim"), ("enforce-unlisted-first", "good"), ("wildcard", "good"),
                        ("idn", "good"), ("idn-u-label", "good")):
        report.case("routes/sts/" + name, ways.delivered, f"bert@{name}.plain.example", where, True, "STS")
    report.case("routes/sts/enforce-stuck", ways.delivered, "bert@enforce-stuck.plain.example", "exim", True, "STS",
                ("-timeout", "1s"))
    for name in ("enforce-mismatch", "wildcard-two-labels", "unix-lines", "first-mode-wins", "unknown-key",
                 "with-charset", "long-max-age"):
        report.case("routes/sts/" + name, ways.kept, f"bert@{name}.plain.example", SECURITY, ": 4.7.")
    report.case("routes/sts/bogus-text", ways.delivered, "bert@bogus-text.example", "self", True, "none")
    report.case("routes/sts/not-of-the-parent", ways.delivered, "bert@child.enforce-mx.plain.example", "clear", False,
                "none")
    for name in mxdomains.WITHOUT:
        report.case("routes/sts/" + name, ways.delivered, f"bert@{name}.plain.example", "clear", False, "none")
    report.case("routes/sts/cached", cached, ways, served["mta-sts.cached.plain.example"])


def cached(ways, served):
    """A policy in a directory applies when it cannot be fetched any more (RFC 8461 section 3.3), and only then."""
    to, flags = "bert@cached.plain.example", ("-sts-cache", ways.bench.path("sts-cache"))
    ways.kept(to, SECURITY, ": 4.7.", flags=flags)
    served.code = 404
    ways.kept(to, SECURITY, ": 4.7.", flags=flags)
    if served.asked != 1:
        raise Failure(f"the policy was fetched {served.asked} times, though its id is the same")
    ways.delivered(to, "clear", False, "none")


def shared(ways):
    """Domains that share a host do not share its connections, or their policies."""
    to = [f"bert@{name}.plain.example" for name in ("share-strict", "share-testing", "preference")]
    lines = ways.send(*to, status=SOME_REFUSED)
    if ": 4.7." not in lines[0]:
        raise Failure("the policy of the first domain was not applied:\n" + "\n".join(lines))
    for line in lines[1:]:
        ways.says(line, "self", True, "none")
    for octets in ways.hosts.postfix.inbox.take(2):
        same_after(postfix.DELIVERED, octets, mailbox(MESSAGES["plain"]))


def by_mx(report, ways):
    """RFC 5321 section 5, and RFC 7505."""
    plain = ".plain.example"
    for name, where, tls in (
            ("implicit", "clear", False), ("alias", "clear", False), ("aliased-host", "good", True),
            ("preference", "self", True), ("first-dead", "exim", True), ("first-busy", "good", True),
            ("first-missing", "good", True)):
        report.case("routes/mx/" + name, ways.delivered, "bert@" + name + plain, where, tls, "none")
    report.case("routes/mx/stuck", ways.delivered, "bert@stuck-host" + plain, "stuck", False, "none",
                ("-timeout", "1s"))
    report.case("routes/mx/idn", ways.delivered, "bert@b\u00fccher" + plain, "self", True, "none")
    literal = f"bert@[{ways.hosts.addresses['clear']}]"
    report.case("routes/mx/literal", ways.delivered, literal, "clear", False, "none")
    for name, to, status, word in (
            ("null", "bert@null" + plain, REFUSED, ": 5.1.10 "),
            ("null-signed", "bert@null.example", REFUSED, ": 5.1.10 "),
            ("no-such-domain", "bert@nosuch.example", REFUSED, ": 5.1.2 "),
            ("nothing", "bert@nothing" + plain, REFUSED, ": 5."),
            ("no-host", "bert@no-host" + plain, REFUSED, ": 5."),
            ("literal-host", "bert@literal-host" + plain, REFUSED, ": 5."),
            ("all-dead", "bert@all-dead" + plain, TEMPORARY, ": 4."),
            ("final-refusal", "refused@preference" + plain, REFUSED, ", TLS 1.3, policy none: 550 5.1.1 ")):
        report.case("routes/mx/" + name, ways.kept, to, status, word)
    report.case("routes/mx/some-refused", some_refused, ways)
    report.case("routes/mx/two-policies-at-one-host", shared, ways)
    for which in ("lone-dots", "leading-dots", "eight-bit", "utf-8", "long-lines", "smuggling"):
        for mx, where in (("mx", "good"), ("exim", "exim")):
            report.case(f"routes/mx/{which}-to-{mx}", ways.delivered, f"bert@enforce-{mx}{plain}", where, True, "STS",
                        (), which)


def some_refused(ways):
    """Three domains, of which one takes no mail and one refuses its recipient."""
    to = ("bert@null.plain.example", "refused@enforce-mx.plain.example", "bert@enforce-exim.plain.example")
    lines = ways.send(*to, status=SOME_REFUSED)
    if ": 5.1.10 " not in lines[0] or ": 550 5.1.1 " not in lines[1]:
        raise Failure("direct says\n" + "\n".join(lines))
    ways.says(lines[2], "exim", True, "STS")
    ways.got("exim", True)


def by_demand(report, ways):
    """-tls required, and REQUIRETLS (RFC 8689), which none of Debian's mail systems has."""
    required, require = ("-tls", "required"), ("-requiretls",)
    for name, where in (("testing-mx", "good"), ("preference", "exim")):
        report.case("routes/required/" + name, ways.delivered, f"bert@{name}.plain.example", where, True, "local",
                    required)
    report.case("routes/required/dane", ways.delivered, "bert@ee.example", "self", True, "DANE", required)
    for name in ("share-testing", "implicit", "testing-late", "aliased-host"):
        report.case("routes/required/" + name, ways.kept, f"bert@{name}.plain.example", SECURITY, ": 4.7.", required)
    report.case("routes/requiretls/dane", requiretls, ways, "bert@requiretls.example")
    report.case("routes/requiretls/sts", requiretls, ways, "bert@enforce-requiretls.plain.example")
    for name, to in (("unproved", "bert@requiretls-unproved.plain.example"),
                     ("testing-mismatch", "bert@testing-mismatch.plain.example"),
                     ("not-offered-dane", "bert@ee.example"), ("not-offered-sts", "bert@enforce-mx.plain.example"),
                     ("not-offered-exim", "bert@enforce-exim.plain.example")):
        report.case("routes/requiretls/" + name, ways.kept, to, SECURITY, ": 5.7.30 ", require)


def requiretls(ways, to):
    line, = ways.send(to, flags=("-requiretls",))
    ways.got("requiretls", True)
    said = ways.hosts.sinks["requiretls"].sessions[-1].commands
    if not any(c.startswith("MAIL FROM:") and " REQUIRETLS" in c for c in said):
        raise Failure(f"no MAIL had REQUIRETLS: {said}, and direct says\n{line}")


def all_peers(report, bench, programs):
    hosts = Hosts(bench, programs.exim, mxdomains.CERTIFIED)
    zones, spoilt, served = mxdomains.zones(hosts)
    dns = Names(bench, programs, hosts.addresses["names"], hosts.addresses["lame"], zones, spoilt)
    Policies(bench, hosts.addresses["policies"], hosts.authority, served)
    names(report, hosts, dns)
    policies(report, hosts)
    certificates(report, hosts)
    ways = Ways(bench, programs.direct, hosts, dns)
    by_dane(report, ways)
    by_sts(report, ways, served)
    by_mx(report, ways)
    by_demand(report, ways)
