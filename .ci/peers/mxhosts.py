"""Mail exchangers on loopback, all at one port: Postfix and Exim with every kind of certificate, and sinks."""

import hashlib
import os
import socket
import ssl
import time

from bench import Failure, Maildir, Maillog, await_listener, port, run, until
from exim import USER
from sink import Sink

CA = """
[ca]
default_ca = here
[here]
dir = {dir}
database = {dir}/index
new_certs_dir = {dir}
certificate = {dir}/ca.pem
private_key = {dir}/ca.key
serial = {dir}/serial
default_md = sha256
policy = any
copy_extensions = copy
unique_subject = no
[any]
commonName = supplied
"""

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


class Authority:
    """A certificate authority of its own, whose certificate is in the file ca."""

    def __init__(self, bench, name):
        self.bench, self.dir = bench, bench.mkdir(name)
        self.name, self.ca = name, bench.path(name, "ca.pem")
        self.config = bench.write(name + "/conf", CA.format(dir=self.dir))
        bench.write(name + "/index", "")
        bench.write(name + "/serial", "01\n")
        run("openssl", "req", "-x509", *KEY, "-days", "9", "-subj", "/CN=" + name, "-keyout", self.dir + "/ca.key",
            "-out", self.ca)

    def issue(self, names, expired=False):
        """Return the files of a certificate for names, the authority's behind it, and of its key."""
        to = os.path.join(self.dir, ("expired-" if expired else "") + names[0].replace("*", "any"))
        run("openssl", "req", "-new", *KEY, "-subj", "/CN=" + names[0], "-addext",
            "subjectAltName=" + ",".join("DNS:" + name for name in names), "-keyout", to + ".key", "-out", to + ".csr")
        end = time.time() + (-1 if expired else 5) * 86400
        start, end = (time.strftime("%Y%m%d%H%M%SZ", time.gmtime(at)) for at in (end - 10 * 86400, end))
        run("openssl", "ca", "-batch", "-notext", "-config", self.config, "-startdate", start, "-enddate", end, "-in",
            to + ".csr", "-out", to + ".leaf")
        with open(to + ".pem", "wb") as chain:
            for part in (to + ".leaf", self.ca):
                with open(part, "rb") as f:
                    chain.write(f.read())
        os.chmod(to + ".key", 0o644)
        return to + ".pem", to + ".key"


def association(usage, selector, matching, certificate):
    """Return the text of a TLSA record for the first certificate in a file (RFC 6698 section 2.1)."""
    with open(certificate) as f:
        octets = ssl.PEM_cert_to_DER_cert(f.read().partition("-----END")[0] + "-----END CERTIFICATE-----\n")
    if selector == 1:
        pem = run("openssl", "x509", "-in", certificate, "-noout", "-pubkey")
        octets = ssl.PEM_cert_to_DER_cert(pem.replace("PUBLIC KEY", "CERTIFICATE"))  # the same armour
    data = {0: octets.hex, 1: hashlib.sha256(octets).hexdigest, 2: hashlib.sha512(octets).hexdigest}[matching]()
    return f"{usage} {selector} {matching} {data}"


def network():
    """Find a network on loopback that nobody else uses: the ports of DNS and HTTPS are free at its first address."""
    for n in range(1, 250):
        address = f"127.53.{(n + os.getpid()) % 250 + 1}.1"
        try:
            for kind, at in ((socket.SOCK_DGRAM, 53), (socket.SOCK_STREAM, 53), (socket.SOCK_STREAM, 443)):
                with socket.socket(socket.AF_INET, kind) as s:
                    s.bind((address, at))
            return address.rpartition(".")[0]
        except OSError:
            continue
    raise Failure("ports 53 and 443 are in use on every network tried")


POSTFIX = """
compatibility_level = 3.6
queue_directory = {dir}/spool
data_directory = {dir}/lib
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = {dir}/maillog
maillog_file_prefixes = {dir}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
myhostname = postfix.example
mydestination =
alias_maps =
alias_database =
local_header_rewrite_clients =
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
virtual_mailbox_domains = static:all
virtual_mailbox_base = {dir}/mail
virtual_mailbox_maps = static:inbox/
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
smtpd_recipient_restrictions =
  check_recipient_access inline:{{ {{refused@ = 550 5.1.1 nobody here}} }} permit_mynetworks reject
smtpd_tls_received_header = yes
"""

MASTER = """{address}:{port} inet n - n - - smtpd
  -o myhostname={name}
  -o smtpd_tls_security_level={level}
  -o smtpd_tls_cert_file={cert}
  -o smtpd_tls_key_file={key}
"""

SERVICES = """
cleanup  unix n - n - 0 cleanup
qmgr     unix n - n 300 1 qmgr
rewrite  unix - - n - - trivial-rewrite
bounce   unix - - n - 0 bounce
defer    unix - - n - 0 bounce
trace    unix - - n - 0 bounce
proxymap unix - - n - - proxymap
virtual  unix - n n - - virtual
error    unix - - n - - error
retry    unix - - n - - error
anvil    unix - - n - 1 anvil
tlsmgr   unix - - n 1000? 1 tlsmgr
postlog  unix-dgram n - n - 1 postlogd
"""


