"""A mail server for one test: aiosmtpd on a free port, with TLS and a login, which prints each e-mail that it takes.

Usage: server.py CERTIFICATE KEY smtps|starttls|plain

Prints a line of JSON with the port, then one for each e-mail. Ends when standard input does.
"""

import asyncio
import email
import email.policy
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult


def tell(what):
    print(json.dumps(what), flush=True)


class Taker:
    async def handle_DATA(self, server, session, envelope):
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        tell({
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "subject": message["subject"],
            "text": message.get_content(),
            "secret": session.ssl is not None or server.transport.get_extra_info("ssl_object") is not None,
            "login": session.auth_data.login.decode() if session.auth_data else None,
        })
        return "250 taken"


def authenticator(server, session, envelope, mechanism, data):
    known = (data.login, data.password) == (b"me@example.com", b"p/w")
    return AuthResult(success=known, handled=known, auth_data=data if known else None)


async def main(certificate, key, how):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    login = {"authenticator": authenticator, "auth_required": True}
    options = {
        "smtps": login | {"auth_require_tls": False},  # it does not notice that all of the connection is secret
        "starttls": login | {"tls_context": context, "require_starttls": True},
        "plain": {},
    }[how]
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(Taker(), hostname="localhost", **options), "127.0.0.1", 0, ssl=context if how == "smtps" else None
    )
    tell({"port": server.sockets[0].getsockname()[1]})
    await loop.run_in_executor(None, sys.stdin.read)


asyncio.run(main(*sys.argv[1:]))
