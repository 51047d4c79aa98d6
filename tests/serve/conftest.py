"""A guarded network in service on this machine."""

from __future__ import annotations

import pytest

from detrojan.guards.bundle import save_bundle
from guard_service import World, request, running, small_world


@pytest.fixture(scope="session")
def world() -> World:
    return small_world()


@pytest.fixture(scope="session")
def folder(world, tmp_path_factory):
    return save_bundle(world.guard, tmp_path_factory.mktemp("served") / "guard")


@pytest.fixture(scope="module")
def service(world):
    """One service with the default settings, for the tests of a file that leave it as it is."""
    with running(world.guard) as found:
        yield found


@pytest.fixture(scope="session")
def serving():
    return running


@pytest.fixture(scope="session")
def asking():
    return request
