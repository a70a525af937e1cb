"""Nodes that the host tests install beside the pack: unusual pictures, and sinks that store their inputs."""

import copy
import logging
import tempfile
from pathlib import Path

import folder_paths
import numpy as np
import torch


class TestPicture:
    """A picture of the requested kind."""

    CATEGORY = "tests"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "make"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802 - the host's name
        kinds = ["gradient", "nan", "empty", "grey", "rgba", "pixel", "strip", "batch"]
        return {"required": {"kind": (kinds,)}}

    def make(self, kind):
        y = torch.linspace(0, 1, 40)[None, :, None, None]
        x = torch.linspace(0, 1, 56)[None, None, :, None]
        image = torch.cat([y.expand(1, 40, 56, 1), x.expand(1, 40, 56, 1), (x + y) / 2], dim=-1)
        if kind == "nan":
            image[0, 3, 4, 1] = float("nan")
        elif kind == "empty":
            image = image[:0]
        elif kind == "grey":
            image = image[..., :1]
        elif kind == "rgba":
            image = torch.cat([image, torch.ones_like(image[..., :1])], dim=-1)
        elif kind == "pixel":
            image = image[:, :1, :1]
        elif kind == "strip":
            image = image[:, :1]
        elif kind == "batch":
            image = torch.cat([image, image.flip(1), 1 - image])
        return (image,)


class TestPictureList:
    """Three pictures of different sizes, as a list."""

    CATEGORY = "tests"
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_IS_LIST = (True,)
    FUNCTION = "make"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802 - the host's name
        return {"required": {}}

    def make(self):
        (image,) = TestPicture().make("gradient")
        return ([image, image[:, :11, :23], image[:, ::2]],)


class TestList:
    """Two pictures as a list."""

    CATEGORY = "tests"
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_IS_LIST = (True,)
    FUNCTION = "make"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802 - the host's name
        return {"required": {"first": ("IMAGE",), "second": ("IMAGE",)}}

    def make(self, first, second):
        return ([first, second],)


class TestMask:
    """A mask of 40 x 56 pixels that is 1 in a rectangle."""

    CATEGORY = "tests"
    RETURN_TYPES = ("MASK",)
    FUNCTION = "make"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802 - the host's name
        sides = {side: ("INT", {"default": 0}) for side in ("top", "bottom", "left", "right")}
        return {"required": sides}

    def make(self, top, bottom, left, right):
        mask = torch.zeros(1, 40, 56)
        mask[:, top:bottom, left:right] = 1
        return (mask,)


class TestKeep:
    """Output node that writes a tensor to a file and returns its path."""

    CATEGORY = "tests"
    RETURN_TYPES = ()
    FUNCTION = "keep"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802 - the host's name
        return {"required": {"image": ("IMAGE",)}}

    def keep(self, image):
        # Of this host, so that the files go with its folder.
        folder = folder_paths.get_temp_directory()
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(suffix=".npy", delete=False, dir=folder) as file:
            np.save(file, image.float().cpu().numpy())
        return {"ui": {"array": [file.name]}}


class TestSink:
    """Output node that makes any connected node run."""

    CATEGORY = "tests"
    RETURN_TYPES = ()
    FUNCTION = "sink"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802 - the host's name
        return {"required": {"anything": ("*",)}}

    @classmethod
    def VALIDATE_INPUTS(cls, input_types):  # noqa: N802 - the host's name
        return True

    def sink(self, anything):
        return {"ui": {"type": [type(anything).__name__]}}


class TestBreakLatent:
    """A latent with NaN in it."""

    CATEGORY = "tests"
    RETURN_TYPES = ("LATENT",)
    FUNCTION = "spoil"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802 - the host's name
        return {"required": {"samples": ("LATENT",)}}

    def spoil(self, samples):
        return ({**samples, "samples": samples["samples"] * float("nan")},)


class TestKeepText:
    """Output node that writes the features of a conditioning to a file and returns its path."""

    CATEGORY = "tests"
    RETURN_TYPES = ()
    FUNCTION = "keep"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802 - the host's name
        return {"required": {"conditioning": ("CONDITIONING",)}}

    def keep(self, conditioning):
        return TestKeep().keep(conditioning[0][0])


