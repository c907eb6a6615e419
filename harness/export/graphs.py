"""Networks as graphs that run without the harness, and without the libraries they come from."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from harness.export.network import ANSWER, INPUT, OUTPUT, Compute, Network, prepared


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Exporters tell of every step, and warn of what they do themselves; what fails they raise."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _traced(network: Network) -> torch.export.ExportedProgram:
    """The graph of the network for any number of images."""
    batch = {0: torch.export.Dim("batch", min=1)}
    program = torch.export.export(network.module, (network.example(),), dynamic_shapes=(batch,))
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)  # paths of this machine
    return program


class TorchExport:
    """``torch.export``'s own file: PyTorch alone loads it."""

    name, file = "torch-export", "model.pt2"
    exact = False
    needs: tuple[str, ...] = ()

    def refusal(self, network: Network) -> str | None:
        """See :class:`~harness.export.network.Format`."""
        return None

    def write(self, network: Network, folder: Path, facts: Mapping[str, str]) -> None:
        """See :class:`~harness.export.network.Format`."""
        with _quiet():
            torch.export.save(_traced(network), folder / self.file, extra_files=dict(facts))

    def load(self, network: Network, folder: Path) -> Compute:
        """See :class:`~harness.export.network.Format`."""
        with _quiet():
            return torch.export.load(folder / self.file).module()

    def usage(self, network: Network) -> str:
        """See :class:`~harness.export.network.Format`."""
        return f'''import torch
{prepared(network)}
network = torch.export.load("{self.file}").module()
with torch.no_grad():
    shares = network(images).softmax(1)
{ANSWER}'''


class Onnx:
    """ONNX, by torch's exporter; ONNX Runtime computes it."""

    name, file = "onnx", "model.onnx"
    exact = False
    needs: tuple[str, ...] = ("onnx", "onnxscript", "onnxruntime")

    def refusal(self, network: Network) -> str | None:
        """See :class:`~harness.export.network.Format`."""
        return None

    def write(self, network: Network, folder: Path, facts: Mapping[str, str]) -> None:
        """See :class:`~harness.export.network.Format`."""
        with _quiet():
            program = torch.onnx.export(
                _traced(network), dynamo=True, input_names=[INPUT], output_names=[OUTPUT], verbose=False
            )
            assert program is not None
            model = program.model
            for node in model.graph.all_nodes():
                node.metadata_props.clear()  # whence in torch each came, with paths of this machine
            model.metadata_props.update(facts)
            program.save(folder / self.file)

    def load(self, network: Network, folder: Path) -> Compute:
        """See :class:`~harness.export.network.Format`."""
        import onnx
        import onnxruntime

        onnx.checker.check_model(folder / self.file)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(
            folder / self.file, options, providers=["CPUExecutionProvider"]
        )

        def compute(images: torch.Tensor) -> torch.Tensor:
            (logits,) = session.run([OUTPUT], {INPUT: images.contiguous().numpy()})
            return torch.from_numpy(logits)

        return compute

    def usage(self, network: Network) -> str:
        """See :class:`~harness.export.network.Format`."""
        return f'''import onnxruntime
import torch
{prepared(network)}
session = onnxruntime.InferenceSession("{self.file}")
(logits,) = session.run(["{OUTPUT}"], {{"{INPUT}": images.numpy()}})
shares = torch.from_numpy(logits).softmax(1)
{ANSWER}'''
