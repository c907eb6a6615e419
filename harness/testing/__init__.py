"""What a plugin must keep to, as tests that it runs on itself in one line each.

``check_strategy(MyStrategy())``, ``check_backbone(MyBackbone())`` and
``check_dataset(MyDataset(), path)`` raise AssertionError with what is wrong in words.
"""

from harness.testing.backbones import check_backbone
from harness.testing.datasets import check_dataset
from harness.testing.strategies import check_strategy

__all__ = ["check_backbone", "check_dataset", "check_strategy"]
