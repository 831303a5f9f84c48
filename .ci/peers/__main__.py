"""Real mail software talks to the examples, and to a program with every extension, both ways and on loopback only.

    /usr/bin/python3 .ci/peers --receive BINARY --send BINARY --direct BINARY --mx BINARY --mta BINARY \
        --ours BINARY --signed BINARY --exim BINARY --nsd BINARY --unbound BINARY [--only REGEXP]

Needs root, since Postfix does, and the packages that .ci/run installs. It exits with 0 only if at least one case ran
and all passed.
"""

import argparse
import os
import signal
import sys

sys.dont_write_bytecode = True  # nothing is left in the work tree

from bench import Bench, Report, die  # noqa: E402


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for program in ("receive", "send", "direct", "mx", "mta", "ours", "signed", "exim", "nsd", "unbound"):
        args.add_argument("--" + program, required=True, type=os.path.abspath, metavar="BINARY")
    args.add_argument("--only", default="", metavar="REGEXP", help="run the cases whose names match")
    args = args.parse_args()
    if os.geteuid() != 0:
        die("Postfix has to be started by root; run this with sudo")
    for sig in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, lambda *_: sys.exit("peers: ended by a signal"))

    import auth
    import dovecot
    import extended
    import extensions
    import into
    import mta as mtaserver
    import mxroutes
    import mxserver
    import outof
    import signatures

    report = Report(os.path.join(os.path.dirname(os.path.abspath(__file__)), "exemptions"), args.only)
    bench = Bench(args.receive, args.send, args.ours)
    try:
        servers = auth.Servers(bench)
        relays = auth.Relays(bench, servers)
        ours = extensions.Ends(bench)
        exchangers = mxserver.Servers(bench, args.mx)
        servers_of_mail = mtaserver.Servers(bench, args.mta)
        mailboxes = dovecot.Dovecot(bench, into.USER, into.PASSWORD, auth.TOKEN)
        mta = into.all_peers(report, bench, args.exim, mailboxes,
                             relays.transports() | ours.transports() | exchangers.transports()
                             | servers_of_mail.transports(),
                             relays.routes() + ours.routes())
        outof.all_peers(report, bench, mta, mailboxes)
        auth.all_peers(report, bench, mta, servers, relays)
        extensions.all_peers(report, bench, mta, ours)
        extended.all_peers(report, bench, mta, ours)
        mxroutes.all_peers(report, bench, args)
        mxserver.all_peers(report, bench, exchangers, mta["Postfix"])
        mtaserver.all_peers(report, bench, servers_of_mail, mta, mailboxes)
        signatures.all_peers(report, bench, args.signed)
    finally:
        clean = bench.close()
    sys.exit(0 if report.close() and clean else 1)


if __name__ == "__main__":
    main()
