from __future__ import annotations

import pytest

from detrojan.errors import DataError
from detrojan.jobs.fleet.results import fleet_in, read_record
from detrojan.report.records.fleet import FleetRecord


def test_a_record_that_is_none_is_refused(tmp_path):
    assert read_record(tmp_path / "fleet.json") is None
    for text in ("{", '{"schema": "detrojan.scan/2"}', "[]"):
        (tmp_path / "fleet.json").write_text(text)
        with pytest.raises(DataError, match="expected the record of a fleet"):
            read_record(tmp_path / "fleet.json")


def test_a_record_is_known_by_its_schema(tmp_path):
    path = tmp_path / "any.json"
    assert fleet_in(path) is None
    for text in ("{", "[]", '{"schema": "detrojan.scan/2"}'):
        path.write_text(text)
        assert fleet_in(path) is None
    path.write_text('{"schema": "detrojan.fleet/1", "models": 3}')
    with pytest.raises(DataError, match=r"expected the record of a fleet: .*models"):
        fleet_in(path)
    FleetRecord(version="1", policy="p", models=[], ignored=0, failing=[], exit_code=0).save(path)
    assert fleet_in(path).version == "1"
