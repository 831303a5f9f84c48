"""The domains that mail is sent to: their records, their policies, and what is wrong with each."""

from mxhosts import association
from mxsts import Served, policy

# Names that the good certificates are for, beside those of their hosts. DANE-TA has to find one of them.
CERTIFIED = ["h.ta.example", "h.ta-exim.example", "next-hop.example", "good.wild.plain.example",
             "mx.xn--bcher-kva.plain.example"]


def dane(hosts):
    """Return the rows of domains with DANE: label, what answers at the host h.LABEL.example, its TLSA records."""
    certs = {name: pair[0] for name, pair in hosts.certs.items()}
    ca = hosts.authority.ca

    def ee(name):
        return association(3, 1, 1, certs[name])

    return [
        ("ee", "self", [ee("self")]),
        ("ee-late", "late", [ee("late")]),
        ("ee-other", "other", [association(3, 0, 1, certs["other"])]),
        ("ee-512", "exim", [association(3, 1, 2, certs["exim"])]),
        ("ee-whole", "good", [association(3, 0, 0, certs["good"])]),
        ("ta", "good", [association(2, 0, 1, ca)]),
        ("ta-exim", "exim", [association(2, 1, 1, ca)]),
        ("ta-other", "other", [association(2, 0, 1, ca)]),
        ("ta-late", "late", [association(2, 0, 1, ca)]),
        ("next-hop", "good", [association(2, 0, 1, ca)]),
        ("wrong", "good", [ee("other")]),
        ("wrong-and-right", "good", [ee("other"), ee("good")]),
        ("unusable", "self", [association(1, 1, 1, certs["other"]), association(0, 0, 1, ca)]),
        ("unusable-matching", "self", ["3 1 9 00"]),
        ("unusable-clear", "clear", [association(1, 1, 1, certs["other"])]),
        ("unusable-and-wrong", "self", [association(1, 1, 1, certs["self"]), ee("good")]),
        ("no-starttls", "clear", [ee("good")]),
        ("broken-tls", "broken", [ee("good")]),
        ("refused-tls", "refusing", [ee("good")]),
        ("bogus-tlsa", "good", [ee("good")]),
        ("bogus-mx", "good", [ee("good")]),
        ("bogus-a", "good", [ee("good")]),
        ("no-name", "self", []),
        ("nodata", "self", []),
        ("expired-tlsa", "good", []),
        ("lame-tlsa", "good", []),
        ("requiretls", "requiretls", [ee("requiretls")]),
    ]


# Records in the zone example. of domains that no row can have.
MORE = """
nodata MX 10 h.nodata
_{port}._tcp.h.nodata TXT "the name is there, the record is not"
wild MX 10 h.wild
h.wild A {good}
*._tcp.h.wild TLSA {ee_good}
alias MX 10 h.alias
h.alias CNAME h.ee
alias-own MX 10 h.alias-own
h.alias-own CNAME h.no-name
_{port}._tcp.h.alias-own TLSA {ee_self}
alias-wrong MX 10 h.alias-wrong
h.alias-wrong CNAME h.wrong
tlsa-alias MX 10 h.tlsa-alias
h.tlsa-alias A {good}
_{port}._tcp.h.tlsa-alias CNAME shared
shared TLSA {ee_good}
second MX 10 h.wrong
second MX 20 h.ee
bogus-second MX 10 h.bogus-tlsa
bogus-second MX 20 h.ee
unsigned-host MX 10 tlsa.plain
implicit-dane A {self}
_{port}._tcp.implicit-dane TLSA {ee_self}
dane-and-sts MX 10 h.ee
_mta-sts.dane-and-sts TXT "v=STSv1; id=1;"
mta-sts.dane-and-sts A {policies}
wrong-and-sts MX 10 h.wrong
_mta-sts.wrong-and-sts TXT "v=STSv1; id=1;"
mta-sts.wrong-and-sts A {policies}
bogus-and-sts MX 10 h.bogus-tlsa
_mta-sts.bogus-and-sts TXT "v=STSv1; id=1;"
mta-sts.bogus-and-sts A {policies}
bogus-text MX 10 h.no-name
_mta-sts.bogus-text TXT "v=STSv1; id=1;"
mta-sts.bogus-text A {policies}
null MX 0 .
"""

