"""examples/direct delivers by MX, as a signed DNS, policies over HTTPS, Postfix and Exim have it."""

import subprocess

from bench import Failure, run
import mxdomains
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
    """Check that the hosts, and the TLSA records for them, are what they are to be. This is asked by OpenSSL, not by us."""
    good, plain = "Verify return code: 0 (ok)", ".plain.example"
    for where, verdict in (
            ("good", good), ("exim", good), ("self", "Verify return code: 18 (self-signed certificate)"),
            ("late", "Verify return code: 10 (certificate has expired)"), ("other", "Verify return code: 62 (hostname"),
            ("clear", "Didn't find STARTTLS in server response"), ("exim-clear", "Didn't find STARTTLS"),
            ("broken", "wrong version number"), ("refusing", "no peer certificate available")):
        name = ("mx" if where == "good" else where) + plain
        report.case("routes/certificates/" + where, shown, hosts, where, name, verdict)
    matched = {"ta-other": "Verify return code: 62 (hostname", "ta-late": "Verify return code: 10 (certificate has expired)",
               "wrong": "Verify return code: 65 (no matching DANE TLSA records)"}
    for label, where, records in mxdomains.dane(hosts):
        usable = [r for r in records if r[0] in "23" and r[4] in "012"]
        if usable and where in ("good", "exim", "self", "late", "other") and not label.startswith("unusable"):
            flags = [word for r in usable for word in ("-dane_tlsa_rrdata", r)]
            base = ("" if label == "next-hop" else "h.") + label + ".example"
            report.case("routes/certificates/tlsa-" + label, shown, hosts, where, base, matched.get(label, good),
                        "-dane_ee_no_namechecks", "-dane_tlsa_domain", base, *flags)


def all_peers(report, bench, programs):
    hosts = Hosts(bench, programs.exim, mxdomains.CERTIFIED)
    zones, spoilt, served = mxdomains.zones(hosts)
    dns = Names(bench, programs, hosts.addresses["names"], hosts.addresses["lame"], zones, spoilt)
    Policies(bench, hosts.addresses["policies"], hosts.authority, served)
    names(report, hosts, dns)
    policies(report, hosts)
    certificates(report, hosts)
