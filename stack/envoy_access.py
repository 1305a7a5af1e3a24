"""What Envoy lets through where authentication is required: made from the roles that the contracts name.

Envoy verifies tokens and client certificates itself, and checks their roles. Of API keys it sees the form alone, and
the services check them. It tells the services what it found in three headers, which no client can set; they check once
more, by the same contracts (services/access).
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from services.access.authentication import CERTIFICATE_HEADER, NAME_HEADER, ROLE_HEADER, TENANT_HEADER
from services.access.keys import KEY_PREFIX
from services.access.methods import MethodAccess
from services.chassis.peers import TRUST_DOMAIN
from services.domain.roles import Role

_TYPES = "type.googleapis.com/envoy.extensions.filters.http"
_UPSTREAM_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
_EXTENSION_WITH_MATCHER = "type.googleapis.com/envoy.extensions.common.matching.v3.ExtensionWithMatcher"
_SKIP_FILTER = "type.googleapis.com/envoy.extensions.filters.common.matcher.action.v3.SkipFilter"
_REQUEST_HEADER = "type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput"
_KEYS_CLUSTER = "token_keys"
_MAX_LIMITED_CALLERS = 10_000
_UNLIMITED = 1_000_000_000
# So many callers with credentials may share an address, each at its own limit.
_CALLERS_OF_ADDRESS = 10
_CALLERS = frozenset(Role) - {Role.SERVICE}


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenIssuer:
    """Whose tokens (JWT) are accepted, and which claims say who the caller is."""

    issuer: str
    audiences: tuple[str, ...]
    # The issuer's public keys (JWKS): a file, or where the issuer publishes them, http:// or https://.
    keys: str
    # The certificates of authorities that https:// is checked with, a file.
    authorities: Path
    name_claim: str
    role_claim: str
    tenant_claim: str

    @property
    def is_remote(self) -> bool:
        """Whether the keys are fetched, and fetched again."""
        return self.keys.startswith(("http://", "https://"))


def role_filter(methods: Mapping[str, MethodAccess] | None) -> str:
    """Return the edge's filter, as JSON, which lets an rpc's callers through; without methods it lets all through."""
    if methods is None:
        return _rbac(None)
    by_role: dict[Role, list[str]] = {}
    for path, needed in methods.items():
        if needed.role is not Role.SERVICE:
            by_role.setdefault(needed.role, []).append(path)
    policies = {f"{role.value}s": _policy(paths, _callers_with(role)) for role, paths in by_role.items()}
    policies["open"] = {
        "permissions": [
            # A path that no rpc has leads nowhere, and is answered so.
            {"not_rule": {"or_rules": {"rules": _paths(methods)}}},
        ],
        "principals": [{"any": True}],
    }
    return _rbac(policies)


def known_keys_filter(script: str, *, is_on: bool) -> str:
    """Return the filter, as JSON, that takes away a key that is not valid."""
    config = {"@type": f"{_TYPES}.lua.v3.Lua", "default_source_code": {"inline_string": script}}
    return _filter("tocsin.known_keys", config, is_on=is_on)


def known_callers_filter(*, is_on: bool) -> str:
    """Return the filter, as JSON, that lets through who may call anything: by a key, a role or a certificate."""
    principals = {json.dumps(each): each for role in sorted(_CALLERS) for each in _callers_with(role)}
    config = {
        "@type": f"{_TYPES}.rbac.v3.RBAC",
        "rules": {
            "action": "ALLOW",
            "policies": {"known": {"permissions": [{"any": True}], "principals": list(principals.values())}},
        },
    }
    return _filter("tocsin.known_callers", config, is_on=is_on)


def anonymous_filter(role: str) -> str:
    """Return the filter, as JSON, that gives callers without credentials this role; none where it is empty."""
    setting = {"header": {"key": ROLE_HEADER, "value": role}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    has_credentials = {"or_matcher": {"predicate": [_has_header("authorization"), _has_header(CERTIFICATE_HEADER)]}}
    skip = {"name": "skip", "typed_config": {"@type": _SKIP_FILTER}}
    rule = {"predicate": has_credentials, "on_match": {"action": skip}}
    mutation = {"@type": f"{_TYPES}.header_mutation.v3.HeaderMutation"}
    config = {
        "@type": _EXTENSION_WITH_MATCHER,
        "extension_config": {
            "name": "anonymous",
            "typed_config": mutation | {"mutations": {"request_mutations": [{"append": setting}]}},
        },
        "xds_matcher": {"matcher_list": {"matchers": [rule]}},
    }
    return _filter("tocsin.anonymous", config, is_on=bool(role))


def mesh_filter(methods: Mapping[str, MethodAccess] | None) -> str:
    """Return the filter, as JSON, for calls between services, which their certificates let through."""
    if methods is None:
        return _rbac(None)
    by_services: dict[frozenset[str], list[str]] = {}
    for path, needed in methods.items():
        by_services.setdefault(needed.services, []).append(path)
    policies = {
        " ".join(sorted(services)): _policy(paths, [_certified("service/" + _any_of(services))])
        for services, paths in by_services.items()
        if services
    }
    policies["prometheus"] = _policy(["/stats/prometheus"], [_certified("service/prometheus")])
    return _rbac(policies)


def token_filter(issuer: TokenIssuer | None) -> str:
    """Return the filter, as JSON, that verifies tokens and puts their claims into our headers.

    A text that is no valid token passes without them: it may be an API key.
    """
    config: dict[str, Any] = {"@type": f"{_TYPES}.jwt_authn.v3.JwtAuthentication"}
    if issuer is not None:
        claims = {NAME_HEADER: issuer.name_claim, ROLE_HEADER: issuer.role_claim, TENANT_HEADER: issuer.tenant_claim}
        config["providers"] = {
            "issuer": {
                "issuer": issuer.issuer,
                "audiences": list(issuer.audiences),
                **_keys_of(issuer),
                "require_expiration": True,
                # Said, since Envoy would take a token from the query as well: services see it in the header alone.
                "from_headers": [{"name": "authorization", "value_prefix": "Bearer "}],
                "forward": True,
                "claim_to_headers": [
                    {"header_name": header, "claim_name": claim} for header, claim in claims.items() if claim
                ],
            }
        }
        one_of = [{"provider_name": "issuer"}, {"allow_missing_or_failed": {}}]
        config["rules"] = [{"match": {"prefix": "/"}, "requires": {"requires_any": {"requirements": one_of}}}]
    return _filter("envoy.filters.http.jwt_authn", config, is_on=issuer is not None)


def keys_cluster(issuer: TokenIssuer | None) -> str:
    """Return the cluster, as JSON, where Envoy fetches an issuer's keys; it leads nowhere where they are in a file."""
    url = urlsplit(issuer.keys if issuer and issuer.is_remote else "http://127.0.0.1:1")
    port = url.port or (443 if url.scheme == "https" else 80)
    endpoint = {"endpoint": {"address": {"socket_address": {"address": url.hostname, "port_value": port}}}}
    cluster: dict[str, Any] = {
        "name": _KEYS_CLUSTER,
        "type": "STRICT_DNS",
        "connect_timeout": "2s",
        "load_assignment": {"cluster_name": _KEYS_CLUSTER, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    if issuer and url.scheme == "https":
        trusted = {
            "trusted_ca": {"filename": str(issuer.authorities)},
            "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": url.hostname}}],
        }
        tls = {"@type": _UPSTREAM_TLS, "sni": url.hostname, "common_tls_context": {"validation_context": trusted}}
        cluster["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": tls}
    return json.dumps(cluster)


