"""A Dovecot of our own: its authentication server, which a Postfix asks over the network, and its LMTP server."""

import http.server
import json
import threading
import urllib.parse

from bench import Maildir, Maillog, await_listener, port

CONFIG = """
base_dir = {dir}/run
state_dir = {dir}/lib
log_path = {dir}/log
ssl = no
protocols = lmtp
listen = 127.0.0.1
mail_location = maildir:{dir}/mail/%n
auth_mechanisms = plain login cram-md5 scram-sha-1 scram-sha-256 oauthbearer xoauth2
auth_failure_delay = 0
passdb {{
  driver = passwd-file
  mechanisms = plain login cram-md5 scram-sha-1 scram-sha-256
  args = {dir}/users
}}
passdb {{
  driver = oauth2
  mechanisms = oauthbearer xoauth2
  args = {dir}/oauth2
}}
userdb {{
  driver = passwd-file
  args = username_format=%n {dir}/users
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service auth {{
  inet_listener {{
    address = 127.0.0.1
    port = {port}
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {lmtp}
  }}
  unix_listener lmtp {{
    mode = 0
  }}
}}
"""

# What Dovecot puts on top of a message that comes by LMTP.
DELIVERED = ("Return-Path", "Delivered-To", "Received")

OAUTH2 = """
introspection_mode = get
introspection_url = http://127.0.0.1:{port}/?token=
username_attribute = username
active_attribute = active
active_value = true
"""


class Dovecot:
    """Knows one user, with a password and a token, and takes mail for him by LMTP, in any domain."""

    def __init__(self, bench, user, password, token):
        self.dir = bench.mkdir("dovecot")
        self.port, self.lmtp = port(), port()
        bench.mkdir("dovecot/mail", user="nobody")
        bench.write("dovecot/users", f"{user}:{{PLAIN}}{password}:65534:65534::/nonexistent\n")
        bench.write("dovecot/oauth2", OAUTH2.format(port=introspection(bench, user, token)))
        config = bench.write("dovecot/conf", CONFIG.format(dir=self.dir, port=self.port, lmtp=self.lmtp))
        proc = bench.start("dovecot/out", "dovecot", "-F", "-c", config)
        for p in (self.port, self.lmtp):
            await_listener(p, lambda: proc.poll() is None, lambda: bench.log("dovecot/out.log"))
        self.log = Maillog(self.dir + "/log", r"(?:Error|Fatal|Panic): ")
        self.inbox = Maildir(f"{self.dir}/mail/{user}", self.log)


def introspection(bench, user, token):
    """Start a server that tells whether a token is good (RFC 7662 has it like that), and return its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            said = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query).get("token", [""])[0]
            answer = {"active": "true", "username": user} if said == token else {"active": "false"}
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port()), Handler)
    bench.closers.append(server.shutdown)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server.server_port
