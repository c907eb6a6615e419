"""Networks in stages: the native network, bit for bit, and weight files that fit or are refused."""

import os
import re

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from core.small import image_features, make_cell, train_data
from harness.backbones.staged import Normalize, tensor_digest
from harness.backbones.timm import TimmBackbone
from harness.backbones.torchvision import TorchvisionBackbone
from harness.contracts import body_blocks
from harness.errors import UnknownName, UsageError, WeightsError
from harness.plugins import load_strategy
from harness.trainer import fit

TV, TIMM = TorchvisionBackbone, TimmBackbone
FAMILIES = [
    TV("vgg11"), TV("resnet18"), TV("squeezenet1_1"), TV("mobilenet_v2"), TV("mobilenet_v3_small"),
    TV("efficientnet_b0"), TIMM("vgg11"), TIMM("resnet18"), TIMM("mobilenetv3_small_100"),
    TIMM("tf_efficientnet_lite0"),
]  # fmt: skip
CLASSES = 5


def build(backbone, weights="none", head="own", classes=CLASSES, seed=0):
    torch.manual_seed(seed)
    return backbone.build(str(weights), classes, head)


def native_like(backbone, staged):
    """The library's own network holding the staged one's tensors (not copies of them)."""
    with torch.device("meta"):
        if isinstance(backbone, TV):
            native = torchvision.models.get_model(backbone.model, num_classes=CLASSES)
        else:
            native = timm.create_model(backbone.model, num_classes=CLASSES)
    names, tensors = list(native.state_dict()), [t for _, t in staged.tensors()]
    native.load_state_dict(dict(zip(names, tensors, strict=True)), assign=True)
    return native.eval()


