"""What the operator allows of webhooks, and how they are signed: the Standard Webhooks scheme (standardwebhooks.com).

Who may be called is the operator's choice alone, by name: whatever address an allowed name resolves to is called, a private one
too, and nothing else is.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable
from urllib.parse import urlsplit

from tuner.errors import InvalidInput
from tuner.settings import Settings
from tuner.specs.webhook import WebhookSpec

SECRET_BYTES = range(24, 65)
"""The lengths that the scheme allows a secret to have."""

_AT = ("webhook",)


class WebhookRules:
    """Of one service. Raises InvalidInput where its settings name what is no host."""

    def __init__(self, settings: Settings) -> None:
        self._hosts, self._file = settings.webhook_hosts, settings.webhook_secret_file
        self._targets = [_target(entry.strip().lower()) for entry in self._hosts.split(",") if entry.strip()]

    def check(self, webhook: WebhookSpec | None) -> None:
        """Raises InvalidInput where a study may not have this webhook."""
        if webhook is None:
            return
        if not self.allows(webhook.host, webhook.port):
            rule = f"a webhook's host must be in TUNER_WEBHOOK_HOSTS ({self._hosts or 'none is'})"
            raise InvalidInput(f"{rule}, but got '{webhook.host}:{webhook.port}'", ("webhook", "url"))
        if not self.secrets():
            raise InvalidInput(
                "a webhook needs a secret to be signed with: set TUNER_WEBHOOK_SECRET_FILE", ("webhook",)
            )

    def allows(self, host: str, port: int) -> bool:
        """Whether a webhook may go to `host`, an IPv6 address without its brackets."""
        return any(host == name and only in (None, port) for name, only in self._targets)

    def secrets(self) -> list[bytes]:
        """Read anew at each call, so that they can be exchanged without a restart; none where no file is set.

        Raises InvalidInput where the file cannot be read or holds no secret; its message tells none.
        """
        if self._file is None:
            return []
        try:
            lines = self._file.read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"TUNER_WEBHOOK_SECRET_FILE must name a readable text file: {error}", _AT) from error
        if not lines:
            raise InvalidInput(f"TUNER_WEBHOOK_SECRET_FILE must hold a secret, but {self._file} is empty", _AT)
        return [_secret(line, str(self._file)) for line in lines]


def sign(secrets: Iterable[bytes], message_id: str, sent_at: int, body: str) -> str:
    """The header `webhook-signature`: one signature for each secret; `sent_at` is in seconds since 1970."""
    signed = f"{message_id}.{sent_at}.{body}".encode()
    digests = (hmac.digest(secret, signed, hashlib.sha256) for secret in secrets)
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)


def _secret(line: str, where: str) -> bytes:
    rule = f"a webhook secret must be `whsec_` and the base64 of {SECRET_BYTES[0]} to {SECRET_BYTES[-1]} bytes"
    try:
        secret = base64.b64decode(line.removeprefix("whsec_"), validate=True)
    except binascii.Error as error:
        raise InvalidInput(f"{rule}, but {where} holds what is no base64", _AT) from error
    if len(secret) not in SECRET_BYTES:
        raise InvalidInput(f"{rule}, but {where} holds one of {len(secret)} bytes", _AT)
    return secret


def _target(entry: str) -> tuple[str, int | None]:
    """Host and port; without a port any will do."""
    parts = urlsplit(f"//{entry}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.netloc != entry or set(entry) & set("@* "):
        rule = "TUNER_WEBHOOK_HOSTS must list `host` or `host:port`, IPv6 in brackets, comma-separated"
        raise InvalidInput(f"{rule}, but got {entry!r}")
    return host, port
