"""Both ends of SASL mechanisms by libgsasl: an implementation of SCRAM, with channel binding, that is not ours."""

import base64
import ctypes

# The numbers are those of gsasl.h.
OK, NEEDS_MORE = 0, 1
AUTHID, PASSWORD, ANONYMOUS_TOKEN, SCRAM_ITER, CB_TLS_UNIQUE = 1, 3, 4, 15, 18
NO_CALLBACK, VALIDATE_ANONYMOUS = 51, 502

lib = ctypes.CDLL("libgsasl.so.18")
lib.gsasl_property_fast.restype = ctypes.c_char_p
lib.gsasl_strerror.restype = ctypes.c_char_p


@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)
def callback(_, __, number):
    """Let guests in; verify sees who they are. The library asks for properties that were not set here too."""
    return OK if number == VALIDATE_ANONYMOUS else NO_CALLBACK


class Refused(Exception):
    """The other end failed, or the mechanism found fault with it."""


class Session:
    """One exchange. unique is the tls-unique of the connection (RFC 5929 section 3), and is left out if it is empty."""

    def __init__(self, start, mechanism, user, password, unique=b""):
        self.context, self.session = ctypes.c_void_p(), ctypes.c_void_p()
        self.user = user
        checked(lib.gsasl_init(ctypes.byref(self.context)))
        lib.gsasl_callback_set(self.context, callback)
        checked(start(self.context, mechanism.encode(), ctypes.byref(self.session)))
        properties = {PASSWORD: password, CB_TLS_UNIQUE: base64.b64encode(unique).decode() if unique else None}
        if start is lib.gsasl_client_start:
            properties[AUTHID] = user
        else:
            properties[SCRAM_ITER] = "4096"
        for number, value in properties.items():
            if value is not None:
                lib.gsasl_property_set(self.session, number, value.encode())

    def step(self, received):
        """Take what the other end sent, in base64; return what to send, and whether more is to come."""
        out = ctypes.c_char_p()
        status = checked(lib.gsasl_step64(self.session, received.encode(), ctypes.byref(out)))
        sent = (out.value or b"").decode()
        lib.gsasl_free(out)
        return sent, status == NEEDS_MORE

    def verify(self):
        """Check, on a server whose mechanism is done, that the client is the user, or a guest traced by that name."""
        if self.user.encode() not in (lib.gsasl_property_fast(self.session, p) for p in (AUTHID, ANONYMOUS_TOKEN)):
            raise Refused("another user")

    def close(self):
        lib.gsasl_finish(self.session)
        lib.gsasl_done(self.context)


def checked(status):
    if status not in (OK, NEEDS_MORE):
        raise Refused(lib.gsasl_strerror(status).decode())
    return status


def server(*args):
    return Session(lib.gsasl_server_start, *args)


def client(*args):
    return Session(lib.gsasl_client_start, *args)