class TestNarrowText:
    """A conditioning with half of the channels."""

    CATEGORY = "tests"
    RETURN_TYPES = ("CONDITIONING",)
    FUNCTION = "narrow"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802 - the host's name
        return {"required": {"conditioning": ("CONDITIONING",)}}

    def narrow(self, conditioning):
        features, extra = conditioning[0]
        return ([[features[..., : features.shape[-1] // 2], extra]],)


class TestText:
    """A random conditioning with padding, like that of a text encoder."""

    CATEGORY = "tests"
    RETURN_TYPES = ("CONDITIONING",)
    FUNCTION = "make"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802 - the host's name
        return {"required": {"channels": ("INT", {"max": 4096}), "seed": ("INT", {})}}

    def make(self, channels, seed):
        features = torch.randn(1, 5, channels, generator=torch.Generator().manual_seed(seed))
        mask = torch.tensor([[1, 1, 1, 1, 0]])
        return ([[features, {"pooled_output": None, "attention_mask": mask}]],)


class TestOffload:
    """Keeps a share of the weights off the device, as --novram (0) and --lowvram do.

    On a CPU the host always loads everything, so its own loading is told that there is less room.
    """

    CATEGORY = "tests"
    RETURN_TYPES = ("VARESTORER_MODEL", "VAE")
    FUNCTION = "limit"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802 - the host's name
        share = ("FLOAT", {"min": 0.0, "max": 1.0})
        return {"required": {"model": ("VARESTORER_MODEL",), "vae": ("VAE",), "share": share}}

    def limit(self, model, vae, share):
        vae = copy.copy(vae)
        vae.patcher = self._limited(vae.patcher, share)
        return (self._limited(model, share), vae)

    @staticmethod
    def _limited(patcher, share):
        patcher = patcher.clone()
        load = patcher.partially_load

        def partially_load(device, extra_memory=0, **options):
            patcher.detach()  # or weights that an earlier run loaded would stay
            # 0.1 is what the host passes where nothing fits; 0 would be no limit.
            result = load(device, max(share * patcher.model_size(), 0.1), **options)
            layers = [m for m in patcher.model.modules() if hasattr(m, "comfy_cast_weights")]
            behind = sum(hasattr(m, "prev_comfy_cast_weights") for m in layers)
            name = type(patcher.model).__name__
            logging.info(f"TestOffload: {name}, share {share}: {behind} of {len(layers)} stay")
            return result

        patcher.partially_load = partially_load
        return patcher


class TestWeights:
    """Logs the bytes of a model's weights by dtype."""

    CATEGORY = "tests"
    RETURN_TYPES = ("VARESTORER_MODEL",)
    FUNCTION = "count"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802 - the host's name
        return {"required": {"model": ("VARESTORER_MODEL",)}}

    def count(self, model):
        sizes = {}
        for name, weight in model.model.state_dict().items():
            kind = "matrices" if name.startswith("blocks.") and weight.ndim == 2 else "others"
            key = f"{kind} in {str(weight.dtype).removeprefix('torch.')}"
            sizes[key] = sizes.get(key, 0) + weight.nbytes
        logging.info(f"TestWeights: {sizes}, {model.model_size()} in all")
        return (model,)


class TestCompiled:
    """Logs which halves of a VAE were compiled, after a picture was made."""

    CATEGORY = "tests"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "look"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802 - the host's name
        return {"required": {"vae": ("VAE",), "image": ("IMAGE",)}}

    def look(self, vae, image):
        halves = {name: getattr(vae.tokenizer, name) for name in ("encoder", "decoder")}
        found = [n for n, half in halves.items() if "_varestorer_compiled" in half.__dict__]
        logging.info(f"TestCompiled: {found}")
        return (image,)


NODE_CLASS_MAPPINGS = {
    "TestCompiled": TestCompiled,
    "TestOffload": TestOffload,
    "TestWeights": TestWeights,
    "TestPicture": TestPicture,
    "TestPictureList": TestPictureList,
    "TestList": TestList,
    "TestMask": TestMask,
    "TestKeep": TestKeep,
    "TestSink": TestSink,
    "TestBreakLatent": TestBreakLatent,
    "TestKeepText": TestKeepText,
    "TestNarrowText": TestNarrowText,
    "TestText": TestText,
}