def patterned(backbone):
    """The network with tensors that are quick to make: initialising a VGG takes seconds."""
    with torch.device("meta"):
        staged = backbone.build("none", CLASSES, "own")
    staged.to_empty(device="cpu")
    staged.normalize = Normalize(staged.preprocess.mean, staged.preprocess.std)
    noise = torch.randn(100_003, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        for name, tensor in staged.tensors():
            values = noise.repeat(tensor.numel() // len(noise) + 1)[: tensor.numel()].view(tensor.shape)
            if tensor.dim() > 1:
                values *= (2 / tensor[0].numel()) ** 0.5
            elif "running_var" in name:
                values = values.abs() + 0.5
            else:
                values = 0.1 * values + ("weight" in name)
            tensor.copy_(values)
    return staged


def pixels(size, count=2):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("backbone", FAMILIES, ids=lambda b: b.name)
def test_the_fold_over_the_stages_is_the_native_network_wherever_it_is_cut(backbone):
    staged = patterned(backbone)
    staged.eval()
    native = native_like(backbone, staged)
    images = pixels(staged.preprocess.size, 1)
    stages = len(staged.stage_names)
    with torch.inference_mode():
        expected = native(staged.normalize(images))
        x, steps = images, []
        for index in range(stages):
            x = staged.section(index, index + 1)(x)
            steps.append(x)
        assert torch.equal(x, expected)
        middle = stages // 2
        assert torch.equal(staged.section(0, middle)(images), steps[middle - 1])
        assert torch.equal(staged.section(middle, stages)(steps[middle - 1]), expected)
    assert expected.shape == (1, CLASSES)
    assert expected.std() > 0

    roles = list(staged.roles.values())
    order = ("body", "neck", "classifier", "head")
    assert roles == sorted(roles, key=order.index) or "mobilenetv3" in backbone.model
    assert roles.count("head") == 1
    assert roles[-1] == "head"
    assert len(body_blocks(staged.describe())) >= 3
    assert staged.cuttable
    owned = [n for s in staged.describe() for p in s.parameters for n in [p.name]]
    assert sorted(owned) == sorted(n for n, _ in staged.parts.named_parameters())


@pytest.mark.parametrize(
    ("backbone", "names"),
    [
        (TV("vgg16"), [*(f"block{i}" for i in range(1, 6)), "pool", "fc6", "fc7", "head"]),
        (TV("vgg16_bn"), [*(f"block{i}" for i in range(1, 6)), "pool", "fc6", "fc7", "head"]),
        (TIMM("vgg16"), [*(f"block{i}" for i in range(1, 6)), "fc6", "fc7", "head"]),
        (TV("resnet50"), ["stem", "layer1", "layer2", "layer3", "layer4", "pool", "head"]),
        (TIMM("resnet50"), ["stem", "layer1", "layer2", "layer3", "layer4", "pool", "head"]),
    ],
    ids=lambda v: getattr(v, "name", None),
)
def test_names_of_stages(backbone, names):
    with torch.device("meta"):
        assert [s.name for s in backbone.build("none", 2, "own").describe()] == names


def test_vgg16_blocks_hold_the_convolutions_of_the_paper():
    with torch.device("meta"):
        stages = {s.name: s for s in TV("vgg16").build("none", 2, "own").describe()}
    convolutions = [sum(p.kind == "Conv2d" for p in stages[f"block{i}"].parameters) // 2 for i in range(1, 6)]
    assert convolutions == [2, 2, 3, 3, 3]
    assert [stages[f"block{i}"].numel for i in (1, 5)] == [38_720, 7_079_424]


def test_vgg_at_its_native_size_needs_no_adaptive_pooling():
    with torch.device("meta"):
        staged = TV("vgg11").build("none", 2, "own")
    assert not any(isinstance(m, torch.nn.AdaptiveAvgPool2d) for m in staged.modules())
    x = torch.randn(2, 8, 7, 7)
    assert torch.equal(torch.nn.AdaptiveAvgPool2d(7)(x), x)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # googlenet's initialisation
@pytest.mark.parametrize("name", ["densenet121", "googlenet"])
def test_a_network_that_is_not_known_in_stages_is_cut_and_trains(name):
    model = build(TV(name), classes=2)
    assert model.cuttable
    check_training(model, 64)


def test_a_network_that_cannot_be_cut_still_trains():
    model = build(TIMM("test_vit"), classes=2)
    assert not model.cuttable
    with pytest.raises(ValueError, match="can't be cut"):
        model.section(0, 1)
    check_training(model, 160)


def check_training(model, size):
    features, labels = image_features(4, size)
    before = {n: t.clone() for n, t in model.tensors()}
    cell = make_cell(model, load_strategy("full")[0], epochs=1, batch_size=4, lr=1e-3)
    (state,) = fit(cell, train_data(features, labels, range(4), range(4)))
    assert state.row["val_loss"] is not None
    moved = sum(not torch.equal(t, before[n]) for n, t in model.tensors())
    assert moved > 0.5 * len(before)


# --------------------------------------------------------------------------- preprocessing


def test_normalisation_is_torchvisions():
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    images = pixels(16)
    expected = torchvision.transforms.functional.normalize(images.float() / 255, mean, std)
    assert torch.equal(Normalize(mean, std)(images), expected)


def test_preprocessing_belongs_to_the_network():
    resnet = build(TV("squeezenet1_1")).preprocess
    assert (resnet.size, resnet.resize, resnet.interpolation) == (224, 256, "bilinear")
    assert resnet.mean == (0.485, 0.456, 0.406)
    lite = build(TIMM("tf_efficientnet_lite0")).preprocess
    assert (lite.size, lite.resize, lite.interpolation) == (224, 256, "bicubic")
    assert lite.mean == lite.std == (0.5, 0.5, 0.5)


# --------------------------------------------------------------------------- heads


@pytest.mark.parametrize(
    ("head", "sizes"),
    [("linear", [(576, 5)]), ("mlp[8,4]", [(576, 8), (8, 4), (4, 5)]), ("mlp[ 8 ]", [(576, 8), (8, 5)])],
)
def test_heads(head, sizes):
    model = build(TV("mobilenet_v3_small"), head=head).eval()
    layers = [m for m in model.parts["head"].modules() if isinstance(m, torch.nn.Linear)]
    assert [(m.in_features, m.out_features) for m in layers] == sizes
    assert "classifier" not in model.roles.values()
    with torch.inference_mode():
        assert model(pixels(224)).shape == (2, CLASSES)


def test_a_new_head_gets_a_pooled_map_where_the_network_has_no_neck():
    model = build(TV("squeezenet1_1"), head="linear")
    assert model.roles["pool"] == "neck"
    assert model.parts["head"][-1].in_features == 512


def test_the_own_head_keeps_the_kind_of_the_last_layer():
    last = build(TV("squeezenet1_1")).parts["head"][1]
    assert isinstance(last, torch.nn.Conv2d)
    assert last.out_channels == CLASSES


@pytest.mark.parametrize("head", ["", "mlp", "mlp[]", "mlp[0]", "mlp[8,]", "mlp[-1]", "own2", "Linear"])
def test_a_bad_head_is_named(head):
    with pytest.raises(UsageError, match=rf"unknown head '{re.escape(head)}'.*linear"):
        build(TV("squeezenet1_1"), head=head)


def test_the_head_is_drawn_from_torchs_generator():
    digests = [tensor_digest(build(TV("squeezenet1_1"), seed=s).tensors()) for s in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]


# --------------------------------------------------------------------------- weight files


@pytest.fixture(scope="module")
def native():
    torch.manual_seed(5)
    return torchvision.models.mobilenet_v3_small(weights=None).state_dict()


NET = TV("mobilenet_v3_small")


def features_of(native):
    return {k: v for k, v in native.items() if k.startswith("features.")}


def save(tensors, path, metadata=None):
    if path.suffix == ".safetensors":
        save_file({k: v.contiguous() for k, v in tensors.items()}, path, metadata)
    else:
        torch.save(tensors, path)
    return path


@pytest.mark.parametrize("name", ["net.safetensors", "net.pth", "net.pt"])
def test_a_complete_file_covers_all_but_the_new_head(native, tmp_path, name):
    model = build(NET, save(native, tmp_path / name))
    random = [s.name for s in model.describe() if not all(p.pretrained for p in s.parameters)]
    assert random == ["head"]
    tensors = [t for n, t in model.tensors() if not n.startswith("head.")]
    expected = [v for k, v in native.items() if not k.startswith("classifier.3.")]
    assert all(torch.equal(a, b) for a, b in zip(tensors, expected, strict=True))


def test_a_training_checkpoint_with_a_state_dict_inside_is_read(native, tmp_path):
    model = build(NET, save({"epoch": 3, "state_dict": dict(native)}, tmp_path / "net.pth"))
    assert len(model.pretrained) == len(native) - 2


def test_a_file_of_the_features_leaves_classifier_and_head_at_random(native, tmp_path):
    model = build(NET, save(features_of(native), tmp_path / "net.safetensors"))
    random = [s.name for s in model.describe() if not all(p.pretrained for p in s.parameters)]
    assert random == ["fc", "head"]
    assert torch.equal(model.parts["stage1"][0][0].weight, native["features.0.0.weight"])


def test_half_precision_is_widened(native, tmp_path):
    half = {k: v.half() if v.is_floating_point() else v for k, v in native.items()}
    model = build(NET, save(half, tmp_path / "net.safetensors"))
    weight = model.parts["stage1"][0][0].weight
    assert weight.dtype == torch.float32
    assert torch.equal(weight, native["features.0.0.weight"].half().float())


def test_the_same_tensors_in_another_file_are_the_same_network(native, tmp_path):
    one, two = (build(NET, save(native, tmp_path / n)) for n in ("one.safetensors", "two.pth"))
    assert tensor_digest(one.tensors()) == tensor_digest(two.tensors())


def refused(path, backbone=NET):
    with pytest.raises(WeightsError) as error:
        build(backbone, path)
    text = str(error.value)
    assert "\n" not in text
    assert path.name in text
    return text


def test_an_absent_file(tmp_path):
    assert "doesn't exist" in refused(tmp_path / "absent.safetensors")


@pytest.mark.parametrize("name", ["net.safetensors", "net.pth"])
@pytest.mark.parametrize("content", [b"", b"garbage" * 100, b"PK\x03\x04broken"])
def test_a_file_of_garbage(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert "can't read weight file" in refused(tmp_path / name)


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (os.mkdir, (str(self.marker),))


def test_code_in_a_pickle_is_not_run(tmp_path):
    marker = tmp_path / "was-here"
    path = tmp_path / "net.pth"
    torch.save({"features.0.0.weight": Evil(marker)}, path)
    assert "can't read weight file" in refused(path)
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists(), "the file was harmless"


def test_something_other_than_tensors(tmp_path):
    torch.save({"a": 1}, tmp_path / "net.pth")
    assert "holds no state dict" in refused(tmp_path / "net.pth")
    torch.save([torch.zeros(1)], tmp_path / "net.pth")
    assert "holds no state dict" in refused(tmp_path / "net.pth")


def test_a_key_of_the_body_that_is_missing(native, tmp_path):
    less = {k: v for k, v in native.items() if k != "features.4.block.0.0.weight"}
    assert "it lacks features.4.block.0.0.weight" in refused(save(less, tmp_path / "net.pth"))


def test_an_unknown_key(native, tmp_path):
    more = {**native, "features.99.weight": torch.zeros(1)}
    assert "unknown features.99.weight" in refused(save(more, tmp_path / "net.pth"))


def test_a_wrong_shape(native, tmp_path):
    other = {**native, "features.0.0.weight": torch.zeros(16, 3, 5, 5)}
    assert "other shapes in features.0.0.weight" in refused(save(other, tmp_path / "net.pth"))


def test_a_layer_that_is_covered_in_part(native, tmp_path):
    part = {k: v for k, v in native.items() if k != "classifier.0.bias"}
    assert "classifier.0" in refused(save(part, tmp_path / "net.pth"))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(native, tmp_path, value):
    broken = {**native, "features.0.1.running_var": torch.full((16,), value)}
    assert "features.0.1.running_var" in refused(save(broken, tmp_path / "net.pth"))


def test_weights_of_another_network_name_a_few_keys_and_their_number(native, tmp_path):
    text = refused(save(native, tmp_path / "net.pth"), TV("resnet18"))
    assert re.search(r"it lacks .*\(\d+ keys\)", text)
    assert len(text) < 500


def test_metadata_of_a_file_set_the_preprocessing(native, tmp_path):
    metadata = {"mean": "0.1,0.2,0.3", "std": "1,2,3", "input_size": "128", "crop_pct": "0.8",
                "interpolation": "bicubic"}  # fmt: skip
    found = build(NET, save(native, tmp_path / "net.safetensors", metadata)).preprocess
    assert (found.mean, found.std) == ((0.1, 0.2, 0.3), (1, 2, 3))
    assert (found.size, found.resize, found.interpolation) == (128, 160, "bicubic")


@pytest.mark.parametrize(
    "metadata", [{"mean": "0.1,0.2"}, {"std": "a,b,c"}, {"input_size": "big"}, {"interpolation": "nearest"}]
)
def test_malformed_metadata(native, tmp_path, metadata):
    assert "malformed metadata" in refused(save(native, tmp_path / "net.safetensors", metadata))


# --------------------------------------------------------------------------- downloads


@pytest.fixture
def downloads(tmp_path):
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def test_without_a_network_one_line_says_which_file_to_put_where(downloads):
    try:
        build(TV("squeezenet1_1"), "imagenet")
    except WeightsError as error:
        text = str(error)
        assert "\n" not in text
        assert "squeezenet1_1" in text
        assert f"'{downloads / 'squeezenet1_1-b8a52dc0.pth'}'" in text
        assert "https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth" in text
        assert "--weights" in text
        assert list(downloads.glob("*.pth")) == [], "a part of a file was left behind"
    else:
        pytest.skip("there is a network here: the download worked")


def test_a_file_that_is_there_already_is_used(downloads):
    torch.manual_seed(9)
    native = torchvision.models.squeezenet1_1(weights=None).state_dict()
    torch.save(native, downloads / "squeezenet1_1-b8a52dc0.pth")
    model = build(TV("squeezenet1_1"), "imagenet")
    assert torch.equal(model.parts["block1"][0].weight, native["features.0.weight"])
    assert model.pretrained


@pytest.mark.parametrize("backbone", [TV("squeezenet1_1"), TIMM("resnet18")], ids=lambda b: b.name)
def test_an_unknown_tag_lists_what_exists(backbone):
    with pytest.raises(UnknownName, match=r"NOT_A_TAG.*imagenet"):
        build(backbone, "NOT_A_TAG")
