"""The engine's own tests."""

from fresh_process import FreshProcess

from harness.testing import check_engine


def test_it_keeps_the_contract():
    check_engine(FreshProcess())
