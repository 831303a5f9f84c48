"""An HTTPS server for the policies of MTA-STS (RFC 8461), which gets each part of it wrong where a case wants that."""

import http.server
import ssl
import threading

PATH = "/.well-known/mta-sts.txt"


def policy(mode, *mx, max_age=86400):
    """Return the text of a policy."""
    return "".join(f"{line}\r\n" for line in (
        "version: STSv1", "mode: " + mode, *("mx: " + pattern for pattern in mx), f"max_age: {max_age}"))


class Served:
    """What a domain's policy host does: its answer, and the certificate it shows."""

    def __init__(self, body, code=200, kind="text/plain", pair=None, hang_up=False, headers=()):
        self.body, self.code, self.kind, self.pair = body.encode(), code, kind, pair
        self.hang_up, self.headers = hang_up, headers
        self.asked = 0


class Policies:
    """Listens at the HTTPS port of an address. served maps a policy host to what it does, and may be changed."""

    def __init__(self, bench, address, authority, served):
        self.served = served
        pair = authority.issue(["policies.example", *served])
        contexts = {host: context(one.pair or pair) for host, one in served.items()}
        first = context(pair)
        first.sni_callback = lambda conn, name, _: setattr(conn, "context", contexts.get(name, first))
        server = http.server.ThreadingHTTPServer((address, 443), self.handler(), bind_and_activate=False)
        server.daemon_threads = True
        server.handle_error = lambda *_: None  # a client that does not like the certificate hangs up
        server.server_bind()
        server.server_activate()
        server.socket = first.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        bench.closers.append(server.server_close)
        bench.closers.append(server.shutdown)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def handler(self):
        served = self.served

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 20

            def do_GET(self):
                one = served.get(self.headers.get("Host", ""))
                if one is None or self.path not in (PATH, "/elsewhere.txt"):
                    self.send_error(404)
                    return
                one.asked += 1
                if one.hang_up:
                    self.close_connection = True
                    return
                self.send_response(one.code if self.path == PATH else 200)
                if one.kind:
                    self.send_header("Content-Type", one.kind)
                self.send_header("Content-Length", str(len(one.body)))
                for name, value in one.headers:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(one.body)

            def log_message(self, *_):
                pass

        return Handler


def context(pair):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(*pair)
    return made
