"""An HAProxy of our own that puts the header of the PROXY protocol in front of connections."""

from bench import await_listener, port

CONFIG = """
global
  log stdout format raw local0
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen one
  bind 127.0.0.1:{v1}
  server ours 127.0.0.1:{to} send-proxy
listen two
  bind 127.0.0.1:{v2}
  server ours 127.0.0.1:{to} send-proxy-v2
listen three
  bind 127.0.0.1:{unused}
  option smtpchk EHLO {hello}
  server ours 127.0.0.1:{checked} send-proxy-v2 check inter 2s
"""

HELLO = "haproxy.example"  # what it calls itself when it checks whether a server is there


class HAProxy:
    """Passes what comes to its port of a version on to another port, with a header of that version.

    It looks after the server at the port checked, for which it sends headers that speak for nobody.
    """

    def __init__(self, bench, to, checked):
        self.ports = {"v1": port(), "v2": port()}
        config = bench.write("haproxy.conf", CONFIG.format(
            to=to, checked=checked, unused=port(), hello=HELLO, **self.ports))
        proc = bench.start("haproxy", "haproxy", "-db", "-f", config)
        for p in self.ports.values():
            await_listener(p, lambda: proc.poll() is None, lambda: bench.log("haproxy.log"))
