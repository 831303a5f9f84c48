"""An Exim of our own, run from an unpacked package as its own user: Debian has room for one mail system at a time."""

from bench import Maildir, Maillog, await_listener, port

USER = "Debian-exim"  # compiled into Debian's Exim

DELIVERED = ("Return-path", "Received")
RELAYED = ("Received",)

CONFIG = """
primary_hostname = exim.example
exim_path = {binary}
deliver_drop_privilege = true
spool_directory = {dir}/spool
log_file_path = {dir}/log/%slog
pid_file_path = {dir}/log/pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = {chunking} : {data}
disable_ipv6 = true
host_lookup =
rfc1413_hosts =
keep_environment =
timezone = UTC
message_size_limit = 64M
smtp_accept_queue_per_connection = 0
chunking_advertise_hosts = ${{if eq {{$received_port}}{{{data}}} {{:}}{{*}}}}
tls_advertise_hosts = *
tls_certificate = {cert}
tls_privatekey = {key}
tls_verify_certificates = {client_cert}
tls_try_verify_hosts = *
dsn_advertise_hosts = *
prdr_enable = true
acl_smtp_rcpt = check
acl_smtp_data_prdr = each
acl_smtp_data = accept

begin acl
check:
  accept domains = receive.example
         local_parts = bert : picky
  accept domains = {relayed}
  deny   message = unknown user
each:
  deny   local_parts = picky
         message = not that content
  accept

begin routers
bounces:
  driver = redirect
  domains = client.example
  data = :blackhole:
{routers}local:
  driver = accept
  domains = receive.example
  transport = maildir

begin transports
smtp:
  driver = smtp
  port = {smtp}
  allow_localhost
  hosts_avoid_tls = *
submit:
  driver = smtp
  port = {submit}
  allow_localhost
  hosts_require_tls = *
  hosts_require_auth = *
  tls_verify_certificates = {cert}
  tls_verify_hosts = *
  tls_verify_cert_hostnames = :
{transports}lmtp:
  driver = smtp
  protocol = lmtp
  port = {lmtp}
  allow_localhost
  hosts_avoid_tls = *
maildir:
  driver = appendfile
  directory = {dir}/mail/inbox
  maildir_format
  create_directory
  return_path_add

begin retry
* * F,1h,1m

begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  client_send = ^{user}^{password}
cram_md5:
  driver = cram_md5
  public_name = CRAM-MD5
  client_name = {user}
  client_secret = {password}
  server_secret = ${{if eq{{$auth1}}{{{user}}}{{{password}}}fail}}
  server_set_id = $auth1
external:
  driver = external
  public_name = EXTERNAL
  client_send = {user}
  server_advertise_condition = $tls_in_certificate_verified
  server_param2 = ${{certextract{{subject,CN}}{{$tls_in_peercert}}}}
  server_condition = ${{if eq{{$auth2}}{{{user}}}}}
  server_set_id = $auth2
"""

# A transport for a domain and a port.
TRANSPORT = """{name}:
  driver = smtp
  port = {port}
  allow_localhost
  {options}
"""

CLEAR = "hosts_avoid_tls = *"

# Options of a transport that authenticates, and can show a certificate.
SECURE = """hosts_require_tls = *
  hosts_require_auth = *
  tls_verify_certificates = {cert}
  tls_verify_hosts = *
  tls_verify_cert_hostnames = :
  tls_certificate = {client_cert}
  tls_privatekey = {client_key}"""

ROUTER = """{name}:
  driver = manualroute
  domains = {domain}
  transport = {name}
  route_list = * 127.0.0.1
  self = send
"""


def name_of(domain):
    """Make a name of Exim's, which has no hyphens, of a domain."""
    return domain.partition(".")[0].replace("-", "_")


KINDS = ("smtp", "submit", "lmtp")


class Exim:
    """Accepts mail on two ports, delivers receive.example to a maildir, and relays {smtp,submit,lmtp}.relay.example.

    It relays more domains to the ports that more has for them, as (domain, port, whether it has to authenticate).
    """

    # What its log says of a recipient that was accepted, and of one that was refused with 550.
    outcomes = "[-=]> %s .* C=", r"\*\* %s .* 550 "

    def __init__(self, bench, binary, user, password, relay, submission, more):
        self.dir = bench.mkdir("exim")
        for sub in ("spool", "log", "mail"):
            bench.mkdir("exim", sub, user=USER)
        self.chunking, self.data = port(), port()
        secure = SECURE.format(cert=bench.cert, client_cert=bench.client_cert, client_key=bench.client_key)
        routers = [ROUTER.format(name=k, domain=k + ".relay.example") for k in KINDS]
        routers += [ROUTER.format(name=name_of(domain), domain=domain) for domain, _, _ in more]
        config = bench.write("exim/conf", CONFIG.format(
            binary=binary, dir=self.dir, chunking=self.chunking, data=self.data, cert=bench.cert, key=bench.key,
            smtp=relay.smtp, submit=submission.smtp, lmtp=relay.lmtp, user=user, password=password,
            client_cert=bench.client_cert, routers="".join(routers),
            relayed=" : ".join([k + ".relay.example" for k in KINDS] + [domain for domain, _, _ in more]),
            transports="".join(TRANSPORT.format(
                name=name_of(domain), port=at, options=secure if auth else CLEAR) for domain, at, auth in more)))
        proc = bench.start("exim", binary, "-C", config, "-bdf", "-q1m", user=USER, group=USER, extra_groups=[])
        for p in (self.chunking, self.data):
            await_listener(p, lambda: proc.poll() is None, lambda: bench.log("exim.log"))
        self.log = Maillog(self.dir + "/log/mainlog", r"^\S+ \S+ \S+ (?:==|\*\*) .*$")
        self.inbox = Maildir(self.dir + "/mail/inbox", self.log)
