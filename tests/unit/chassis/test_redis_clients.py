from pathlib import Path
from typing import Any

import pytest
from redis import exceptions
from redis.asyncio.sentinel import MasterNotFoundError

from services.chassis.redis import words_of_redis_error
from services.chassis.redis_clients import RedisConnector
from services.chassis.settings import RedisSettings, Secret, load_settings


def options_of(url: str, **more: Any) -> dict[str, Any]:
    client: Any = RedisConnector(RedisSettings(redis_url=Secret(url), **more)).open()
    pool = client.nodes_manager if hasattr(client, "nodes_manager") else client.connection_pool
    options: dict[str, Any] = pool.connection_kwargs
    return options


@pytest.mark.parametrize(
    "url", ["redis://u:p%2F@h:1/2", "redis+sentinel://u:p%2F@h:1/main/2", "redis+cluster://u:p%2F@h"]
)
def test_user_and_password_are_the_url_s_unless_there_is_another_password(url: str) -> None:
    for options, password in ((options_of(url), "p/"), (options_of(url, redis_password=Secret("q@")), "q@")):
        assert (options["username"], options["password"]) == ("u", password)
        assert options["socket_timeout"] == options["socket_connect_timeout"] == 0.3


def test_without_a_login_there_is_none() -> None:
    options = options_of("redis+cluster://h")
    assert (options["username"], options["password"]) == (None, None)
    assert options_of("redis://h", redis_password=Secret("q"))["password"] == "q"
    assert options_of("redis://h?client_name=me")["client_name"] == "me"


def test_sentinels_have_a_login_and_a_port_of_their_own() -> None:
    settings = RedisSettings(
        redis_url=Secret("rediss+sentinel://u:p@h1,[::1]:7/ma%20in"),
        redis_sentinel_user="s",
        redis_sentinel_password=Secret("t"),
        redis_ca="ca",
    )
    client: Any = RedisConnector(settings).open()
    sentinel = client.connection_pool.sentinel_manager
    assert (client.connection_pool.service_name, client.connection_pool.connection_kwargs["db"]) == ("ma in", 0)
    places = [one.connection_pool.connection_kwargs for one in sentinel.sentinels]
    assert [(place["host"], place["port"]) for place in places] == [("h1", 26379), ("::1", 7)]
    assert {(place["username"], place["password"], place["ssl_ca_certs"]) for place in places} == {("s", "t", "ca")}
    assert client.connection_pool.connection_kwargs["ssl_ca_certs"] == "ca"


@pytest.mark.parametrize("url", ["rediss://h/0", "rediss+sentinel://h/main", "rediss+cluster://h"])
def test_tls_has_the_certificates_of_the_settings(url: str) -> None:
    options = options_of(url, redis_ca="ca", redis_certificate="c", redis_key="k")
    assert (options["ssl_ca_certs"], options["ssl_certfile"], options["ssl_keyfile"]) == ("ca", "c", "k")
    plain = options_of(url.replace("rediss", "redis"))
    assert "ssl_certfile" not in plain or plain["ssl_certfile"] is None


def test_a_changed_password_or_certificate_is_noticed_once(tmp_path: Path) -> None:
    password, ca = tmp_path / "password", tmp_path / "ca"
    password.write_text("one")
    ca.write_text("one")
    environ = {"X_REDIS_URL": "rediss://h", "X_REDIS_PASSWORD_FILE": str(password), "X_REDIS_CA": str(ca)}
    connector = RedisConnector(load_settings(RedisSettings, "X_", environ))
    assert not connector.has_changed()
    for file in (password, ca):
        file.write_text("two")
        assert [connector.has_changed(), connector.has_changed()] == [True, False]
    ca.unlink()
    assert not connector.has_changed()


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        (exceptions.TimeoutError(), "does not answer in time"),
        (exceptions.AuthenticationError(), "refuses the login"),
        (exceptions.BusyLoadingError(), "is starting"),
        (MasterNotFoundError(), "no sentinel names a primary"),
        (exceptions.ConnectionError("secret"), "is not reached"),
        (exceptions.NoPermissionError(), "refuses a command to this user"),
        (exceptions.ReadOnlyError(), "takes no writes"),
        (exceptions.OutOfMemoryError(), "is full"),
        (exceptions.ClusterDownError("secret"), "the cluster is not whole"),
        (exceptions.RedisClusterException("secret"), "the cluster is not reached"),
        (exceptions.ResponseError("secret"), "cannot do this now"),
        (ConnectionRefusedError(), "nothing listens at its address"),
    ],
)
def test_health_says_in_words_why_redis_is_down(raised: Exception, words: str) -> None:
    assert words_of_redis_error(raised) == words
