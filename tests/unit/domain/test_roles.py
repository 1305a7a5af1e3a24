"""Roles: who may do what others may."""

from itertools import product

from services.domain.roles import Role

READERS = [Role.VIEWER, Role.RESPONDER, Role.EDITOR, Role.ADMIN]


def test_each_reader_may_do_what_those_before_it_may() -> None:
    permitted = [(held.value, needed.value) for held, needed in product(READERS, READERS) if held.permits(needed)]

    assert permitted == [
        ("viewer", "viewer"),
        *[("responder", needed) for needed in ("viewer", "responder")],
        *[("editor", needed) for needed in ("viewer", "responder", "editor")],
        *[("admin", needed) for needed in ("viewer", "responder", "editor", "admin")],
    ]


def test_ingest_and_service_stand_apart_but_administrators_may_ingest() -> None:
    apart = (Role.INGEST, Role.SERVICE)
    permitted = {
        (held, needed)
        for held, needed in product(Role, Role)
        if (held in apart or needed in apart) and held.permits(needed)
    }

    assert permitted == {
        (Role.INGEST, Role.INGEST),
        (Role.SERVICE, Role.SERVICE),
        (Role.ADMIN, Role.INGEST),
    }