# The zone plain.example. is not signed.
PLAIN = """
mx A {good}
exim A {exim}
self A {self}
late A {late}
other A {other}
clear A {clear}
exim-clear A {exim-clear}
broken A {broken}
refusing A {refusing}
busy A {busy}
dead A {dead}
requiretls A {requiretls}
tlsa A {self}
_{port}._tcp.tlsa TLSA {ee_good}
good.wild A {good}
deep.good.wild A {good}
via-tlsa MX 10 h.wrong.example.
tlsa-domain MX 10 tlsa
implicit A {clear}
alias CNAME implicit
aliased-host MX 10 to-mx
to-mx CNAME mx
null MX 0 .
nothing TXT "neither MX nor address"
no-host MX 10 not-there
literal-host MX 10 127.0.0.1.
preference MX 20 exim
preference MX 10 self
first-dead MX 10 dead
first-dead MX 20 exim
first-busy MX 10 busy
first-busy MX 20 mx
first-missing MX 10 not-there
first-missing MX 20 mx
all-dead MX 10 dead
all-dead MX 20 dead
requiretls-unproved MX 10 requiretls
xn--bcher-kva MX 10 self
mx.xn--bcher-kva A {good}
stuck A {stuck}
stuck-host MX 10 stuck
"""


def sts(hosts):
    """Return the rows of domains with MTA-STS: label, hosts of plain.example. as MX, and what its policy host does."""
    expired = hosts.authority.issue(["mta-sts.https-expired.plain.example"], expired=True)
    wrong = hosts.authority.issue(["nowhere.example"])
    cn = hosts.authority.issue(["plain.example"])
    foreign = hosts.stranger.issue(["mta-sts.https-stranger.plain.example"])
    rows = [(f"{mode}-{mx}", [mx], Served(policy(mode, mx + ".plain.example")))
            for mode in ("enforce", "testing", "none")
            for mx in ("mx", "exim", "self", "late", "other", "clear", "broken", "refusing", "requiretls")]
    mx = clear = policy("enforce", "mx.plain.example")
    rows += [(f"{mode}-mismatch", ["mx"], Served(policy(mode, "exim.plain.example")))
             for mode in ("enforce", "testing", "none")]
    rows += [
        ("enforce-second", ["self", "exim"], Served(policy("enforce", "*.plain.example"))),
        ("enforce-stuck", ["stuck", "exim"], Served(policy("enforce", "*.plain.example"))),
        ("enforce-unlisted-first", ["self", "mx"], Served(policy("enforce", "mx.plain.example"))),
        ("wildcard", ["good.wild"], Served(policy("enforce", "*.wild.plain.example"))),
        ("wildcard-two-labels", ["good.wild"], Served(policy("enforce", "*.plain.example"))),
        ("idn", ["mx.xn--bcher-kva"], Served(policy("enforce", "mx.xn--bcher-kva.plain.example"))),
        ("idn-u-label", ["mx.xn--bcher-kva"], Served(policy("enforce", "mx.b\u00fccher.plain.example"))),
        ("unix-lines", ["clear"], Served(mx.replace("\r\n", "\n"))),
        ("first-mode-wins", ["clear"], Served(mx + "mode: none\r\n")),
        ("unknown-key", ["clear"], Served("version: STSv1\r\nfuture: a: b\r\n" + mx[len("version: STSv1\r\n"):])),
        ("with-charset", ["clear"], Served(mx, kind="text/plain; charset=utf-8")),
        ("long-max-age", ["clear"], Served(mx.replace("86400", "31557601"))),
        ("share-strict", ["self"], Served(policy("enforce", "self.plain.example"))),
        ("share-testing", ["self"], Served(policy("testing", "self.plain.example"))),
        # From here on there is no policy, whatever would be in it, so the mail goes to a host without TLS.
        ("https-expired", ["clear"], Served(clear, pair=expired)),
        ("https-name", ["clear"], Served(clear, pair=wrong)),
        ("https-parent-name", ["clear"], Served(clear, pair=cn)),
        ("https-stranger", ["clear"], Served(clear, pair=foreign)),
        ("https-404", ["clear"], Served(clear, code=404)),
        ("https-500", ["clear"], Served(clear, code=500)),
        ("https-204", ["clear"], Served("", code=204)),
        ("https-redirect", ["clear"], Served(
            clear, code=301, headers=[("Location", "https://mta-sts.https-redirect.plain.example/elsewhere.txt")])),
        ("https-html", ["clear"], Served(clear, kind="text/html")),
        ("https-no-type", ["clear"], Served(clear, kind="")),
        ("https-too-long", ["clear"], Served(clear + "".join("x: " + "y" * 997 + "\r\n" for _ in range(70)))),
        ("https-hangs-up", ["clear"], Served(clear, hang_up=True)),
        ("empty", ["clear"], Served("")),
        ("no-version", ["clear"], Served(clear.partition("\r\n")[2])),
        ("other-version", ["clear"], Served(clear.replace("STSv1", "STSv2"))),
        ("no-mode", ["clear"], Served(clear.replace("mode: enforce\r\n", ""))),
        ("other-mode", ["clear"], Served(clear.replace("enforce", "strict"))),
        ("no-mx", ["clear"], Served(policy("enforce"))),
        ("no-max-age", ["clear"], Served(clear.replace("max_age: 86400\r\n", ""))),
        ("text-none", ["clear"], Served(clear)),
        ("text-two", ["clear"], Served(clear)),
        ("text-other-version", ["clear"], Served(clear)),
        ("text-no-id", ["clear"], Served(clear)),
        ("text-bad-id", ["clear"], Served(clear)),
        ("text-lame", ["clear"], Served(clear)),
        ("host-missing", ["clear"], Served(clear)),
        ("cached", ["clear"], Served(mx)),
    ]
    return rows


