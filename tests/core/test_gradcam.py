"""Grad-CAM against a calculation by hand, and where it reads."""

import builtins
import sys

import numpy as np
import pytest
import torch
from torch import nn

from core.small import PREPROCESS, SIZE, small_images, small_net
from harness.backbones.staged import Stage, StagedModel
from harness.errors import UsageError
from harness.gradcam import cam_layer, grad_cam, require_captum
from harness.plugins import load_backbone


@pytest.fixture
def captum():
    return pytest.importorskip("captum.attr")


def network(*stages, roles=("body", "head")):
    named = [Stage(f"stage{i}", module, roles[min(i, 1)]) for i, module in enumerate(stages)]
    return StagedModel(named, PREPROCESS)


def linear_map(weights):
    """Two channels of 2 x 2 that are means over quarters of the red and the green plane; a linear head."""
    conv = nn.Conv2d(3, 2, SIZE // 2, stride=SIZE // 2, bias=False)
    with torch.no_grad():
        conv.weight.zero_()
        for channel in range(2):
            conv.weight[channel, channel] = 1 / conv.weight[channel, channel].numel()
    head = nn.Sequential(nn.Flatten(), nn.Linear(8, 2, bias=False))
    with torch.no_grad():
        head[1].weight.copy_(torch.tensor(weights))
    return network(conv, head)


@pytest.mark.usefixtures("captum")
def test_it_is_what_one_calculates_by_hand():
    # Class 1 weighs the four places of red by 1, 2, 3, 6 (mean 3), those of green by -2 (mean -2).
    model = linear_map([[0.0] * 8, [1.0, 2.0, 3.0, 6.0, -2.0, -2.0, -2.0, -2.0]])
    image = torch.zeros(1, 3, SIZE, SIZE, dtype=torch.uint8)
    image[0, 0, : SIZE // 2] = 255  # red above
    image[0, 1, :, SIZE // 2 :] = 255  # green on the right
    # Normalised (x - 0.5) / 0.25: 2 where a colour is full, -2 where it is absent.
    red, green = np.array([[2, 2], [-2, -2]]), np.array([[-2, 2], [-2, 2]])
    wanted = np.maximum(3 * red - 2 * green, 0)
    found = grad_cam(model, cam_layer(model), image, [1])
    assert np.allclose(found[0], wanted, atol=1e-5)
    assert wanted.tolist() == [[10, 2], [0, 0]]
    assert not grad_cam(model, cam_layer(model), image, [0]).any()


def test_it_is_captum_s_own(captum):
    model = small_net(3).eval()
    images, _ = small_images(5)
    layer = cam_layer(model)
    assert (layer.stage, layer.takes_input) == ("block3", False)
    wanted = captum.LayerGradCam(model, model.parts["block3"]).attribute(
        images, target=[0, 1, 2, 1, 0], relu_attributions=True
    )
    found = grad_cam(model, layer, images, [0, 1, 2, 1, 0])
    assert found.shape == (5, 4, 4)
    assert torch.allclose(found, wanted[:, 0].detach(), atol=1e-6)


@pytest.mark.usefixtures("captum")
def test_a_map_doesn_t_depend_on_the_images_beside_it():
    model = small_net()
    images, _ = small_images(4)
    together = grad_cam(model, cam_layer(model), images, [0, 1, 1, 0])
    alone = [grad_cam(model, cam_layer(model), images[i : i + 1], [c]) for i, c in enumerate([0, 1, 1, 0])]
    assert torch.equal(together, torch.cat(alone))
    assert not model.training


@pytest.mark.usefixtures("captum")
def test_a_frozen_network_and_bfloat16():
    model = small_net().requires_grad_(False)
    images, _ = small_images(2)
    exact = grad_cam(model, cam_layer(model), images, [0, 1])
    rough = grad_cam(model, cam_layer(model), images, [0, 1], torch.bfloat16)
    assert exact.any()
    assert rough.dtype == torch.float32
    assert torch.allclose(rough, exact, atol=0.05 * float(exact.max()))


# --------------------------------------------------------------------------- where it reads


def conv(channels=3, out=4):
    return nn.Conv2d(channels, out, 3, 2, 1)


def test_what_goes_into_the_pooling_that_the_last_stage_ends_in():
    pool = nn.MaxPool2d(2)
    model = network(conv(), nn.Sequential(conv(4), nn.Sequential(nn.ReLU(), pool)), nn.Flatten())
    layer = cam_layer(model)
    assert (layer.stage, layer.module, layer.takes_input) == ("stage1", pool, True)


@pytest.mark.usefixtures("captum")
def test_the_input_of_a_pooling_is_read_before_it_pools():
    model = network(nn.Sequential(conv(), nn.ReLU(inplace=True), nn.MaxPool2d(2)), nn.Flatten())
    images, _ = small_images(1)
    assert grad_cam(model, cam_layer(model), images, [0]).shape == (1, SIZE // 2, SIZE // 2)


def test_flat_stages_are_passed_over():
    model = network(conv(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    assert cam_layer(model).stage == "stage0"


class Tokens(nn.Module):
    def forward(self, x):
        return x.flatten(2).transpose(1, 2)


class ChannelsLast(nn.Module):
    def forward(self, x):
        return x.permute(0, 2, 3, 1)


@pytest.mark.parametrize("last", [Tokens(), ChannelsLast()])
def test_what_is_no_map_of_height_and_width_is_refused(last):
    with pytest.raises(UsageError, match="transformers work on tokens"):
        cam_layer(network(conv(), last))


def test_a_transformer_is_refused():
    model = load_backbone("timm:test_vit").build("none", 2, "own")
    with pytest.raises(UsageError, match="isn't available"):
        cam_layer(model)


@pytest.mark.parametrize(
    ("name", "stage"),
    [("vgg_tiny", "block5"), ("resnet18", "layer4"), ("squeezenet1_1", "block4"),
     ("timm:efficientnet_lite0", "conv_head")],
)  # fmt: skip
def test_where_it_reads_in_networks_that_people_use(name, stage):
    layer = cam_layer(load_backbone(name).build("none", 2, "own"))
    assert (layer.stage, layer.takes_input) == (stage, stage == "block5")


# --------------------------------------------------------------------------- the extra


def test_without_captum_the_error_names_the_extra(monkeypatch):
    real = builtins.__import__

    def without(name, *arguments):
        if name.startswith("captum"):
            raise ImportError("No module named 'captum'")
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.delitem(sys.modules, "captum.attr", raising=False)
    with pytest.raises(UsageError, match=r"pip install 'transfer-harness\[explain\]'"):
        require_captum()


def test_it_isn_t_imported_before_it_is_needed():
    import subprocess

    code = "import sys, harness.gradcam, harness.commands.explain; sys.exit('captum' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
