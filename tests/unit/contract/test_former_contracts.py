"""What this tree writes is read by the former release: instances of both may run side by side."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tests.first_version import FOLDER
from tests.fuzz.messages import random_message

# Written by `make gen` of the former release.
FORMER = FOLDER / "descriptor.binpb"
TODAY = Path(__file__).parents[3] / "gen" / "descriptor.binpb"
BUF = Path(sys.executable).with_name("buf")
RECORDS = (
    "tocsin.logs.v1.LogBatch",
    "tocsin.logs.v1.DeadLetter",
    "tocsin.evaluation.v1.PartialBatch",
    "tocsin.evaluation.v1.WindowState",
    "tocsin.alerts.v1.AlertTransition",
    "tocsin.notifications.v1.Notification",
    "tocsin.notifications.v1.NotificationResult",
)


def breaks(descriptors: Path) -> str:
    """Return what of these contracts the former release does not read, as buf says it; empty when it reads all."""
    done = subprocess.run(
        [BUF, "breaking", descriptors, "--against", FORMER],
        cwd=FORMER.parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert bool(done.returncode) == bool(done.stdout), done.stderr
    return done.stdout


def test_no_contract_of_the_former_release_is_broken() -> None:
    assert breaks(TODAY) == ""


def test_a_field_of_another_type_is_found(tmp_path: Path) -> None:
    changed = FileDescriptorSet.FromString(TODAY.read_bytes())
    (file,) = (file for file in changed.file if file.name.endswith("alerts/v1/alert.proto"))
    (transition,) = (message for message in file.message_type if message.name == "AlertTransition")
    transition.field[0].type = FieldDescriptorProto.TYPE_BYTES
    (tmp_path / "changed.binpb").write_bytes(changed.SerializeToString())
    assert "AlertTransition" in breaks(tmp_path / "changed.binpb")


def pool_of(descriptors: Path) -> DescriptorPool:
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(descriptors.read_bytes()).file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


def has_kept(read: Any, written: Any) -> bool:
    """Return whether all that a former reader finds is what was written; fields that it does not know are left out."""
    if isinstance(read, Message):
        return all(has_kept(value, getattr(written, field.name)) for field, value in read.ListFields())
    if isinstance(read, Mapping):
        return read.keys() == written.keys() and all(has_kept(value, written[key]) for key, value in read.items())
    if isinstance(read, Sequence) and not isinstance(read, str | bytes):
        return len(read) == len(written) and all(map(has_kept, read, written))
    # Not by ==, since a number may be none.
    return repr(read) == repr(written)


@pytest.mark.parametrize("name", RECORDS)
def test_a_former_reader_finds_each_value_that_it_knows(name: str) -> None:
    random = Random(1)  # noqa: S311  (the same each time)
    writer, reader = (pool_of(each).FindMessageTypeByName(name) for each in (TODAY, FORMER))
    found: set[str] = set()
    for _ in range(100):
        written = random_message(random, writer)
        read = GetMessageClass(reader).FromString(written.SerializeToString())
        assert has_kept(read, written), written
        found |= {field.name for field, _ in read.ListFields()}
    assert found == {field.name for field in reader.fields}