def rate_filter(calls_per_second: int) -> str:
    """Return the filter, as JSON, that limits each caller: by its key or token, or by its address without one.

    Envoy does not know here whether a key or token is valid, and each wrong one would be a caller of its own: so those
    with any are also limited by their address, to what ten of them may do. 0 limits nobody. A caller may save the calls
    of one second. The callers that called last are remembered.
    """
    config: dict[str, Any] = {"@type": f"{_TYPES}.local_ratelimit.v3.LocalRateLimit", "stat_prefix": "callers"}
    if calls_per_second:
        always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
        of_credentials = {"request_headers": {"header_name": "authorization", "descriptor_key": "credentials"}}
        config |= {
            "filter_enabled": always,
            "filter_enforced": always,
            "rate_limited_as_resource_exhausted": True,
            "always_consume_default_token_bucket": False,
            "max_dynamic_descriptors": _MAX_LIMITED_CALLERS,
            # Only what no descriptor matches would take from this one, and there is no such call.
            "token_bucket": _bucket(_UNLIMITED),
            "rate_limits": [
                {"actions": [of_credentials]},
                {"actions": [_presence("some", expected=True), {"remote_address": {}}]},
                {"actions": [_presence("none", expected=False), {"remote_address": {}}]},
            ],
            "descriptors": [
                {"entries": [{"key": "credentials"}], "token_bucket": _bucket(calls_per_second)},
                _address_limit("some", calls_per_second * _CALLERS_OF_ADDRESS),
                _address_limit("none", calls_per_second),
            ],
        }
    return _filter("envoy.filters.http.local_ratelimit", config, is_on=bool(calls_per_second))