class Postfix:
    """A Postfix that takes mail for every domain. hosts are where: name, address, and certificate or None."""

    def __init__(self, bench, smtp, hosts):
        self.dir = bench.mkdir("mx-postfix")
        os.makedirs(self.dir + "/etc")
        os.makedirs(self.dir + "/spool")
        bench.mkdir("mx-postfix", "lib", user="postfix")
        bench.mkdir("mx-postfix", "mail", user="nobody")
        bench.write("mx-postfix/etc/main.cf", POSTFIX.format(dir=self.dir))
        bench.write("mx-postfix/etc/master.cf", "".join(
            MASTER.format(address=address, port=smtp, name=name, level="may" if pair else "none",
                          cert=pair[0] if pair else "", key=pair[1] if pair else "") for name, address, pair in hosts)
            + SERVICES)
        run("postfix", "-c", self.dir + "/etc", "start")
        bench.closers.append(self.stop)
        self.log = Maillog(self.dir + "/maillog", "^.*(?:status=(?:deferred|bounced)| fatal: ).*$")
        for _, address, _ in hosts:
            await_listener(smtp, log=self.log.tail, host=address)
        self.inbox = Maildir(self.dir + "/mail/inbox", self.log)

    def stop(self):
        with open(self.dir + "/spool/pid/master.pid") as f:
            pid = f.read().strip()
        run("postfix", "-c", self.dir + "/etc", "stop")
        until("Postfix to stop", lambda: not os.path.exists(f"/proc/{pid}"))


EXIM = """
primary_hostname = exim.example
exim_path = {binary}
deliver_drop_privilege = true
spool_directory = {dir}/spool
log_file_path = {dir}/log/%slog
pid_file_path = {dir}/log/pid
local_interfaces = {secure} : {clear}
daemon_smtp_ports = {port}
disable_ipv6 = true
host_lookup =
rfc1413_hosts =
keep_environment =
timezone = UTC
smtp_accept_queue_per_connection = 0
tls_advertise_hosts = ${{if eq {{$received_ip_address}}{{{clear}}} {{:}}{{*}}}}
tls_certificate = {cert}
tls_privatekey = {key}
acl_smtp_rcpt = check
acl_smtp_data = accept

begin acl
check:
  deny   local_parts = refused
         message = nobody here
  accept

begin routers
local:
  driver = accept
  transport = maildir

begin transports
maildir:
  driver = appendfile
  directory = {dir}/mail/inbox
  maildir_format
  create_directory
  return_path_add

begin retry
* * F,1h,1m
"""


class Exim:
    """An Exim that takes mail for every domain, on one address with a certificate and on one without."""

    def __init__(self, bench, binary, smtp, secure, clear, pair):
        self.dir = bench.mkdir("mx-exim")
        for sub in ("spool", "log", "mail"):
            bench.mkdir("mx-exim", sub, user=USER)
        config = bench.write("mx-exim/conf", EXIM.format(
            binary=binary, dir=self.dir, secure=secure, clear=clear, port=smtp, cert=pair[0], key=pair[1]))
        proc = bench.start("mx-exim/out", binary, "-C", config, "-bdf", "-q1m", user=USER, group=USER, extra_groups=[])
        for address in (secure, clear):
            await_listener(smtp, lambda: proc.poll() is None, lambda: bench.log("mx-exim/out.log"), host=address)
        self.log = Maillog(self.dir + "/log/mainlog", r"^\S+ \S+ \S+ (?:==|\*\*) .*$")
        self.inbox = Maildir(self.dir + "/mail/inbox", self.log)


# The last octets of the addresses, by what answers there.
ADDRESSES = {"names": 1, "policies": 1, "lame": 2, "good": 11, "self": 12, "late": 13, "other": 14, "clear": 15,
             "exim": 21, "exim-clear": 22, "broken": 31, "refusing": 32, "busy": 33, "stuck": 34, "requiretls": 35,
             "dead": 40}


def nonsense(conn):
    """Answer the first octets of a client with what is no TLS."""
    conn.recv(1 << 20)
    conn.sendall(b"this is no TLS\r\n")


def silence(conn):
    """Say nothing until the client gives up."""
    while conn.recv(1 << 20):
        pass


class Hosts:
    """All hosts and their certificates. names are further names that the good certificates are for."""

    def __init__(self, bench, exim_binary, names):
        net = network()
        self.bench, self.smtp = bench, port()
        self.addresses = {name: f"{net}.{n}" for name, n in ADDRESSES.items()}
        at = self.addresses
        self.authority = Authority(bench, "authority")
        self.stranger = Authority(bench, "stranger")
        self.certs = {
            "good": self.authority.issue(["mx.example", "mx.plain.example", *names]),
            "exim": self.authority.issue(["exim.example", "exim.plain.example", *names]),
            "late": self.authority.issue(["late.example", "late.plain.example"], expired=True),
            "other": self.authority.issue(["elsewhere.example"]),
            "requiretls": self.authority.issue(["requiretls.plain.example"]),
            "self": bench.certificate("mx-self-", "self.plain.example"),
        }
        kinds = ("good", "self", "late", "other", "clear")
        self.postfix = Postfix(bench, self.smtp, [(k + ".postfix.example", at[k], self.certs.get(k)) for k in kinds])
        self.exim = Exim(bench, exim_binary, self.smtp, at["exim"], at["exim-clear"], self.certs["exim"])
        self.sinks = {
            "broken": self.sink("broken", "starttls", {}, handshake=nonsense),
            "stuck": self.sink("stuck", "starttls", {}, handshake=silence),
            "refusing": self.sink("refusing", "starttls", {"STARTTLS": "454 4.7.0 no TLS now"}),
            "busy": self.sink("busy", "", {"CONNECT": "421 4.3.2 too busy"}),
            "requiretls": self.sink("requiretls", "starttls", {}, "REQUIRETLS", pair=self.certs["requiretls"]),
        }

    def sink(self, name, tls, replies, *keywords, **kw):
        return Sink(self.bench, ("PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES", *keywords), tls, replies=replies,
                    at=(self.addresses[name], self.smtp), **kw)
