from tuner.client.answers import AuditEntry, CreatedToken, Token, WhoAmI
from tuner.client.bodies import given
from tuner.client.method import Call, delete, get, listing, post


class AccessCalls:
    @get("/v1/whoami")
    def whoami(self) -> Call[WhoAmI]:
        return Call(WhoAmI)

    @post("/v1/tokens")
    def create_token(self, name: str, role: str, expires_days: float | None = None) -> Call[CreatedToken]:
        """The answer's `token` is the secret; nobody can ask for it again."""
        return Call(CreatedToken, json={"name": name, "role": role, "expires_days": expires_days})

    @listing("/v1/tokens")
    def tokens(self) -> Call[Token]:
        """The newest first, also those that were revoked."""
        return Call(Token)

    @get("/v1/tokens/{name}")
    def token(self, name: str) -> Call[Token]:
        return Call(Token)

    @delete("/v1/tokens/{name}")
    def revoke_token(self, name: str) -> Call[None]:
        return Call(type(None))

    @listing("/v1/audit")
    def audit(self, who: str | None = None, path: str | None = None) -> Call[AuditEntry]:
        """The newest first; `path` is how the address begins."""
        return Call(AuditEntry, params=given(who=who, path=path))
