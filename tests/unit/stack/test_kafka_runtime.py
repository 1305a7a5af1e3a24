"""Kafka's jars are the recorded ones, in the user's cache; Java's start-up cache is created once."""

import hashlib
from pathlib import Path

import pytest

from stack import kafka_runtime


def recorded() -> dict[str, str]:
    lines = Path(kafka_runtime.__file__).with_name("kafka.lock").read_text().splitlines()
    return {name: digest for digest, name in (line.split() for line in lines)}


def test_every_jar_is_recorded_with_version_and_digest() -> None:
    assert f"org.apache.kafka:kafka_2.13:{kafka_runtime.KAFKA_VERSION}" in recorded()
    for name, digest in recorded().items():
        assert name.count(":") == 2
        assert len(bytes.fromhex(digest)) == hashlib.sha256().digest_size


def test_a_jar_with_other_contents_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jar").write_bytes(b"something else")
    with pytest.raises(kafka_runtime.JarsError, match="g:a:1 is not the jar recorded"):
        kafka_runtime._install(
            {"g:a:1": tmp_path / "a.jar"}, {"g:a:1": "00" * 32}, tmp_path / "jars", tmp_path / "x.lock"
        )


def test_the_cache_is_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kafka_runtime.jars_folder().is_relative_to(tmp_path)


def test_the_start_up_cache_is_created_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kafka_runtime.jars_folder().mkdir(parents=True)

    def train(output: Path) -> None:
        output.write_bytes(b"start")

    lines: list[str] = []
    first = kafka_runtime.aot_flags(train, lines.append)
    second = kafka_runtime.aot_flags(lambda _: pytest.fail("trained twice"), lines.append)
    assert first == second
    assert first[0].startswith("-XX:AOTCache=")
    assert len(lines) == 1


def test_without_a_start_up_cache_java_starts_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Path) -> None:
        raise OSError("no room")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kafka_runtime.jars_folder().mkdir(parents=True)
    assert kafka_runtime.aot_flags(fail, print) == ()
    assert kafka_runtime.aot_flags(lambda _: pytest.fail("tried again"), print) == ()
