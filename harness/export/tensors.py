"""Networks as their tensors: a safetensors file, and a folder that the network's own library loads."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from harness.export import hf_folder
from harness.export.hf_folder import FILE
from harness.export.network import Compute, Network, in_own_shape


class SafeTensors:
    """Every tensor, bit for bit, under the name it has in the library's own network."""

    name = "safetensors"
    exact = True
    needs: tuple[str, ...] = ()

    def refusal(self, network: Network) -> str | None:
        """See :class:`~harness.export.network.Format`."""
        return None

    def write(self, network: Network, folder: Path, facts: Mapping[str, str]) -> None:
        """See :class:`~harness.export.network.Format`."""
        # One key: with several, safetensors writes them in an order that differs from run to run.
        save_file(network.tensors(), folder / FILE, {"harness": json.dumps(dict(facts))})

    def load(self, network: Network, folder: Path) -> Compute:
        """The network's layers with nothing but the file's tensors, in batches of the run's shape."""
        bare, tensors = copy.deepcopy(network.trained.model), load_file(folder / FILE)
        with torch.no_grad():
            for name, tensor in bare.tensors():
                tensor.copy_(tensors.pop(network.names()[name]))
        if tensors:
            raise ValueError(f"'{FILE}' holds a tensor that the network doesn't have: '{min(tensors)}'")
        return partial(in_own_shape, bare)

    def usage(self, network: Network) -> str:
        """See :class:`~harness.export.network.Format`."""
        if hf_folder.refusal(network) is None and not network.trained.model.adapters:
            return hf_folder.usage(network, folder=False)
        return f'''from safetensors.torch import load_file

tensors = load_file("{FILE}")
print({{name: tuple(tensor.shape) for name, tensor in tensors.items()}})'''


class Hub:
    """A folder as the Hugging Face Hub has them, which timm or torchvision builds the network from."""

    name = "hf"
    exact = False
    needs: tuple[str, ...] = ()

    def refusal(self, network: Network) -> str | None:
        """See :class:`~harness.export.network.Format`."""
        return hf_folder.refusal(network)

    def write(self, network: Network, folder: Path, facts: Mapping[str, str]) -> None:
        """See :class:`~harness.export.network.Format`."""
        hf_folder.write(network, folder)

    def load(self, network: Network, folder: Path) -> Compute:
        """See :class:`~harness.export.network.Format`."""
        return hf_folder.load(folder)

    def usage(self, network: Network) -> str:
        """See :class:`~harness.export.network.Format`."""
        return hf_folder.usage(network, folder=True)
