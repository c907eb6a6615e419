"""The JSON schema for editors says what the parser says."""

from __future__ import annotations

import json
import tomllib
from dataclasses import fields
from importlib import resources

import jsonschema
import pytest

from harness.errors import HarnessError
from harness.spec import TrainSpec
from harness.suites import KEYS, builtin_file, builtin_suites, parse_suite
from harness.suites.expect import EXPECT_KEYS, SOURCE_KEYS
from suites.rows import HEAD

SCHEMA = json.loads((resources.files("harness.suites") / "suite.schema.json").read_text("utf-8"))


def keys(schema):
    assert schema["additionalProperties"] is False
    return set(schema["properties"])


def test_both_know_the_same_keys():
    top, row = SCHEMA["properties"], SCHEMA["properties"]["reference"]["items"]
    assert keys(SCHEMA) == set(KEYS[""])
    assert keys(row) == set(KEYS["reference"])
    assert keys(row["properties"]["per_class"]["items"]) == set(KEYS["per_class"])
    for part in ("data", "grid", "train"):
        assert keys(top[part]) == set(KEYS[part])
    assert set(KEYS["train"]) == {f.name for f in fields(TrainSpec)}
    assert keys(SCHEMA["$defs"]["expectation"]) == set(EXPECT_KEYS)
    assert keys(SCHEMA["$defs"]["source"]) == set(SOURCE_KEYS)


@pytest.mark.parametrize("name", builtin_suites())
def test_the_suites_of_the_program_fit(name):
    jsonschema.validate(tomllib.loads(builtin_file(name).read_text("utf-8")), SCHEMA)


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("", True),
        ('[[expect]]\naccuracy = [0.5, 1]\nsource = "run"', True),
        ('[[expect]]\naccuracy = ["majority", [0.5, 1]]\nsource = "run"', True),
        ('[[expect]]\nloss = [[0, 1], [2, 3]]\nsource = "run"', True),
        ("[[expect]]\ntrains = { head = [[1, 2, 1e-3]] }", True),
        ("[[expect]]\nnorms = []", True),
        ('[[expect]]\nstrategy = "full"\nerror = "x"', True),
        ("[[expect]]\naccuracy = [0.5, 1]", False),
        ('[[expect]]\nloss = ["majority"]\nsource = "run"', False),
        ('[[expect]]\naccuracy = [0.5]\nsource = "run"', False),
        ('[[expect]]\naccuracy = "majority"\nsource = "run"', False),
        ("[[expect]]\ntrains = { head = [[1, 2]] }", False),
        ("[[expect]]\ntrains = { head = [] }", False),
        ('[[expect]]\nerror = "x"', False),
        ("[[expect]]\nparameters = 1.5", False),
        ('[[expect]]\nacuracy = 1', False),
        ('[source.b]\ntext = "t"', False),
        ('[[reference]]\nsource = "x"\nstrategy = "a"\nlr = 1.0\naccuracy = 91.4', False),
    ],
)  # fmt: skip
def test_both_accept_and_refuse_the_same(text, valid):
    text = HEAD + text
    try:
        parse_suite(text, "f")
        parsed = True
    except HarnessError:
        parsed = False
    fits = jsonschema.Draft202012Validator(SCHEMA).is_valid(tomllib.loads(text))
    assert (parsed, fits) == (valid, valid)