# The labels of those domains whose policies must not count.
WITHOUT = ("https-expired", "https-name", "https-parent-name", "https-stranger", "https-404", "https-500", "https-204",
           "https-redirect", "https-html", "https-no-type", "https-too-long", "https-hangs-up", "empty", "no-version",
           "other-version", "no-mode", "other-mode", "no-mx", "no-max-age", "text-none", "text-two",
           "text-other-version", "text-no-id", "text-bad-id", "text-lame", "host-missing")

# The TXT records of those that have other than one good one.
TEXTS = {
    "text-none": [],
    "text-two": ["v=STSv1; id=1;", "v=STSv1; id=2;"],
    "text-other-version": ["v=STSv2; id=1;"],
    "text-no-id": ["v=STSv1;"],
    "text-bad-id": ["v=STSv1; id=1-2;"],
    "text-lame": [],
    "unix-lines": ["some other text", "v=STSv1; id=1"],
}


def zones(hosts):
    """Return the zones, the records to spoil, and what the policy hosts do."""
    at, smtp = hosts.addresses, hosts.smtp
    values = dict(at, port=smtp, ee_good=association(3, 1, 1, hosts.certs["good"][0]),
                  ee_self=association(3, 1, 1, hosts.certs["self"][0]))
    example, served = MORE.format(**values), {}
    for label, where, records in dane(hosts):
        example += f"{label} MX 10 h.{label}\nh.{label} A {at[where]}\n"
        example += "".join(f"_{smtp}._tcp.h.{label} TLSA {r}\n" for r in records)
    plain = PLAIN.format(**values)
    for label, exchangers, one in sts(hosts):
        plain += "".join(f"{label} MX {10 * n + 10} {mx}\n" for n, mx in enumerate(exchangers))
        plain += "".join(f'_mta-sts.{label} TXT "{text}"\n' for text in TEXTS.get(label, ["v=STSv1; id=1;"]))
        if label != "host-missing":
            plain += f"mta-sts.{label} A {at['policies']}\n"
        served[f"mta-sts.{label}.plain.example"] = one
    plain += "child.enforce-mx MX 10 clear\n"  # no policy of the parent domain counts for it
    for label, mode, mx in (("dane-and-sts", "enforce", "h.ee"), ("wrong-and-sts", "none", "h.wrong"),
                            ("bogus-and-sts", "testing", "h.bogus-tlsa"), ("bogus-text", "enforce", "h.ee")):
        served[f"mta-sts.{label}.example"] = Served(policy(mode, mx + ".example"))
    # Delegations to a server that refuses to answer.
    example += f"ns.lame A {at['lame']}\nlame NS ns.lame\n_tcp.h.lame-tlsa NS ns.lame\n"
    plain += "_mta-sts.text-lame NS ns.lame.example.\n"
    return {
        "example.": (example, "signed"),
        "plain.example.": (plain, "unsigned"),
        "expired.example.": (f"@ MX 10 h\nh A {at['good']}\n", "expired"),
        "_tcp.h.expired-tlsa.example.": (f"_{smtp} TLSA {values['ee_good']}\n", "expired"),
    }, [(f"_{smtp}._tcp.h.bogus-tlsa.example.", "TLSA"), ("bogus-mx.example.", "MX"), ("h.bogus-a.example.", "A"),
        ("_mta-sts.bogus-text.example.", "TXT")], served
