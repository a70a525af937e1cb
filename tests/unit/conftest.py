"""A seed for every test, small random networks, the bundled model, and counting of memory."""

import gc
import signal
import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from varestorer_core.assets import TINY_TOKENIZER, TINY_TRANSFORMER, asset_path
from varestorer_core.checkpoint import load_tokenizer, load_transformer, read_checkpoint
from varestorer_core.config import TokenizerConfig, TransformerConfig
from varestorer_core.loaded import LoadedStages
from varestorer_core.models.tokenizer import VisualTokenizer
from varestorer_core.models.transformer import VARTransformer
from varestorer_core.restorer import Restorer


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _every_cpu_kernel(monkeypatch):
    """Run all kernels of the CPU layer, so that tests do not depend on which are faster on this machine."""
    monkeypatch.setenv("VARESTORER_CPU_KERNELS", "all")


@pytest.fixture
def make_transformer():
    """Return a factory of small transformers whose every parameter matters."""

    def make(**changes):
        settings = {
            "embed_dim": 32,
            "depth": 2,
            "num_heads": 2,
            "codebook_dim": 6,
            "text_channels": 16,
            "ffn_dim": 64,
            "text_rows": 8,
            "pixel_class": "0.06M",
        }
        model = VARTransformer(TransformerConfig(**{**settings, **changes})).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, 0.0, 0.15)
        return model.requires_grad_(False)

    return make


@pytest.fixture
def make_tokenizer():
    """Return a factory of small tokenizers."""

    def make(**changes):
        settings = {
            "codebook_dim": 6,
            "base_channels": 8,
            "channel_multipliers": (1, 1, 2, 2),
            "num_res_blocks": 1,
            "norm_groups": 2,
        }
        return (
            VisualTokenizer(TokenizerConfig(**{**settings, **changes})).eval().requires_grad_(False)
        )

    return make


@pytest.fixture(scope="session")
def bundled():
    """Return the restorer of the bundled model, which tests must not modify."""
    files = ((load_transformer, TINY_TRANSFORMER), (load_tokenizer, TINY_TOKENIZER))
    networks = (load(*read_checkpoint(asset_path(n)), name=n) for load, n in files)
    return Restorer(LoadedStages(*networks))


class PeakBytes(TorchDispatchMode):
    """Counts the bytes of all tensor memory that operations make or see while it is active.

    Also on the meta device, where nothing is computed and sizes are all the same those of a run.
    """

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._seen = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage):
        key = storage._cdata
        if key in self._seen:
            return
        size = storage.nbytes()
        self._seen[key] = weakref.finalize(storage, self._forget, key, size)
        self.now += size
        self.peak = max(self.peak, self.now)

    def _forget(self, key, size):
        self._seen.pop(key, None)
        self.now -= size


@pytest.fixture
def peak_bytes():
    """Return a function that returns the peak of tensor bytes during a call of its argument."""

    def peak_of(work):
        gc.collect()
        with PeakBytes() as counter:
            work()
        return counter.peak

    return peak_of


@pytest.fixture(scope="session")
def micro_run():
    """Return a factory of the settings of a distillation run on microscopic networks, whose tile is 32 pixels."""
    from varestorer_core.distill.run import STAGES, RunSettings
    from varestorer_core.distill.train_encoder import EncoderSettings
    from varestorer_core.distill.train_student import StudentSettings
    from varestorer_core.distill.train_teacher import TeacherSettings
    from varestorer_core.distill.train_tokenizer import TokenizerSettings

    def make(out, **changes):
        values = {
            "pictures": 4,
            "picture_size": 40,
            "validation_pictures": 2,
            "steps": dict.fromkeys(STAGES, 4),
            "tokenizer": TokenizerConfig(4, 8, (1, 2), num_res_blocks=1, norm_groups=1),
            "transformer": TransformerConfig(16, 1, 2, 4, 8, 16, text_rows=2, pixel_class="0.06M"),
            "tokenizer_settings": TokenizerSettings(batch=4),
            "teacher_settings": TeacherSettings(batch=2),
            "encoder_settings": EncoderSettings(batch=2),
            "student_settings": StudentSettings(batch=2, cross_entropy=1.0),
        }
        return RunSettings(out=out, **{**values, **changes})

    return make


@pytest.fixture
def networks(monkeypatch):
    """Replace the networks of `varestorer restore` by a stand-in, and return it."""
    from restore_command import StandIn

    from varestorer_core.cli import restore

    stand_in = StandIn()

    def load_models(files, **others):
        stand_in.loaded.append({"files": files, **others})
        return stand_in

    monkeypatch.setattr(restore, "load_models", load_models)
    return stand_in


@pytest.fixture
def deadline():
    """End a test that hangs, so that an endless loop does not stop the others."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def stop(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
