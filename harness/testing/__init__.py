"""What a plugin must keep to, as tests that it runs on itself in one line each.

``check_strategy(MyStrategy())``, ``check_backbone(MyBackbone())``, ``check_dataset(MyDataset(), path)`` and
``check_engine(MyEngine())`` raise AssertionError with what is wrong in words.
"""

from harness.testing.backbones import check_backbone
from harness.testing.datasets import check_dataset
from harness.testing.engines import check_engine
from harness.testing.strategies import check_strategy

__all__ = ["check_backbone", "check_dataset", "check_engine", "check_strategy"]