def _presence(value: str, *, expected: bool) -> dict[str, Any]:
    """Return the action that makes a descriptor of calls with credentials, or of those without."""
    has_credentials = {"name": "authorization", "present_match": True}
    return {"header_value_match": {"descriptor_value": value, "expect_match": expected, "headers": [has_credentials]}}


def _address_limit(value: str, calls_per_second: int) -> dict[str, Any]:
    entries = [{"key": "header_match", "value": value}, {"key": "remote_address"}]
    return {"entries": entries, "token_bucket": _bucket(calls_per_second)}


def _bucket(calls_per_second: int) -> dict[str, Any]:
    return {"max_tokens": calls_per_second, "tokens_per_fill": calls_per_second, "fill_interval": "1s"}


def _keys_of(issuer: TokenIssuer) -> dict[str, Any]:
    if not issuer.is_remote:
        return {"local_jwks": {"filename": issuer.keys}}
    # Keys that are new are seen after this time.
    source = {"uri": issuer.keys, "cluster": _KEYS_CLUSTER, "timeout": "5s"}
    return {"remote_jwks": {"http_uri": source, "cache_duration": {"seconds": 60}, "async_fetch": {}}}


def _rbac(policies: Mapping[str, Any] | None) -> str:
    config: dict[str, Any] = {"@type": f"{_TYPES}.rbac.v3.RBAC"}
    if policies is not None:
        config["rules"] = {"action": "ALLOW", "policies": policies}
    return _filter("envoy.filters.http.rbac", config, is_on=policies is not None)


def _filter(name: str, config: Mapping[str, Any], *, is_on: bool) -> str:
    """Return a filter, as JSON; no request passes through one that is off."""
    return json.dumps({"name": name, "disabled": not is_on, "typed_config": config})


def _has_header(name: str) -> dict[str, Any]:
    given = {"name": name, "typed_config": {"@type": _REQUEST_HEADER, "header_name": name}}
    # Any bytes.
    return {
        "single_predicate": {"input": given, "value_match": {"safe_regex": {"google_re2": {}, "regex": r"(?s)\C*"}}}
    }


def _policy(paths: Iterable[str], principals: list[dict[str, Any]]) -> dict[str, Any]:
    return {"permissions": [{"or_rules": {"rules": _paths(paths)}}], "principals": principals}


def _paths(paths: Iterable[str]) -> list[dict[str, Any]]:
    return [{"url_path": {"path": {"exact": path}}} for path in sorted(paths)]


def _callers_with(needed: Role) -> list[dict[str, Any]]:
    roles = _any_of(role.value for role in _CALLERS if role.permits(needed))
    return [
        {"header": {"name": "authorization", "string_match": {"prefix": f"Bearer {KEY_PREFIX}", "ignore_case": True}}},
        {"header": {"name": ROLE_HEADER, "string_match": {"safe_regex": {"regex": f"(?i){roles}"}}}},
        _certified(f"client/[^/]+/{roles}/[^/]+"),
    ]


def _certified(identity: str) -> dict[str, Any]:
    return {"authenticated": {"principal_name": {"safe_regex": {"regex": f"{TRUST_DOMAIN}/{identity}"}}}}


def _any_of(names: Iterable[str]) -> str:
    return f"({'|'.join(sorted(names))})"
