"""A DNS of our own on loopback: NSD serves a signed root and what is below it, and Unbound validates it.

Nothing of the Internet takes part: the resolver knows one root, ours, and asks it from a loopback address.
"""

import os
import re
import socket
import threading
import time

from bench import Failure, await_listener, port, run, until

NSD = """
server:
  ip-address: {address}
  port: 53
  username: ""
  chroot: ""
  zonesdir: "{dir}"
  database: ""
  zonelistfile: "{dir}/zone.list"
  xfrdfile: "{dir}/xfrd.state"
  xfrdir: "{dir}"
  pidfile: "{dir}/nsd.pid"
  server-count: 1
  rrl-ratelimit: 0
remote-control:
  control-enable: no
"""

ZONE = """zone:
  name: "{name}"
  zonefile: "{file}"
"""

UNBOUND = """
server:
  directory: "{dir}"
  chroot: ""
  username: ""
  pidfile: "{dir}/unbound-{port}.pid"
  interface: 127.0.0.1
  port: {port}
  outgoing-interface: 127.0.0.1
  do-ip6: no
  do-daemonize: no
  use-syslog: no
  do-not-query-localhost: no
  module-config: "{modules}"
  trust-anchor-file: "{dir}/anchor"
  root-hints: "{dir}/hints"
  num-threads: 1
  ede: yes
  val-log-level: 2
remote-control:
  control-enable: no
"""

# What every zone begins with. One server has them all, except where a zone is to be lame.
APEX = """$ORIGIN {origin}
$TTL 300
@ SOA ns. hostmaster.example. 1 3600 600 86400 300
@ NS ns.
"""


class Names:
    """The servers of the names. programs has the files of theirs, nsd and unbound.

    zones maps the name of a zone to a pair: its records, and how it is signed: "signed", "unsigned" (its parent has no
    DS record for it) or "expired". spoilt has (owner, type) of records that are changed after they were signed. At the
    address lame is a server that refuses every query.
    """

    def __init__(self, bench, programs, address, lame, zones, spoilt=()):
        self.bench, self.dir, self.address = bench, bench.mkdir("names"), address
        refuse(bench, lame)
        self.port = port()
        self.spoilt = set(spoilt)
        anchor = self.sign_all(zones)
        bench.write("names/anchor", anchor)
        bench.write("names/hints", f". 3600 NS ns.\nns. 3600 A {address}\n")
        config = NSD.format(address=address, dir=self.dir)
        config += "".join(ZONE.format(name=zone, file=self.file(zone)) for zone in (".", *zones))
        nsd = bench.start("names/nsd", programs.nsd, "-d", "-c", bench.write("names/nsd.conf", config))
        await_listener(53, lambda: nsd.poll() is None, lambda: bench.log("names/nsd.log"), host=address)
        self.resolver = self.unbound(programs, self.port, "validator iterator")
        self.credulous = self.unbound(programs, port(), "iterator")  # does not validate

    def unbound(self, programs, at, modules):
        """Start a resolver and return its address."""
        name = f"names/unbound-{at}"
        proc = self.bench.start(name, programs.unbound, "-d", "-c", self.bench.write(
            name + ".conf", UNBOUND.format(dir=self.dir, port=at, modules=modules)))
        await_listener(at, lambda: proc.poll() is None, lambda: self.bench.log(name + ".log"))
        return f"127.0.0.1:{at}"

    def file(self, zone):
        return self.bench.path("names", zone.rstrip(".") or "root")

    def sign_all(self, zones):
        """Write all zones, children first since their parents have their DS records. Return that of the root."""
        root = "ns. A " + self.address + "\n"
        texts = {zone: text for zone, (text, _) in zones.items()} | {".": root}
        for zone in sorted(texts, key=lambda z: -len(z.rstrip(".").split(".")) if z != "." else 0):
            how = zones[zone][1] if zone != "." else "signed"
            ds = self.sign(zone, texts[zone], how)
            if zone == ".":
                return ds
            parent = max((z for z in texts if z != zone and (z == "." or zone.endswith("." + z))), key=len)
            texts[parent] += f"{zone} NS ns.\n" + (ds if how != "unsigned" else "")
        return None

    def sign(self, zone, text, how):
        """Write one zone; return its DS record."""
        path = self.file(zone)
        with open(path, "w") as f:
            f.write(APEX.format(origin=zone) + text)
        if how == "unsigned":
            return ""
        key = run("ldns-keygen", "-a", "ECDSAP256SHA256", "-k", zone, cwd=self.dir).strip()
        day = 86400
        start = time.time() - (30 if how == "expired" else 1) * day
        end = time.time() + (-10 if how == "expired" else 10) * day
        stamp = [time.strftime("%Y%m%d%H%M%S", time.gmtime(at)) for at in (start, end)]
        run("ldns-signzone", "-i", stamp[0], "-e", stamp[1], "-f", path + ".signed", path, key, cwd=self.dir)
        with open(path + ".signed") as f:
            lines = [self.spoil(line) for line in f]
        with open(path, "w") as f:
            f.writelines(lines)
        with open(os.path.join(self.dir, key + ".ds")) as f:
            return f.read()

    def spoil(self, line):
        """Change a record whose signature is to be wrong."""
        fields = line.split()
        if len(fields) < 5 or (fields[0], fields[3]) not in self.spoilt:
            return line
        self.spoilt.remove((fields[0], fields[3]))
        change = {
            "A": lambda address: address.rpartition(".")[0] + ".250",
            "MX": lambda host: "not." + host,
            "TXT": lambda text: text.replace("1", "2"),
            "TLSA": lambda data: data[:-1] + "0123456789abcdef"[int(data[-1], 16) ^ 1],
        }[fields[3]]
        fields[-1] = change(fields[-1])
        return "\t".join(fields) + "\n"

    def dig(self, name, kind):
        """Ask the resolver; return the code of its answer, whether the answer is authentic, and the records."""
        out = run("dig", "@127.0.0.1", "-p", str(self.port), "+dnssec", "+noall", "+comments", "+answer", "+tries=1",
                  name, kind)
        code, flags = re.search(r"status: (\w+)", out).group(1), re.search(r"flags: ([\w ]*);", out).group(1).split()
        answers = [line.split(None, 4) for line in out.splitlines() if line and not line.startswith(";")]
        return code, "ad" in flags, [fields[4] for fields in answers if fields[3] == kind]

    def is_so(self, name, kind, code, authentic, count):
        """Fail unless the resolver answers as the cases count on."""
        got = self.dig(name, kind)
        if (got[0], got[1], len(got[2])) != (code, authentic, count):
            raise Failure(f"{name} {kind}: {got}, not {code}, authentic: {authentic}, with {count} records")


def refuse(bench, address):
    """Answer every query to an address with REFUSED (RFC 1035 section 4.1.1)."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind((address, 53))
    bench.closers.append(listener.close)

    def serve():
        while True:
            try:
                query, client = listener.recvfrom(512)
                listener.sendto(query[:2] + bytes([query[2] | 0x80, 5]) + query[4:], client)
            except (OSError, IndexError):
                if listener.fileno() < 0:
                    return

    threading.Thread(target=serve, daemon=True).start()
