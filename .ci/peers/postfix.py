"""A Postfix of our own, in the bench's directory: nothing of the machine's /etc/postfix or /var/spool is read or changed."""

import glob
import os

from bench import Maildir, Maillog, await_listener, die, port, run, until

# Trace fields that Postfix puts in front of a message it delivers, and of one it relays.
DELIVERED = ("Return-Path", "X-Original-To", "Delivered-To", "Received")
RELAYED = ("Received",)

MAIN = """
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
local_header_rewrite_clients =
alias_maps =
alias_database =
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
message_size_limit = 67108864
virtual_mailbox_limit = 0
virtual_mailbox_domains = receive.example
virtual_mailbox_base = {dir}/mail
virtual_mailbox_maps = inline:{{ {{bert@receive.example = inbox/}} }}
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
smtpd_tls_security_level = may
smtpd_tls_cert_file = {cert}
smtpd_tls_key_file = {key}
smtp_tls_CAfile = {cert}
smtp_tls_secure_cert_match = peer.example
smtp_sasl_password_maps = static:{{{user}:{password}}}
smtp_sasl_security_options = noanonymous
smtpd_sasl_type = dovecot
smtpd_sasl_path = inet:127.0.0.1:{dovecot}
smtpd_tls_auth_only = yes
relay_domains = {queued}
fast_flush_domains = $relay_domains
transport_maps = inline:{{ {{client.example = discard:}} {transports} }}
"""

MASTER = """
127.0.0.1:{chunking} inet n - n - - smtpd
127.0.0.1:{data} inet n - n - - smtpd -o smtpd_discard_ehlo_keywords=chunking
127.0.0.1:{trusting} inet n - n - - smtpd
  -o smtpd_authorized_xclient_hosts=127.0.0.1
  -o smtpd_authorized_xforward_hosts=127.0.0.1
127.0.0.1:{proxied} inet n - n - - smtpd
  -o smtpd_upstream_proxy_protocol=haproxy
  -o smtpd_upstream_proxy_timeout=1s
127.0.0.1:{sasl} inet n - n - - smtpd
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_recipient_restrictions=permit_sasl_authenticated,reject
cleanup  unix n - n - 0 cleanup
pickup   unix n - n 60 1 pickup
qmgr     unix n - n 300 1 qmgr
rewrite  unix - - n - - trivial-rewrite
bounce   unix - - n - 0 bounce
defer    unix - - n - 0 bounce
trace    unix - - n - 0 bounce
verify   unix - - n - 1 verify
proxymap unix - - n - - proxymap
smtp     unix - - n - - smtp
lmtp     unix - - n - - lmtp
submit   unix - - n - - smtp
  -o smtp_tls_security_level=secure
  -o smtp_sasl_auth_enable=yes
ours     unix - - n - - smtp -o smtp_send_xforward_command=yes
{mechanisms}virtual  unix - n n - - virtual
flush    unix n - n 1000? 0 flush
error    unix - - n - - error
retry    unix - - n - - error
discard  unix - - n - - discard
anvil    unix - - n - 1 anvil
scache   unix - - n - 1 scache
tlsmgr   unix - - n 1000? 1 tlsmgr
postlog  unix-dgram n - n - 1 postlogd
"""


# A transport that authenticates by one mechanism.
MECHANISM = """{name} unix - - n - - smtp
  -o smtp_tls_security_level=secure
  -o smtp_sasl_auth_enable=yes
  -o smtp_sasl_mechanism_filter={name}
"""

# The mechanisms of Cyrus SASL, which Postfix uses as a client, beside PLAIN and LOGIN.
MECHANISMS = ("cram-md5", "scram-sha-1", "scram-sha-256")

QUEUED = "queued.example"  # what ETRN can be said for


class Postfix:
    """Accepts mail on two ports, delivers receive.example to a maildir, and relays the domains of transports.

    On more ports it trusts XCLIENT and XFORWARD, expects the PROXY protocol, and wants clients to authenticate.
    """

    # What its log says of a recipient that was accepted, and of one that was refused with 550.
    outcomes = "to=<%s>.* status=sent", "to=<%s>.* status=bounced .* said: 550 "

    def __init__(self, bench, user, password, transports, dovecot):
        self.dir = bench.mkdir("postfix")
        os.makedirs(self.dir + "/etc")
        os.makedirs(self.dir + "/spool")
        bench.mkdir("postfix", "lib", user="postfix")
        bench.mkdir("postfix", "mail", user="nobody")
        self.chunking, self.data = port(), port()
        self.trusting, self.proxied, self.sasl = port(), port(), port()
        pairs = " ".join("{%s = %s}" % pair for pair in transports.items())
        bench.write("postfix/etc/main.cf", MAIN.format(
            dir=self.dir, cert=bench.cert, key=bench.key, user=user, password=password, transports=pairs,
            dovecot=dovecot.port, queued=QUEUED))
        bench.write("postfix/etc/master.cf", MASTER.format(
            chunking=self.chunking, data=self.data, trusting=self.trusting, proxied=self.proxied, sasl=self.sasl,
            mechanisms="".join(MECHANISM.format(name=name) for name in MECHANISMS)))
        run("postfix", "-c", self.dir + "/etc", "start")
        bench.closers.append(self.stop)
        self.log = Maillog(self.dir + "/maillog", "^.*(?:status=(?:deferred|bounced)| fatal: ).*$")
        for p in (self.chunking, self.data, self.trusting, self.proxied, self.sasl):
            await_listener(p, log=self.log.tail)
        if not glob.glob(self.dir + "/spool/pid/master.pid"):
            die("Postfix did not start:\n" + self.log.tail())
        self.inbox = Maildir(self.dir + "/mail/inbox", self.log)

    def stop(self):
        with open(self.dir + "/spool/pid/master.pid") as f:
            pid = f.read().strip()
        run("postfix", "-c", self.dir + "/etc", "stop")
        until("Postfix to stop", lambda: not os.path.exists(f"/proc/{pid}"))
